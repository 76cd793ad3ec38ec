"""The networks beside the paper's."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from spi_lightning.config.targets import instantiate
from spi_lightning.errors import SpiError
from spi_lightning.models.small_cnn import SmallCNN
from spi_lightning.models.timm_network import TimmNetwork


@pytest.mark.parametrize("shape", [(192, 96), (96, 48), (128, 128), (33, 17)])
def test_small_cnn_takes_any_shape(shape: tuple[int, int]) -> None:
    logits = SmallCNN()(torch.randn(2, 1, *shape))
    assert logits.shape == (2, 2)
    assert logits.isfinite().all()


def test_small_cnn_refuses_no_convolutions() -> None:
    with pytest.raises(SpiError, match=r"model\.filters"):
        SmallCNN(())


def test_timm_networks_are_built_by_name() -> None:
    pytest.importorskip("timm", reason="timm is an extra: pip install 'spi-lightning[timm]'", exc_type=ImportError)
    block = {"_target_": "spi_lightning.models.timm_network.TimmNetwork", "name": "resnet18", "drop_rate": 0.0}
    network = instantiate(block, "model", "model")
    assert network(torch.randn(2, 1, 64, 32)).shape == (2, 2)
    with pytest.raises(SpiError, match="Did you mean 'resnet18'"):
        TimmNetwork("resnet81")


def test_without_timm_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SpiError, match=r"pip install 'spi-lightning\[timm\]'"):
        TimmNetwork("resnet18")


def test_timm_is_asked_for_one_channel_and_no_pretrained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def create_model(name: str, **options: object) -> torch.nn.Module:
        asked.update(options, name=name)
        return torch.nn.Flatten()

    stand_in = types.SimpleNamespace(list_models=lambda: ["net"], create_model=create_model, __version__="0")
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    TimmNetwork("net", 0.1)
    assert asked == {"name": "net", "pretrained": False, "in_chans": 1, "num_classes": 2, "drop_rate": 0.1}
