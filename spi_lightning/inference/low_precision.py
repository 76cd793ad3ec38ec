"""Predicting with fewer bits where that cannot change the selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from spi_lightning.errors import SpiError
from spi_lightning.inference.engine import Engine, Precision
from spi_lightning.inference.ensemble import Ensemble

NATIVE = {"bfloat16": ("avx512_bf16", "amx_bf16", "bf16"), "float16": ("avx512_fp16", "amx_fp16", "fp16")}
MARGIN = 0.05  # about the threshold; the largest difference of an ensemble's probability in bfloat16 was seen at 0.01


@dataclass(frozen=True)
class PrecisionTally:
    """What scoring anew has changed; tallies of parts of a run can be added.

    Attributes:
        again: patterns that were scored anew.
        changed: of them, those that are selected in one precision but not in the other.
        difference: the largest between their probabilities in the two precisions.
    """

    again: int = 0
    changed: int = 0
    difference: float = 0.0

    def __add__(self, other: PrecisionTally) -> PrecisionTally:
        largest = max(self.difference, other.difference)
        return PrecisionTally(self.again + other.again, self.changed + other.changed, largest)


class LowPrecision:
    """Scores in bfloat16 or float16, and anew in float32 near the threshold. A preview for ``score_run``.

    Attributes:
        tally: so far.
    """

    def __init__(self, ensemble: Ensemble, precision: Precision):
        """Begin a tally.

        Args:
            ensemble: that scores.
            precision: in which it does so first.
        """
        self.tally = PrecisionTally()
        self._engine, self._threshold = Engine(ensemble, precision), ensemble.threshold

    enough = None  # all networks are asked: their scores are kept

    def look(self, counts: torch.Tensor) -> torch.Tensor:
        """See :class:`~spi_lightning.inference.predict.Preview`."""
        return self._engine.probabilities(counts)

    def unsettled(self, models: np.ndarray, places: np.ndarray) -> np.ndarray:
        """See :class:`~spi_lightning.inference.predict.Preview`."""
        far = np.abs(models.mean(axis=1, dtype=np.float64) - self._threshold) > MARGIN
        return ~far  # which what is no number is not

    def settled(self, before: np.ndarray, after: np.ndarray) -> None:
        """See :class:`~spi_lightning.inference.predict.Preview`."""
        lower, exact = (models.mean(axis=1, dtype=np.float64) for models in (before, after))
        changed = int(((lower >= self._threshold) != (exact >= self._threshold)).sum())
        largest = float(np.nan_to_num(np.abs(lower - exact), nan=1.0).max(initial=0.0))
        self.tally += PrecisionTally(len(after), changed, largest)

    def facts(self, patterns: int) -> dict[str, float | int]:
        """What to tell of so many patterns: how many were scored anew, and what that changed."""
        return {
            "scored anew in float32": self.tally.again,
            "share": round(self.tally.again / patterns, 4),
            "largest difference": round(self.tally.difference, 5),
            "selected otherwise": self.tally.changed,
        }


def check_native(precision: Precision, device: torch.device) -> None:
    """Raise :class:`SpiError` where a device only emulates a precision."""
    on_gpu = device.type == "cuda"
    if precision == "float32" or (on_gpu and (precision == "float16" or torch.cuda.is_bf16_supported(False))):
        return
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch cannot tell
    if not on_gpu and any(known.get(word) for word in NATIVE[precision]):
        return
    name = torch.cuda.get_device_name(device) if on_gpu else known.get("cpu_name", "CPU")
    raise SpiError(
        f"precision={precision}: this {name} is not known to compute with it; emulated, it takes three times as long "
        "as float32. Choose precision=float32."
    )
