"""Any image network of the timm library, by name."""

from __future__ import annotations

import torch
from torch import nn

from spi_lightning.errors import SpiError, nearest


class TimmNetwork(nn.Module):
    """A network of `timm <https://huggingface.co/docs/timm>`_ with one input channel, its weights drawn anew.

    Pretrained weights are not offered: they would be fetched from elsewhere, and were learnt from photographs.
    """

    def __init__(self, name: str, drop_rate: float = 0.0):
        """Build the network.

        Args:
            name: as ``timm.list_models()`` has it, such as resnet18 or convnext_atto.
            drop_rate: dropout before the last layer.

        Raises:
            SpiError: timm is not installed, or has no such network.
        """
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise SpiError(
                f"model=timm needs the timm library, which cannot be imported here ({error}). "
                "Install it with: pip install 'spi-lightning[timm]'."
            ) from None
        if name not in timm.list_models():
            raise SpiError(f"model.name: timm {timm.__version__} has no '{name}'.{nearest(name, timm.list_models())}")
        self.network = timm.create_model(name, pretrained=False, in_chans=1, num_classes=2, drop_rate=drop_rate)

    def forward(self, patterns: torch.Tensor) -> torch.Tensor:
        """Normalised patterns ``(n, 1, rows, columns)`` → logits ``(n, 2)``."""
        return self.network(patterns)
