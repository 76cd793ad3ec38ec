from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from spi_lightning.data.sampler import Draw, SamplerSettings, SingleHitSampler
from spi_lightning.data.seeds import hashed_seed
from spi_lightning.errors import SpiError
from tests.unit.data.test_seeds import splitmix64

ROWS = np.arange(1000, 1200)  # of a training set of which other folds hold the first 1000
LABELS = (np.arange(200) % 20 == 0).astype(np.int64)


def sampler(settings: SamplerSettings, seed: int = 1, fold: int = 0, rank: int = 0, world: int = 1) -> SingleHitSampler:
    return SingleHitSampler(ROWS, LABELS, settings, seed, fold, rank, world)


def rows(one: SingleHitSampler) -> np.ndarray:
    return np.concatenate([draw.rows for draw in one])


@pytest.mark.parametrize(("share", "expected"), [(0.02, 0.02), (0.05, 0.05), (0.5, 0.5), (None, 0.05)])
def test_single_hits_come_with_the_asked_chance(share: float | None, expected: float) -> None:
    drawn = rows(sampler(SamplerSettings(share, batches=500)))
    assert len(drawn) == 500 * 64
    assert set(drawn) == set(ROWS)
    singles = int(LABELS[drawn - 1000].sum())
    assert binomtest(singles, len(drawn), expected).pvalue > 1e-4


def test_draws_are_independent_of_one_another() -> None:
    """The number of single hits in a batch is binomial: neither fixed nor clustered."""
    one = sampler(SamplerSettings(0.05, batches=2000))
    counts = np.array([LABELS[draw.rows - 1000].sum() for draw in one])
    expected = 64 * 0.05 * 0.95
    assert abs(counts.var() / expected - 1) < 5 * np.sqrt(2 / 2000)  # five standard errors


@pytest.mark.parametrize("share", [0.3, None])
def test_patterns_of_a_class_are_drawn_alike(share: float | None) -> None:
    drawn = rows(sampler(SamplerSettings(share, batches=600))) - 1000
    for label in (0, 1):
        times = np.bincount(drawn[LABELS[drawn] == label], minlength=200)[label == LABELS]
        assert chisquare(times).pvalue > 1e-4


def test_seed_fold_epoch_and_step_each_change_what_is_drawn() -> None:
    settings = SamplerSettings()

    def draw(seed: int, fold: int, epoch: int, step: int) -> Draw:
        one = sampler(settings, seed, fold)
        one.go_to(epoch, step)
        return next(iter(one))

    draws = [draw(seed, fold, epoch, step) for seed in (0, 1) for fold in (0, 1) for epoch in (0, 1) for step in (0, 1)]
    assert len({tuple(draw.rows) for draw in draws}) == 16
    assert len({draw.seed for draw in draws}) == 16
    assert all(0 <= draw.seed < 2**63 for draw in draws)
    again = draw(1, 1, 1, 1)
    assert (tuple(again.rows), again.seed) == (tuple(draws[-1].rows), draws[-1].seed)


@given(world=st.sampled_from([1, 2, 4, 8, 64]), epoch=st.integers(0, 1000), share=st.sampled_from([0.1, None]))
def test_the_ranks_together_draw_what_one_process_draws(world: int, epoch: int, share: float | None) -> None:
    settings = SamplerSettings(share)
    whole = sampler(settings)
    parts = [sampler(settings, rank=rank, world=world) for rank in range(world)]
    assert torch.equal(torch.cat([part.rows_of(epoch) for part in parts], 1), whole.rows_of(epoch))
    assert len({seed for part in parts for seed in part.seeds_of(epoch)}) == world * 50
    assert parts[0].seeds_of(epoch) == whole.seeds_of(epoch)


@pytest.mark.parametrize("share", [0.3, None])
def test_rows_are_those_of_plain_integers(share: float | None) -> None:
    """Two words a place: the first one decides between the classes, the second one among the patterns."""
    settings = SamplerSettings(share, batch_size=4, batches=3)
    words = splitmix64(hashed_seed(1, 0, 7, 0, 1), 2 * 4 * 3)
    singles, others = ROWS[LABELS == 1], ROWS[LABELS == 0]
    expected = []
    for which, place in zip(words[::2], words[1::2], strict=True):
        among = ROWS if share is None else singles if (which >> 11) / 2**53 < share else others
        expected.append(among[(place >> 1) % len(among)])
    assert sampler(settings).rows_of(7).flatten().tolist() == expected


def test_batches_do_not_depend_on_how_many_an_epoch_has() -> None:
    short, long = (sampler(SamplerSettings(batches=batches)).rows_of(2) for batches in (5, 50))
    assert torch.equal(short, long[:5])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_gpu_draws_the_same() -> None:
    on_gpu = SingleHitSampler(ROWS, LABELS, SamplerSettings(), 1, 0, device="cuda")
    assert torch.equal(on_gpu.rows_of(3).cpu(), sampler(SamplerSettings()).rows_of(3))


def test_an_epoch_can_be_entered_anywhere() -> None:
    one = sampler(SamplerSettings(batches=5))
    assert len(one) == 5
    whole = [draw.rows.tolist() for draw in one]
    one.set_epoch(0)
    assert [draw.rows.tolist() for draw in one] == whole
    one.set_epoch(3)
    third = [draw.rows.tolist() for draw in one]
    assert third != whole
    one.go_to(3, 2)
    one.set_epoch(3)  # as Lightning does after a resume
    assert [draw.rows.tolist() for draw in one] == third[2:]
    assert len(one) == 5
    one.go_to(2, 5)
    assert [draw.rows.tolist() for draw in one] == third
    one.set_epoch(0)
    assert [draw.rows.tolist() for draw in one] == whole


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(SpiError, match="64, which 3 devices cannot share evenly"):
        sampler(SamplerSettings(), world=3)
    with pytest.raises(SpiError, match=r"0 are single hits.*sampler.single_share=null"):
        SingleHitSampler(ROWS, np.zeros(200), SamplerSettings(), 1, 0)
    with pytest.raises(SpiError, match="200 are single hits"):
        SingleHitSampler(ROWS, np.ones(200), SamplerSettings(), 1, 0)
    assert len(rows(SingleHitSampler(ROWS, np.ones(200), SamplerSettings(None), 1, 0))) == 3200


@pytest.mark.parametrize(
    "wrong", [{"single_share": 0.0}, {"single_share": 1.0}, {"single_share": 2.0}, {"batch_size": 0}, {"batches": 0}]
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(SpiError, match=f"sampler.{next(iter(wrong))} is"):
        SamplerSettings(**wrong)  # type: ignore[arg-type]
