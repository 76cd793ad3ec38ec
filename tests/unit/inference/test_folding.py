import copy

import pytest
import torch
from torch import nn

from spi_lightning.inference.folding import folded
from spi_lightning.models.preact_resnet import PreActResNet
from spi_lightning.models.small_cnn import SmallCNN

BINNED = {"filters": (4, 8, 8), "blocks": (1, 2, 1), "strides": ((2, 2), (2, 2), (2, 1))}
WITH_IDENTITIES = {"filters": (4, 4, 8), "blocks": (1, 1, 2), "strides": ((1, 1), (1, 1), (2, 2))}


def trained(network: nn.Module) -> nn.Module:
    """With statistics and weights of norms unlike those of a new network."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 1, generator=generator)
            module.running_var.uniform_(0.3, 3, generator=generator)
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.5, generator=generator)
                nn.init.normal_(module.bias, 0, 1, generator=generator)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (PreActResNet(), 6),  # 11 of 17
        (PreActResNet(**BINNED), 2),  # before and after the sum with a block's own input
        (PreActResNet(**WITH_IDENTITIES), 5),
        (PreActResNet(**BINNED, activation="silu"), 2),
        (PreActResNet((8, 8), (1, 1), ((1, 1), (2, 2)), norm="group"), 0),
        (SmallCNN((4, 8)), 0),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, affine=False), nn.Flatten(1), nn.LazyLinear(2)), 0),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)), 1),
    ],
)
def test_a_folded_network_says_what_the_network_says(network: nn.Module, left: int) -> None:
    patterns = torch.randn(3, 1, 64, 32, generator=torch.Generator().manual_seed(0))
    network(patterns)  # shapes of lazy layers
    trained(network)
    before = copy.deepcopy(network.state_dict())
    exact = copy.deepcopy(network).double().eval()(patterns.double())
    fast = folded(network)
    assert norms(fast) == left
    assert not fast.training
    assert not any(weight.requires_grad for weight in fast.parameters())
    torch.testing.assert_close(fast(patterns).double(), exact, rtol=1e-5, atol=1e-4)
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)


def test_what_is_used_twice_is_not_folded() -> None:
    conv, norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)
    network = trained(nn.Sequential(conv, norm, conv))
    patterns = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = network.eval()(patterns)
    torch.testing.assert_close(folded(network)(patterns), expected)


def test_a_network_in_training_mode_is_folded_for_evaluation() -> None:
    network = trained(PreActResNet(**BINNED)).train()
    patterns = torch.randn(2, 1, 32, 16, generator=torch.Generator().manual_seed(0))
    fast = folded(network)(patterns)
    assert network.training
    torch.testing.assert_close(fast, network.eval()(patterns), rtol=1e-4, atol=1e-5)
