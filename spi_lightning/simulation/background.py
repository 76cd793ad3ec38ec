"""Light on the detector that no particle scattered: carrier gas, a flat level, streaks."""

from __future__ import annotations

import torch

from spi_lightning.simulation.settings import Background


def gas(q: torch.Tensor, settings: Background) -> torch.Tensor:
    """Expected photons of gas and flat level in a shot of mean background.

    Args:
        q: ``(pixels,)``, magnitude of the momentum transfer, nm⁻¹.
        settings: levels and radial shape.

    Returns:
        ``(pixels,)``, photons.
    """
    return settings.gas_level * torch.exp(-((q / settings.gas_width) ** settings.gas_exponent)) + settings.flat_level


def streak(x: torch.Tensor, y: torch.Tensor, level: float, angle: float, settings: Background) -> torch.Tensor:
    """Expected photons of one streak through the beam: a line that fades outwards.

    Args:
        x: ``(pixels,)``, distance from the beam along the detector's rows, pixels.
        y: ``(pixels,)``, the same along its columns.
        level: photons a pixel at the beam.
        angle: direction from the x axis, radians.
        settings: width and length.

    Returns:
        ``(pixels,)``, photons.
    """
    direction = torch.tensor(angle, dtype=x.dtype)
    cosine, sine = float(direction.cos()), float(direction.sin())
    along, across = x * cosine + y * sine, y * cosine - x * sine
    profile = torch.exp(-(across / settings.streak_width).square() / 2)
    return level * profile / (1 + (along / settings.streak_length).square())
