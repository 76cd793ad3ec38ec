from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spi_lightning.errors import SpiError
from spi_lightning.selection.step import Step, Verdict
from spi_lightning.selection.steps.em import EM
from spi_lightning.selection.steps.fidelity import Fidelity
from spi_lightning.selection.steps.fluence import Fluence
from spi_lightning.selection.steps.labelled import Labelled
from spi_lightning.selection.steps.listed import Listed
from spi_lightning.selection.steps.photons import Photons
from spi_lightning.selection.steps.size import Size
from spi_lightning.selection.steps.threshold import Threshold
from tests.unit.selection.known import context, findings

ALL = np.arange(8)


def kept(step: Step, patterns: np.ndarray = ALL) -> list[int]:
    return patterns[step.verdict(patterns, context()).reason == 0].tolist()


def why(verdict: Verdict) -> list[str]:
    return [verdict.reasons[place] for place in verdict.reason.tolist()]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Threshold(), [0, 1, 2, 3]),
        (Threshold("fixed", 0.7), [0, 1, 2]),
        (Threshold("precision", 1.0), [0, 1]),
        (Threshold("recall", 1.0), [0, 1, 2, 3]),
        (Threshold("max_f1"), [0, 1, 2, 3]),
        (Threshold(scores="other"), [3, 4, 5, 6, 7]),  # its own threshold is 0.3
        (Threshold("fixed", 0.65, scores="other"), [5, 6, 7]),
        (Labelled(), [0, 1, 3, 7]),
        (Size(), [0, 1, 4, 5, 7]),
        (Size(60.0, None), [0, 1, 2, 5, 7]),
        (Size(None, 60.0), [0, 4]),
        (Fidelity(), [0, 2, 4, 5, 6, 7]),
        (Photons(), [0, 2, 4, 5, 7]),
        (Photons(None, 1000.0), [1, 3, 4, 6]),
        (Fluence(0.5, 1.5), [2, 4, 5, 6]),  # known: 1, 2, 3, 5, 6, 7, 8; the median is 5
        (EM(), [0, 4, 5, 6, 7]),
        (EM(classes=(1,)), [1, 2]),
        (EM(agreement=0.5, classes=(0, 1)), [0, 2, 6, 7]),
    ],
)
def test_a_step_keeps_what_it_says(step: Step, expected: list[int]) -> None:
    assert kept(step) == expected
    # What is kept depends on the pattern, not on its company, but where a median or EM does.
    if not isinstance(step, Fluence):
        assert kept(step, ALL[2:6]) == [place for place in expected if 2 <= place < 6]


def test_every_dropped_pattern_has_its_reason() -> None:
    assert why(Size().verdict(ALL, context())) == [
        *("", "", "size above 84 nm", "no signal", "", "", "size at the end of the grid", "")
    ]
    assert why(Threshold().verdict(ALL[5:], context())) == ["score below 0.5", "score below 0.5", "not scored"]
    assert why(Labelled().verdict(ALL[4:], context())) == [
        *("labelled as no single hit", "labelled as no single hit", "without a label", "")
    ]
    em = EM(agreement=0.5).verdict(ALL, context())
    assert why(em)[1:4] == [*["in an EM class that is not one of single hits"] * 2, "no photons in the range of EM"]
    assert em.what == "EM classes 0, 2 of 3"


def test_the_fluence_of_the_fit_is_relative_to_the_median_of_those_that_come() -> None:
    verdict = Fluence(1.0, None).verdict(ALL[:3], context())  # 1, 2, 3

    assert (verdict.reason == 0).tolist() == [False, True, True]
    assert verdict.what == "relative fluence at least 1"


def test_a_list_of_another_program_is_read_as_labels_are(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("run1:2\nrun1:7\n")

    assert kept(Listed(str(tmp_path / "mine.txt"))) == [2, 7]
    with pytest.raises(SpiError, match=r"steps\.listed\.path"):
        kept(Listed())


@pytest.mark.parametrize(
    ("step", "change", "said"),
    [
        (Threshold(), {"threshold": None}, "no threshold of their own"),
        (Threshold("precision", 0.9), {}, "no scored pattern is labelled"),
        (Threshold(scores="elsewhere"), {}, "scores of other patterns"),
        (Labelled(), {"labels": None}, "no pattern of this run has a label"),
        (Labelled(), {"labels": np.full(8, -1, np.int8)}, "no pattern of this run has a label"),
        (Size(), {"sizes": None}, r"callbacks\.size is off"),
        (Fidelity(), {"sizes": None}, r"callbacks\.size is off"),
        (EM(), {}, "EM is off"),
    ],
)
def test_what_a_step_lacks_is_said(step: Step, change: dict, said: str) -> None:
    known = findings()
    for name, value in change.items():
        setattr(known, name, value)
    lacking = context(known)
    lacking.unseen, lacking.classify = None, None
    with pytest.raises(SpiError, match=said):
        step.verdict(ALL, lacking)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Threshold(None, 0.5), "rule is null"),
        (lambda: Threshold("max_f1", 0.5), "null where"),
        (lambda: Threshold("recall", 0.5, "other"), "own scores"),
        (lambda: Size(None, None), "both null"),
        (lambda: Size(84.0, 55.0), "above largest"),
        (lambda: Size(-1.0, 55.0), "at least 0"),
        (lambda: Photons(float("nan")), "at least 0"),
        (lambda: Fidelity(0.5), "1 or more"),
        (lambda: EM(agreement=2.0), "from 0 to 1"),
        (lambda: EM(classes=(-1,)), "from 0 on"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, said: str) -> None:
    with pytest.raises(SpiError, match=said):
        make()


def test_the_empty_selection_passes_through_every_step() -> None:
    nothing = np.empty(0, np.int64)
    for step in (Threshold(), Labelled(), Size(), Fidelity(), Photons(), Fluence(), EM()):
        assert len(step.verdict(nothing, context()).reason) == 0
