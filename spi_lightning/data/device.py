"""Which device to compute on."""

from __future__ import annotations

import torch

from spi_lightning.errors import SpiError


def computes_with(device: str) -> str:
    """What rounding depends on besides the program: the name of a GPU, or the instructions of a CPU that torch uses."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()


def choose_device(name: str) -> str:
    """Turn ``auto`` into the best device at hand, and check any other name.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        SpiError: no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name)
    except RuntimeError:
        raise SpiError(f"device: '{name}' is none of auto, cpu, cuda, cuda:N.") from None
    if kind.type not in ("cpu", "cuda"):
        raise SpiError(f"device: '{name}' is none of auto, cpu, cuda, cuda:N.")
    if kind.type == "cuda" and (not torch.cuda.is_available() or (kind.index or 0) >= torch.cuda.device_count()):
        raise SpiError(f"device: '{name}' is not here: torch finds {torch.cuda.device_count()} CUDA devices. Use cpu.")
    return name
