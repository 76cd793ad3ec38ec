"""Reading, preparing and writing diffraction patterns. Only this package knows how pattern files are laid out."""

from spi_lightning.patterns.run import Run, open_run
from spi_lightning.patterns.segment import DEFAULT_BAD_BITS, Segment, good_pixels

__all__ = ["DEFAULT_BAD_BITS", "Run", "Segment", "good_pixels", "open_run"]
