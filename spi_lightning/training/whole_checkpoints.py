"""Checkpoints of which the old one is there until the new one is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from spi_lightning.patterns.export_cxi import replaced_when_done


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside the old one, in whose place it is then renamed, and reads nothing that can run.

    Lightning writes into the folder of temporary files and moves that. From another disk, moving is copying: a full
    disk, or a kill, in the middle of it would leave half a checkpoint, and nothing of the old one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint; the arguments are Lightning's.

        Raises:
            SpiError: the disk is full, or fails.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replaced_when_done(path) as partial, open(partial, "wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint: tensors and plain values; the arguments are Lightning's, but for what could run."""
        content: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return content
