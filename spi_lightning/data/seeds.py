"""Seeds of what is drawn at random, each from what it belongs to."""

from __future__ import annotations

import numpy as np


def hashed_seed(*parts: int) -> int:
    """A seed (63 bits) from whole numbers ≥ 0, such as seed, fold, epoch and step.

    Neighbouring numbers give unrelated seeds, and so do the same numbers in another order; sums of them would not.
    Zeros at the end of fewer than five numbers count for nothing: end with a number from 1 on where that matters.
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
