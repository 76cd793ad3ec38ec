"""Keep the patterns that a file lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.patterns.labels import read_labels
from spi_lightning.selection.step import Context, Verdict, dropped_where


@dataclass(frozen=True)
class Listed:
    """Keep the patterns that a file names, such as the selection of another program.

    Attributes:
        path: a file of ids, indices or labels, of any kind that ``data.prepare.labels.path`` may name.
        dataset: where they lie in an HDF5 file.
        kind: what the file holds.
    """

    looks: ClassVar[bool] = False
    path: str | None = None
    dataset: str | None = None
    kind: Literal["auto", "classes", "singles"] = "auto"

    def verdict(self, patterns: np.ndarray, context: Context) -> Verdict:
        """See :class:`~spi_lightning.selection.step.Step`."""
        if self.path is None:
            raise SpiError("the file of patterns is not given. Set steps.listed.path=FILE.")
        listed = read_labels(self.path, context.findings.ids, dataset=self.dataset, kind=self.kind)
        return dropped_where({f"not listed in {self.path}": listed[patterns] != 1}, f"listed in {self.path}")
