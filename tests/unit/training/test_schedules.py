"""Learning rates, against the paper's numbers and torch's own schedulers."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, PolynomialLR

from spi_lightning.errors import SpiError
from spi_lightning.training.optimizers import Adam, AdamW
from spi_lightning.training.schedules import Cosine, Poly


def test_poly_ends_where_the_paper_does() -> None:
    assert Poly(0.9).factor(0, 1000) == 1
    assert 1e-4 * Poly(0.9).factor(999, 1000) == pytest.approx(2.0e-7, rel=0.01)


def _rates(scheduler: torch.optim.lr_scheduler.LRScheduler, epochs: int) -> list[float]:
    rates = []
    for _ in range(epochs):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def test_both_agree_with_torch() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    poly = _rates(PolynomialLR(torch.optim.SGD([weight], 1.0), 40, 0.9), 40)
    cosine = _rates(CosineAnnealingLR(torch.optim.SGD([weight], 1.0), 40, 0.1), 40)
    assert [Poly(0.9).factor(epoch, 40) for epoch in range(40)] == pytest.approx(poly)
    assert [Cosine(0.1).factor(epoch, 40) for epoch in range(40)] == pytest.approx(cosine)


@pytest.mark.parametrize("schedule", [Poly(0.9, warmup=5), Cosine(0.0, warmup=5)])
def test_warmup_rises_to_the_curve(schedule: Poly | Cosine) -> None:
    factors = [schedule.factor(epoch, 50) for epoch in range(51)]
    assert factors[:5] == sorted(factors[:5])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[5] == type(schedule)().factor(5, 50)
    assert factors[50] == 0


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_optimizers_have_what_was_asked_for(kind: type[Adam] | type[AdamW]) -> None:
    made = kind(lr=1e-3, weight_decay=0.1, betas=(0.8, 0.99))([torch.nn.Parameter(torch.zeros(1))])
    group = made.param_groups[0]
    assert type(made).__name__ == kind.__name__
    assert (group["lr"], group["weight_decay"], group["betas"]) == (1e-3, 0.1, (0.8, 0.99))
    with pytest.raises(SpiError, match="lr is -1"):
        kind(lr=-1, weight_decay=0.0)
