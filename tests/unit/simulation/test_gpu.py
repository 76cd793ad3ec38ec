"""The same on a CUDA device: close to the CPU in what is expected, and reproducible in what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spi_lightning.simulation.experiment import Experiment

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


def test_expected_photons_agree_with_the_cpu(settings, particles, instrument) -> None:
    on_cpu, on_gpu = (Experiment(settings, particles, instrument, device=device) for device in ("cpu", "cuda"))
    scenes = [on_cpu.source.draw(i) for i in range(16)]
    for cpu, gpu in zip(on_cpu.expected_photons(scenes), on_gpu.expected_photons(scenes), strict=True):
        assert torch.allclose(gpu.cpu(), cpu, rtol=1e-3, atol=1e-5 * float(cpu.max()))


def test_a_pattern_does_not_depend_on_its_batch(settings, particles, instrument) -> None:
    experiment = Experiment(settings, particles, instrument, device="cuda")
    together = experiment.simulate(range(24))
    for i in range(0, 24, 3):
        few = experiment.simulate(range(i, i + 3))
        assert np.array_equal(few.frames, together.frames[i : i + 3])
