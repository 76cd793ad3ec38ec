from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from spi_lightning.inference.mirroring import MIRRORS, member_probabilities, mirrored
from tests.unit.inference.small import small_ensemble


class LeftHalf(nn.Module):
    """The logit of a single hit is the sum of the left half of the columns and twice that of the upper rows."""

    def forward(self, patterns: torch.Tensor) -> torch.Tensor:
        _, _, rows, columns = patterns.shape
        logit = patterns[..., : columns // 2].sum((1, 2, 3)) + 2 * patterns[..., : rows // 2, :].sum((1, 2, 3))
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


def test_mirrors_are_numpys_flips() -> None:
    patterns = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    expected = {
        "none": patterns.numpy(),
        "rows": patterns.numpy()[:, ::-1],
        "columns": patterns.numpy()[:, :, ::-1],
        "both": patterns.numpy()[:, ::-1, ::-1],
    }
    for mirror in MIRRORS:
        assert (mirrored(patterns, mirror).numpy() == expected[mirror]).all()


def test_the_mean_over_views_is_known() -> None:
    """One photon in the upper left corner: logits 3, 1 (rows turned), 2 (columns turned), 0 (both)."""
    patterns = torch.zeros(1, 1, 4, 6)
    patterns[0, 0, 0, 0] = 1
    single = {"none": 3, "rows": 1, "columns": 2, "both": 0}
    network = LeftHalf().eval()
    for mirror, logit in single.items():
        found = member_probabilities(network, patterns, [mirror])
        torch.testing.assert_close(found, torch.tensor([1 / (1 + math.exp(-logit))]))
    mean = sum(1 / (1 + math.exp(-logit)) for logit in single.values()) / 4
    torch.testing.assert_close(member_probabilities(network, patterns, MIRRORS), torch.tensor([mean]))


def test_with_all_mirrors_a_pattern_and_its_mirror_image_have_one_score() -> None:
    network = small_ensemble(1).networks[0]
    patterns = torch.rand(5, 1, 24, 30)
    scores = member_probabilities(network, patterns, MIRRORS)
    for mirror in MIRRORS:
        torch.testing.assert_close(member_probabilities(network, mirrored(patterns, mirror), MIRRORS), scores)
    assert not torch.allclose(member_probabilities(network, patterns, ["none"]), scores, atol=1e-4)


def test_a_network_in_training_mode_and_no_view_are_refused() -> None:
    with pytest.raises(ValueError, match="training mode"):
        member_probabilities(LeftHalf().train(), torch.zeros(1, 1, 4, 6), MIRRORS)
    with pytest.raises(ValueError, match="no view"):
        member_probabilities(LeftHalf().eval(), torch.zeros(1, 1, 4, 6), [])
