"""What holds for both pipelines, whatever they draw."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spi_lightning.augmentation.batched import BatchedPipeline
from spi_lightning.augmentation.pipeline import NoAugmentation, Pipeline
from spi_lightning.augmentation.settings import Transforms
from spi_lightning.augmentation.with_batchgenerators import BatchgeneratorsPipeline
from tests.unit.augmentation.alone import NAMES, always, only

ZERO = -0.146
SHAPE = (36, 24)
BOTH = pytest.mark.parametrize("kind", [BatchedPipeline, BatchgeneratorsPipeline])


def patterns(n: int, shape: tuple[int, int] = SHAPE) -> torch.Tensor:
    counts = np.random.default_rng(5).poisson(0.5, (n, 1, *shape)).astype(np.float32)
    return torch.from_numpy(counts / 2.3) + ZERO


def good(shape: tuple[int, int] = SHAPE) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.bool)


def half_masked() -> torch.Tensor:
    mask = good()
    mask[:12] = False
    return mask


@BOTH
def test_the_seed_decides_everything(kind: type[Pipeline]) -> None:
    pipeline, batch = kind(always()), patterns(6)
    first = pipeline(batch, half_masked(), ZERO, 7)
    for step_on in (torch.randperm, np.random.permutation, lambda n: random.shuffle([*range(n)])):
        step_on(9)
    assert torch.equal(pipeline(batch, half_masked(), ZERO, 7), first)
    for other in (8, 7 + 2**32):
        changed = (pipeline(batch, half_masked(), ZERO, other) != first).flatten(1).any(1)
        assert changed.all()
    assert first.dtype == torch.float32
    assert first.shape == batch.shape


@BOTH
def test_every_pattern_of_a_batch_has_its_own_draw(kind: type[Pipeline]) -> None:
    result = kind(always())(patterns(1).expand(5, -1, -1, -1), good(), ZERO, 1)
    assert len({row.numpy().tobytes() for row in result}) == 5


@BOTH
def test_the_input_and_all_global_generators_stay_as_they_were(kind: type[Pipeline]) -> None:
    batch = patterns(4)
    before = batch.clone()
    states = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state()  # type: ignore[union-attr]  # noqa: NPY002
    kind(always())(batch, half_masked(), ZERO, 3)
    assert torch.equal(batch, before)
    assert np.random.get_state()[1].tolist() == states[0]  # type: ignore[union-attr]  # noqa: NPY002
    assert random.getstate() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


@BOTH
def test_nothing_switched_on_changes_nothing(kind: type[Pipeline]) -> None:
    batch = patterns(5)
    assert torch.equal(kind(only())(batch, good(), ZERO, 1), batch)


@pytest.mark.parametrize("pipeline", [NoAugmentation(), BatchedPipeline(), BatchgeneratorsPipeline()])
def test_an_empty_batch_stays_one(pipeline: Pipeline) -> None:
    assert pipeline(torch.empty(0, 1, *SHAPE), good(), ZERO, 1).shape == (0, 1, *SHAPE)


@BOTH
def test_no_pattern_looks_at_another(kind: type[Pipeline]) -> None:
    batch = patterns(6)
    pipeline = kind(always())
    other = batch.clone()
    other[1::2] = 50.0
    a, b = (pipeline(each, half_masked(), ZERO, 4) for each in (batch, other))
    assert torch.equal(a[::2], b[::2])
    assert (a[1::2] != b[1::2]).any()


@BOTH
@pytest.mark.parametrize("level", [0.0, ZERO, 1e4])
def test_an_even_pattern_gives_finite_values(kind: type[Pipeline], level: float) -> None:
    result = kind(always())(torch.full((8, 1, *SHAPE), level), good(), ZERO, 2)
    assert result.isfinite().all()
    assert result.abs().max() < 10 * max(level, 1.0)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**40))
@settings(deadline=None, max_examples=30)
def test_the_batched_one_takes_any_shape(height: int, width: int, seed: int) -> None:
    result = BatchedPipeline(always())(patterns(3, (height, width)), good((height, width)), ZERO, seed)
    assert result.shape == (3, 1, height, width)
    assert result.isfinite().all()


@BOTH
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("mirroring", "shift")])
def test_masked_pixels_never_show_anything(kind: type[Pipeline], name: str) -> None:
    mask = half_masked()
    result = kind(only(**{name: {}}))(patterns(8), mask, ZERO, 2)
    assert (result[:, :, ~mask] == torch.tensor(ZERO)).all()
    assert (result[:, :, mask] != torch.tensor(ZERO)).any()


@BOTH
def test_a_mirrored_view_has_the_mirrored_gap(kind: type[Pipeline]) -> None:
    """As at prediction, where masked patterns are mirrored."""
    mask = half_masked()
    result = kind(only(mirroring={"axes": ("rows",)}, noise={"sd": (0.05, 0.1)}))(patterns(16), mask, ZERO, 2)
    hidden = (result == torch.tensor(ZERO))[:, 0]
    mirrored = torch.tensor([torch.equal(each, ~mask.flip(0)) for each in hidden])
    kept = torch.tensor([torch.equal(each, ~mask) for each in hidden])
    assert (mirrored ^ kept).all()
    assert 2 < mirrored.sum() < 14


@BOTH
def test_borders_and_cutouts_show_no_photons(kind: type[Pipeline]) -> None:
    """Noise reaches every pixel that is shown, and no other."""
    transforms = only(noise={"sd": (0.05, 0.1)}, blur={}, shift={"sd": 6.0}, cutout={})
    result = kind(transforms)(patterns(20), good(), ZERO, 2)
    hidden = (result == torch.tensor(ZERO))[:, 0]
    at_the_rim = hidden[:, [0, -1]].all(2).any(1) | hidden[:, :, [0, -1]].all(1).any(1)
    assert at_the_rim.float().mean() > 0.9
    assert hidden.flatten(1).any(1).all()


@BOTH
@pytest.mark.parametrize("zero", [0.0, -5.0])
def test_what_comes_in_from_outside_of_the_image_shows_no_photons(kind: type[Pipeline], zero: float) -> None:
    shrunk = kind(only(scaling={"factor": (1.0, 1.9)}))(torch.full((8, 1, *SHAPE), 2.0), good(), zero, 3)
    assert (shrunk[:, 0, 0] == zero).all(1).sum() >= 6  # but where the factor is hardly above 1
    assert shrunk.min() == zero
    torch.testing.assert_close(shrunk[:, :, 12:24, 8:16], torch.full((8, 1, 12, 8), 2.0))


@BOTH
@pytest.mark.parametrize(("axis", "dimension"), [("rows", 2), ("columns", 3)])
def test_mirroring_can_be_kept_to_one_axis(kind: type[Pipeline], axis: str, dimension: int) -> None:
    batch = patterns(1).expand(30, -1, -1, -1)
    result = kind(only(mirroring={"axes": (axis,)}))(batch, good(), ZERO, 3)
    mirrored, kept = ((result == state).flatten(1).all(1) for state in (batch.flip(dimension), batch))
    assert (mirrored ^ kept).all()
    assert 5 < mirrored.sum() < 25


@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_the_share_of_changed_patterns_is_the_probability(kind: type[Pipeline], name: str) -> None:
    n, probability = 500, 0.3
    batch = patterns(1).expand(n, -1, -1, -1)
    settings = {"probability": probability} | ({"rectangles": (5, 5)} if name == "cutout" else {})
    result = kind(only(**{name: settings}))(batch, good(), ZERO, 11)
    changed = ((result - batch).abs().flatten(1).amax(1) > 0).double().mean()
    expected = probability * {"mirroring": 0.75, "shift": 1 - 0.1324**2}.get(name, 1.0)  # the rest draws "as it was"
    assert float(changed) == pytest.approx(expected, abs=4 * (expected * (1 - expected) / n) ** 0.5)


@BOTH
def test_inverted_gamma_has_a_probability_of_its_own(kind: type[Pipeline]) -> None:
    batch = patterns(1).expand(500, -1, -1, -1)
    transforms = only(gamma={"probability": 0.0, "inverted_probability": 0.2})
    changed = (kind(transforms)(batch, good(), ZERO, 1) != batch).flatten(1).any(1).double().mean()
    assert float(changed) == pytest.approx(0.2, abs=0.07)


def test_autocast_does_not_reach_the_coordinates() -> None:
    batch, pipeline = patterns(4), BatchedPipeline(always())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = pipeline(batch, good(), ZERO, 1)
    assert torch.equal(inside, pipeline(batch, good(), ZERO, 1))


def test_a_worker_can_be_sent_the_pipeline() -> None:
    pipeline = BatchgeneratorsPipeline(Transforms())
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline
    assert pipeline.in_workers
    assert not BatchedPipeline().in_workers


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    """But for the pixels' noise, which is drawn on the device."""
    names = {name: {} for name in NAMES if name != "noise"}
    pipeline, batch, mask = BatchedPipeline(only(**names)), patterns(16, (192, 96)), good((192, 96))
    on_gpu = pipeline(batch.cuda(), mask.cuda(), ZERO, 1)
    torch.testing.assert_close(on_gpu.cpu(), pipeline(batch, mask, ZERO, 1), atol=1e-3, rtol=0)
    noisy = BatchedPipeline(only(noise={"sd": (0.1, 0.1)}))
    noise = noisy(batch.cuda(), mask.cuda(), ZERO, 1) - batch.cuda()
    assert float(noise.std()) == pytest.approx(0.1, rel=0.01)
    assert torch.equal(noisy(batch.cuda(), mask.cuda(), ZERO, 1) - batch.cuda(), noise)
