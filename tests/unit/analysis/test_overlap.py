from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from spi_lightning.analysis.overlap import intersections, iou, joint

# Table 5 of Assalauova et al. (2022): patterns of two selections, in common, and intersection over union in per cent.
TABLE_5 = [
    (1098, 829, 829, 75),
    (1098, 1617, 1097, 68),
    (1098, 1090, 878, 67),
    (1098, 1393, 875, 54),
    (1098, 1085, 575, 36),
    (829, 1617, 829, 51),
    (829, 1090, 730, 61),
    (829, 1393, 678, 44),
    (829, 1085, 485, 34),
    (1617, 1090, 1090, 67),
    (1617, 1393, 1006, 50),
    (1617, 1085, 686, 34),
    (1090, 1393, 791, 47),
    (1090, 1085, 651, 43),
    (1393, 1085, 574, 30),
]


@st.composite
def selections(draw: st.DrawFn, least: int = 1) -> torch.Tensor:
    count, patterns = draw(st.integers(least, 5)), draw(st.integers(0, 30))
    rows = st.lists(st.booleans(), min_size=patterns, max_size=patterns)
    drawn = [draw(rows) for _ in range(count)]
    return torch.tensor(drawn, dtype=torch.bool).reshape(count, patterns)


@pytest.mark.parametrize(("first", "second", "common", "percent"), TABLE_5)
def test_the_papers_counts_give_the_papers_percentages(first: int, second: int, common: int, percent: int) -> None:
    pattern = torch.arange(first + second - common)
    memberships = torch.stack([pattern < first, pattern >= first - common])
    assert intersections(memberships).tolist() == [[first, common], [common, second]]
    # 829/1098 = 75.501 % is given as 75; all others are rounded.
    assert abs(100 * float(iou(memberships)[0, 1]) - percent) < 0.502
    assert joint(memberships) == (common, float(iou(memberships)[0, 1]))


@given(selections())
def test_they_are_those_of_sets(memberships: torch.Tensor) -> None:
    sets = [set(row.nonzero().flatten().tolist()) for row in memberships]
    common, ratio = intersections(memberships), iou(memberships)
    assert common.dtype == torch.int64
    assert ratio.dtype == torch.float64
    for i, one in enumerate(sets):
        for j, other in enumerate(sets):
            assert common[i, j] == len(one & other)
            if one | other:
                assert ratio[i, j] == len(one & other) / len(one | other)
            else:
                assert math.isnan(ratio[i, j])


@given(selections())
def test_the_matrix_is_symmetric_bounded_and_one_with_itself(memberships: torch.Tensor) -> None:
    ratio = iou(memberships)
    assert torch.equal(ratio.nan_to_num(-1), ratio.T.nan_to_num(-1))
    known = ratio[~ratio.isnan()]
    assert ((known >= 0) & (known <= 1)).all()
    assert torch.equal(ratio.diagonal().isnan(), ~memberships.any(1))
    assert (ratio.diagonal()[memberships.any(1)] == 1).all()


@given(selections(least=2))
def test_of_several_it_is_what_all_share_over_what_any_has(memberships: torch.Tensor) -> None:
    sets = [set(row.nonzero().flatten().tolist()) for row in memberships]
    common, ratio = joint(memberships)
    together = set.union(*sets)
    assert common == len(set.intersection(*sets))
    assert ratio == common / len(together) if together else math.isnan(ratio)


def test_it_agrees_with_scikit_learn() -> None:
    flags = np.random.default_rng(3).random((4, 500)) < [[0.1], [0.5], [0.5], [0.9]]
    ratio = iou(torch.from_numpy(flags))
    expected = [[jaccard_score(one, other) for other in flags] for one in flags]
    assert np.allclose(ratio.numpy(), expected, rtol=1e-14)


def test_what_is_no_table_of_flags_is_refused() -> None:
    with pytest.raises(ValueError, match="must be bool"):
        iou(torch.ones(2, 3))
    with pytest.raises(ValueError, match="2 or more rows"):
        joint(torch.ones(1, 3, dtype=torch.bool))
