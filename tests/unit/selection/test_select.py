from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spi_lightning.selection.select import candidates, select, select_all
from spi_lightning.selection.steps.em import EM
from spi_lightning.selection.steps.fidelity import Fidelity
from spi_lightning.selection.steps.labelled import Labelled
from spi_lightning.selection.steps.photons import Photons
from spi_lightning.selection.steps.size import Size
from spi_lightning.selection.steps.threshold import Threshold
from tests.unit.selection.known import context, findings

STEPS = {"threshold": Threshold(), "labelled": Labelled(), "size": Size(), "fidelity": Fidelity(), "photons": Photons()}


def test_steps_count_what_they_keep_and_say_why_the_others_went() -> None:
    made = select("mine", [("threshold", Threshold()), ("em", EM()), ("size", Size())], context())

    assert made.kept.tolist() == [0]
    assert [(step.name, step.before, step.after) for step in made.steps] == [
        *[("threshold", 8, 4), ("em", 4, 1), ("size", 1, 1)]
    ]
    assert [made.reasons[place] for place in made.reason.tolist()] == [
        "",
        "in an EM class that is not one of single hits",
        "in an EM class that is not one of single hits",
        "no photons in the range of EM",
        *["score below 0.5"] * 3,
        "not scored",
    ]
    assert [made.step_of[place] for place in made.reason.tolist()] == [-1, 1, 1, 1, 0, 0, 0, 0]
    assert made.classes == 0


@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=5))
def test_steps_that_look_at_single_patterns_can_be_taken_in_any_order(names: list[str]) -> None:
    made = [select("x", [(name, STEPS[name]) for name in order], context()) for order in (names, names[::-1])]

    assert made[0].kept.tolist() == made[1].kept.tolist()
    assert np.array_equal(made[0].reason == 0, np.isin(np.arange(8), made[0].kept))
    for one in made:
        assert [step.before for step in one.steps[1:]] == [step.after for step in one.steps[:-1]]
        assert one.steps[-1].after == len(one.kept)


def test_only_those_that_come_to_a_look_are_looked_at() -> None:
    plans = {
        "a": [("threshold", Threshold("fixed", 0.85)), ("size", Size())],
        "b": [("labelled", Labelled()), ("size", Size()), ("threshold", Threshold("fixed", 0.99))],
        "never": [("threshold", Threshold(scores="elsewhere"))],
    }
    assert candidates(plans, context()).tolist() == [0, 1, 3, 7]
    assert candidates({"all": [("size", Size())]}, context()).tolist() == list(range(8))


def test_one_selection_that_cannot_be_made_leaves_the_others() -> None:
    known = findings()
    known.sizes = None
    plans = {
        "without sizes": [("threshold", Threshold()), ("size", Size())],
        "empty": [("photons", Photons(1e9))],
        "singles": [("threshold", Threshold())],
    }
    select_all(plans, context(known))

    assert list(known.selections) == ["empty", "singles"]
    assert len(known.selections["singles"].kept) == 4
    assert "'without sizes' is left out: step size: sizes are not known" in known.notes[0]
    assert "'empty' is empty: step photons (photons at least 1e+09) dropped all 8 patterns" in known.notes[1]
