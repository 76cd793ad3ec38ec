from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from spi_lightning.callbacks.em import ExpectationMaximisation
from spi_lightning.callbacks.psd import PowerSpectralDensity
from spi_lightning.config.compose import composed
from spi_lightning.config.downstream import callbacks_of, check_downstream, plans_of
from spi_lightning.config.launch import conf_folder
from spi_lightning.config.select_schema import SelectConfig
from spi_lightning.errors import SpiError
from spi_lightning.selection.steps.size import Size
from spi_lightning.selection.steps.threshold import Threshold

STEPS = {
    "threshold": {"_target_": "spi_lightning.selection.steps.threshold.Threshold"},
    "size": {"_target_": "spi_lightning.selection.steps.size.Size", "smallest": 50.0},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What looks like a scored run from afar."""
    (tmp_path / "scores.h5").touch()
    return tmp_path


def config(run: Path, *overrides: str) -> SelectConfig:
    return composed("select", conf_folder(), SelectConfig, [f"run={run}", *overrides])


def test_steps_have_the_common_values_or_their_own() -> None:
    plans = plans_of({"a": ("threshold", {"size": {"largest": 70.0}}), "left out": None, "b": ("size",)}, STEPS)

    assert plans == {"a": [("threshold", Threshold()), ("size", Size(50.0, 70.0))], "b": [("size", Size(50.0, 84.0))]}


@pytest.mark.parametrize(
    ("selections", "said"),
    [
        ({"a + b": ("size",), "A b": ("size",)}, "'a \\+ b' and 'A b' would be written to the same files"),
        ({"a": ("sise",)}, r"selections\.a: there is no step 'sise'. Did you mean 'size'"),
        ({"a": ()}, r"selections\.a has no steps"),
        ({"a": (3,)}, r"selections\.a: found 3; a step is given by its name"),
        ({"a": ({"size": {}, "threshold": {}},)}, "a step is given by its name"),
        ({"a": ({"size": 55},)}, "a step is given by its name"),
        ({"a": ({"size": {"smalest": 3}},)}, r"selections\.a\.size\.smalest.*Did you mean 'smallest'"),
        ({"a": ({"size": {"smallest": "big"}},)}, r"selections\.a\.size\.smallest: found 'big'"),
        ({"a": ({"size": {"smallest": 90.0}},)}, r"selections\.a\.size: smallest is 90, above largest"),
        ({"a": ({"size": {"_target_": "os.system"}},)}, "not on the list"),
    ],
)
def test_what_is_wrong_with_a_selection_is_said(selections: dict[str, Any], said: str) -> None:
    with pytest.raises(SpiError, match=said):
        check_downstream({}, STEPS, selections)


def test_a_callback_can_be_nothing_else() -> None:
    for target in ("os.system", "spi_lightning.callbacks.stage.Stage", "spi_lightning.models.small_cnn.SmallCNN"):
        with pytest.raises(SpiError, match="not on the list"):
            check_downstream({"mine": {"_target_": target}}, {}, {})


def test_the_shipped_config_makes_every_callback_and_the_default_selections(run: Path) -> None:
    whole = config(run)
    made = callbacks_of(whole.callbacks)

    assert [type(each).__name__ for each in made] == [
        *("PowerSpectralDensity", "ParticleSize", "ExpectationMaximisation", "Overlap", "Examples")
    ]
    assert made[1].wanted == (55.0, 84.0)
    assert list(plans_of(whole.selections, whole.steps)) == [
        *("singles", "singles + EM", "singles + size", "singles + EM + size", "labelled")
    ]


def test_defaults_in_the_code_are_those_of_the_shipped_config() -> None:
    """What a config of one's own leaves out means the same as leaving it as shipped."""
    for name, callback in (("psd", PowerSpectralDensity), ("em", ExpectationMaximisation)):
        block = yaml.safe_load((conf_folder() / f"callbacks/{name}.yaml").read_text())[name]
        whole = callbacks_of({name: block})[0]
        for key in {"psd": ("fringes",), "em": ("em", "choice")}[name]:
            assert callbacks_of({name: {**block, key: {}}})[0].__dict__[key] == whole.__dict__[key], (name, key)
        assert isinstance(whole, callback)


def test_callbacks_and_selections_can_be_switched_off_and_changed(run: Path) -> None:
    changed = config(
        run, "callbacks.em=null", "steps.size.smallest=40", "+selections.mine=[size]", "selections.labelled=null"
    )

    assert len(callbacks_of(changed.callbacks)) == 4
    plans = plans_of(changed.selections, changed.steps)
    assert plans["mine"] == [("size", Size(40.0, 84.0))]
    assert "labelled" not in plans
    assert callbacks_of(config(run, "callbacks=none").callbacks) == []


def test_the_papers_selections_ask_for_the_other_run(run: Path) -> None:
    with pytest.raises(SpiError, match="moresh: this value must be given"):
        config(run, "selections=paper")
    plans = plans_of((whole := config(run, "selections=paper", "moresh=there")).selections, whole.steps)

    assert len(plans) == 10
    assert plans["moreSH"] == [("threshold", Threshold(scores="there"))]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("callbacks.em.em.clases=3", r"callbacks\.em\.em\.clases: there is no such key"),
        ("callbacks.em.em.classes=0", "classes.*1 or more"),
        ("callbacks.size.fit.smallest=300", "smallest"),
        ("callbacks.emm=null", r"callbacks\.emm.*Did you mean 'em'"),
        ("callbacks.psd.fringes.pairing=both", "pairing"),
        ("steps.size.smallest=null steps.size.largest=null", "both null"),
        ("device=3", "device"),
        ("callbacks.overlap.joint=[[a,b]]", "three or more"),
        ("callbacks.em.q_range=[0.5,0.1]", "q_range.*from a lower to a higher"),
        ("run=nowhere", r"no scores\.h5"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(run: Path, override: str, said: str) -> None:
    with pytest.raises(SpiError, match=said):
        config(run, *override.split(" "))
