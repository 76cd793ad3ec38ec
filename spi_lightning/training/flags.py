"""Switches of the whole process that a training sets, and puts back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # set by Lightning for deterministic results


@contextmanager
def flags_restored() -> Iterator[None]:
    """Leave torch's global switches and random numbers as they were: the next job of a sweep is in the same process."""
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    deterministic = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    workspace = os.environ.get(WORKSPACE)
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        fill_new_memory(filled)
        torch.use_deterministic_algorithms(deterministic, warn_only=only_warned)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
        else:
            os.environ[WORKSPACE] = workspace


def fill_new_memory(filled: bool) -> None:
    """Whether torch fills new tensors with NaN where its algorithms are deterministic."""
    torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
