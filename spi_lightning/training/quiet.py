"""Leaving out what Lightning tells those who write Trainers, not those who use one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_utilities")
UNSAID = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    "predict returned None.*",
    ".*`srun` command is available.*",
)


@contextmanager
def lightning_quiet() -> Iterator[None]:
    """Leave out its advice in this block; what goes wrong still raises."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for text in UNSAID:
            warnings.filterwarnings("ignore", text)
        yield
