"""Compiling a network's training, where a compiler is at hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from spi_lightning.errors import SpiError

Forward = Callable[[torch.Tensor], torch.Tensor]


def compiled(network: nn.Module, device: str) -> Forward:
    """The network's forward pass as a compiled function; on a GPU also captured as a graph, as its backward pass is.

    It trains the network's own weights, whose names stay as they are. The compiling itself is done by the first batch.

    Args:
        network: patterns → logits.
        device: of the network, by the time it is trained.

    Raises:
        SpiError: nothing can be compiled for the device: there is no C++ compiler, or no header of Python.
    """
    mode = "default" if torch.device(device).type == "cpu" else "reduce-overhead"
    try:  # a tiny function tells in seconds what is missing, before patterns are read into batches
        torch.compile(_tiny, mode=mode)(torch.ones(8, device=device))
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0]
        raise SpiError(
            f"trainer.compile is true, but torch.compile does not work here ({said}). It needs a C++ compiler (g++) "
            "and the headers of Python (python3-dev), on a GPU also Triton. Install them, or set trainer.compile=false."
        ) from None
    return torch.compile(network.forward, mode=mode, dynamic=False)


def _tiny(values: torch.Tensor) -> torch.Tensor:
    return values.sin() + 1
