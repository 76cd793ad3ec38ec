"""Losses, against torch's own and against their definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from spi_lightning.errors import SpiError
from spi_lightning.training.losses import CrossEntropy, Focal


def _batch(seed: int, spread: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((64, 2), generator=generator, dtype=torch.float64) * spread
    return logits, torch.randint(0, 2, (64,), generator=generator)


def test_weights_count_a_missed_single_hit_nine_times() -> None:
    logits, labels = _batch(0)
    own = -functional.log_softmax(logits, 1)[torch.arange(64), labels]
    weights = torch.where(labels == 1, 0.9, 0.1).double()
    expected = (own * weights).sum() / weights.sum()
    torch.testing.assert_close(CrossEntropy((0.1, 0.9)).double()(logits, labels), expected)
    torch.testing.assert_close(CrossEntropy()(logits, labels), own.mean())


@given(st.integers(0, 1000), st.sampled_from([None, (0.1, 0.9)]))
def test_focal_without_gamma_is_cross_entropy(seed: int, weights: tuple[float, float] | None) -> None:
    logits, labels = _batch(seed)
    focal, plain = Focal(0.0, weights).double(), CrossEntropy(weights).double()
    torch.testing.assert_close(focal(logits, labels), plain(logits, labels))


def test_focal_is_its_definition_and_easy_patterns_count_less() -> None:
    logits, labels = _batch(1)
    probability = functional.softmax(logits, 1)[torch.arange(64), labels]
    expected = (-((1 - probability) ** 2) * probability.log()).mean()
    torch.testing.assert_close(Focal(2.0)(logits, labels), expected)
    sure = torch.tensor([[0.0, 6.0]])
    label = torch.tensor([1])
    assert Focal(2.0)(sure, label) < 1e-4 * CrossEntropy()(sure, label)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gradients_are_finite_where_a_pattern_is_certain(gamma: float) -> None:
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0], [0.0, 0.0]], requires_grad=True)
    Focal(gamma)(logits, torch.tensor([1, 1, 0])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(SpiError, match="two positive numbers"):
        CrossEntropy((0.0, 1.0))
    with pytest.raises(SpiError, match="gamma"):
        Focal(-1.0)
