"""From one seed to the random number generators of torch, numpy and Python."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def scrambled(seed: int) -> int:
    """32 bits that depend on every bit of ``seed``, 0 or more: torch's CPU generator looks at the lowest 32 only."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed numpy's and Python's global generators, and put them back as they were at the end.

    For libraries that draw from nothing else: each of their calls gets a seed of its own, and code around it does not
    notice that they ran.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(scrambled(seed))  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
