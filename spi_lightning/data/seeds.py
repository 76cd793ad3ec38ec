"""Seeds of what is drawn at random, each from what it belongs to, and random numbers that need no generator."""

from __future__ import annotations

import numpy as np
import torch

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # of splitmix64


def hashed_seed(*parts: int) -> int:
    """A seed (63 bits) from whole numbers ≥ 0, such as seed, fold, epoch and step.

    Neighbouring numbers give unrelated seeds, and so do the same numbers in another order; sums of them would not.
    Zeros at the end of fewer than five numbers count for nothing: end with a number from 1 on where that matters.
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def random_words(seed: int, count: int, device: str | torch.device = "cpu") -> torch.Tensor:
    """The first numbers that splitmix64 gives for a seed: the same on every device, all at once, in a dozen operations.

    G. L. Steele, D. Lea & C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA (2014), 453-472,
    doi:10.1145/2660193.2660195, with the constants of D. Stafford's variant 13, as in Java's SplittableRandom.

    Args:
        seed: 63 bits.
        count: of numbers; the first ones do not depend on it.
        device: of the result.

    Returns:
        int64 ``(count,)``, of which all 64 bits are random: the sign is one of them.
    """
    # torch multiplies modulo 2^64, as splitmix64 does, but knows signed numbers only.
    state = torch.arange(1, count + 1, device=device) * _signed(_GOLDEN) + _signed(seed)
    state = (state ^ shifted(state, 30)) * _signed(_FIRST)
    state = (state ^ shifted(state, 27)) * _signed(_SECOND)
    return state ^ shifted(state, 31)


def shifted(words: torch.Tensor, bits: int) -> torch.Tensor:
    """int64 words shifted to the right, zeros coming in from the left; torch itself copies the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
