from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from spi_lightning.errors import SpiError
from spi_lightning.models.preact_resnet import PreActResNet, Shortcut

SMALL = {"filters": (4, 8), "blocks": (1, 2), "strides": ((1, 1), (2, 2))}


@pytest.mark.parametrize(
    ("blocks", "parameters", "giga_macs"),
    [((1, 1, 1, 1, 2, 2), 4.83e6, 0.524), ((1, 1, 2, 2, 1, 1), 2.8e6, 0.57), ((2, 2, 1, 1, 1, 1), 2.5e6, 0.567)],
)
def test_size_and_cost_are_those_of_the_paper_s_network(blocks, parameters: float, giga_macs: float) -> None:
    network = PreActResNet(blocks=blocks).eval()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=0.03)
    assert len(network.blocks) == 8
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        features = network.features(torch.zeros(1, 1, 192, 96))
    assert features.shape == (1, 256, 6, 6)
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga_macs, rel=0.02)


@pytest.mark.parametrize("shape", [(192, 96), (96, 192), (128, 128), (33, 17), (1, 1)])
def test_any_shape_gives_two_logits_a_pattern(shape: tuple[int, int]) -> None:
    network = PreActResNet(filters=(4, 8, 8), blocks=(1, 1, 1), strides=((1, 1), (2, 2), (2, 1))).eval()
    with torch.no_grad():
        assert network(torch.randn(3, 1, *shape)).shape == (3, 2)


@pytest.mark.parametrize("activation", ["leaky_relu", "relu", "silu"])
@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_every_part_of_every_variant_learns(activation: str, norm: str) -> None:
    torch.manual_seed(0)
    network = PreActResNet((8, 16), (1, 2), ((1, 1), (2, 2)), activation, norm)
    functional.cross_entropy(network(torch.randn(6, 1, 16, 12)), torch.tensor([0, 1] * 3)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@given(st.integers(1, 3), st.integers(1, 3), st.integers(4, 13), st.integers(4, 13))
@settings(deadline=None, max_examples=25)
def test_the_shortcut_is_a_strided_convolution(down: int, right: int, rows: int, columns: int) -> None:
    shortcut = Shortcut(5, 7, (down, right)).double()
    x = torch.randn(2, 5, rows, columns, dtype=torch.float64)
    expected = functional.conv2d(x, shortcut.conv.weight, stride=(down, right))
    assert torch.allclose(shortcut(x), expected)


def test_a_block_of_the_same_shape_passes_its_input_on_untouched() -> None:
    """Pre-activation: with the last convolution at zero, a block that changes no shape is the identity."""
    network = PreActResNet((4,), (2,), ((1, 1),)).eval()
    for block in network.blocks:
        assert block.shortcut is None
        torch.nn.init.zeros_(block.second_conv.weight)
    x = torch.randn(2, 4, 9, 9)
    with torch.no_grad():
        assert torch.equal(network.blocks(x), x)


def test_layout_in_memory_does_not_change_the_result() -> None:
    network = PreActResNet(**SMALL).eval().double()
    x = torch.randn(3, 1, 24, 16, dtype=torch.float64)
    with torch.no_grad():
        plain = network(x)
        last = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert torch.allclose(plain, last, atol=1e-12)


def test_signals_keep_their_size_through_fresh_weights() -> None:
    """Kaiming's draw: the variance behind a convolution is about that in front of the activation before it."""
    torch.manual_seed(1)
    network = PreActResNet()
    weight = network.blocks[4].second_conv.weight
    assert float(weight.detach().std()) == pytest.approx((2 / (1 + 0.01**2) / (9 * weight.shape[1])) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": (1,)}, r"model\.blocks is \[1\]; it must be one number for each of 2 stages"),
        ({"strides": ((1, 1),)}, r"model\.strides"),
        ({"filters": (4, 0)}, "1 or more"),
        ({"norm": "group", "filters": (4, 8)}, "multiples of 8"),
    ],
)
def test_layouts_that_make_no_network_are_refused(change: dict, message: str) -> None:
    with pytest.raises(SpiError, match=message):
        PreActResNet(**{**SMALL, **change})
