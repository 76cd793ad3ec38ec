from __future__ import annotations

from dataclasses import dataclass

import pytest

from spi_lightning.config.check import checked, fields_at
from spi_lightning.errors import SpiError


@dataclass(frozen=True)
class Inner:
    rate: float
    shape: tuple[int, int]
    note: str | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    many: dict[str, Inner]


GOOD = {"name": "a", "inner": {"rate": 1, "shape": [2, 3]}, "many": {"x": {"rate": 0.5, "shape": [1, 1]}}}


def changed(**changes: object) -> dict:
    return {**GOOD, **changes}


def test_a_good_block_becomes_the_dataclass() -> None:
    outer = checked(Outer, GOOD)
    assert outer.inner == Inner(1.0, (2, 3))
    assert outer.many["x"].shape == (1, 1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (changed(nam="b"), ["nam: there is no such key", "Did you mean 'name'?"]),
        (
            changed(inner={"rate": 1, "shape": [2, 3], "nota": ""}),
            ["inner.nota", "Did you mean 'note'?", "rate, shape"],
        ),
        (
            changed(many={"x": {"raet": 1, "shape": [1, 1]}}),
            ["many.x.raet", "'rate'", "many.x.rate: this key is missing"],
        ),
        (changed(name=5), ["name: found 5 (int)"]),
        (changed(inner={"rate": "fast", "shape": [2, 3]}), ["inner.rate: found 'fast' (str)"]),
        (changed(inner={"rate": True, "shape": [2, 3]}), ["inner.rate: found True"]),
        (changed(inner={"rate": 1, "shape": [2.5, 3]}), ["inner.shape.0: found 2.5"]),
        (changed(inner={"rate": 1, "shape": [2, 3, 4]}), ["inner.shape"]),
        (changed(inner=None), ["inner: found None"]),
        ({"name": "a"}, ["inner: this key is missing", "many: this key is missing"]),
    ],
)
def test_a_mistake_is_told_with_its_key_and_the_nearest_name(values: dict, words: list[str]) -> None:
    with pytest.raises(SpiError) as caught:
        checked(Outer, values)
    for word in words:
        assert word in str(caught.value)


def test_the_place_in_a_larger_config_is_part_of_the_key() -> None:
    with pytest.raises(SpiError, match=r"^data\.inner\.rate: found 'x'"):
        checked(Outer, changed(inner={"rate": "x", "shape": [1, 1]}), "data")


def test_fields_can_be_looked_up_by_path() -> None:
    assert fields_at(Outer, ()) == ["name", "inner", "many"]
    assert fields_at(Outer, ("many", "anything")) == ["rate", "shape", "note"]
    assert fields_at(Outer, ("name",)) == []
