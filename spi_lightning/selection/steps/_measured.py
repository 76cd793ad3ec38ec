"""What several steps ask for: the fitted sizes of patterns."""

from __future__ import annotations

import numpy as np

from spi_lightning.analysis.size import Sizes
from spi_lightning.errors import SpiError
from spi_lightning.selection.step import Context


def sizes_of(patterns: np.ndarray, context: Context) -> tuple[Sizes, np.ndarray]:
    """The sizes that were fitted, and which of their rows are these patterns'.

    Raises:
        SpiError: no sizes were fitted.
    """
    sizes = context.findings.sizes
    if sizes is None:
        raise SpiError("sizes are not known: callbacks.size is off, or could not fit them (see the notes).")
    return sizes, context.findings.rows(patterns)
