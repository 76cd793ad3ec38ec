import numpy as np
import pytest
import torch

from spi_lightning.errors import SpiError
from spi_lightning.inference.engine import Engine, Precision, batch_for, logits_of, view_probabilities
from spi_lightning.inference.ensemble import Ensemble
from spi_lightning.inference.folding import folded
from spi_lightning.inference.low_precision import LowPrecision, check_native
from spi_lightning.inference.mirroring import mirrored
from spi_lightning.inference.predict import score_run
from tests.unit.inference.small import small_ensemble
from tests.unit.patterns.fake_run import FakeRun, photons

COUNTS = torch.from_numpy(photons(21))


def exactly(ensemble: Ensemble) -> np.ndarray:
    """The ensemble's probabilities in float64, network by network and view by view."""
    patterns = ensemble.normalisation(COUNTS)[:, None].double()
    columns = []
    for network in ensemble.networks:
        exact = type(network)((4, 8), (1, 1), ((1, 1), (2, 2))).double().eval()
        exact.load_state_dict(network.state_dict())
        views = [exact(mirrored(patterns, mirror)).softmax(1)[:, 1] for mirror in ensemble.mirrors]
        columns.append(torch.stack(views).mean(0))
    return torch.stack(columns, 1).detach().numpy()


@pytest.mark.parametrize(("precision", "within"), [("float32", 1e-6), ("bfloat16", 0.02), ("float16", 2e-3)])
def test_the_engine_agrees_with_float64(precision: Precision, within: float) -> None:
    ensemble = small_ensemble(2)
    found = Engine(ensemble, precision).probabilities(COUNTS).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exactly(ensemble), atol=within)


def test_the_ensemble_itself_is_left_as_it_is() -> None:
    ensemble = small_ensemble(2)
    before = ensemble.probabilities(COUNTS)
    Engine(ensemble, "bfloat16")
    torch.testing.assert_close(ensemble.probabilities(COUNTS), before, rtol=0, atol=0)


@pytest.mark.parametrize("n", [0, 1, 21])
def test_many_patterns_at_once(n: int) -> None:
    ensemble, told = small_ensemble(1), []
    network = folded(ensemble.networks[0])
    found = view_probabilities(network, COUNTS[:n], ensemble.normalisation, ensemble.mirrors, told.append)
    torch.testing.assert_close(found, ensemble.probabilities(COUNTS[:n])[:, 0], atol=1e-6, rtol=0)
    assert sum(told) == n
    for mirror in ("none", "both"):
        logits = logits_of(network, COUNTS[:n], ensemble.normalisation, mirror)
        one = view_probabilities(network, COUNTS[:n], ensemble.normalisation, [mirror])
        assert logits.shape == (n, 2)
        torch.testing.assert_close(logits.softmax(1)[:, 1], one, atol=1e-6, rtol=0)


def test_batches_suit_the_device() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [batch_for(cpu, shape) for shape in ((192, 96), (96, 48), (2000, 2000))] == [8, 32, 1]
    assert batch_for(gpu, (192, 96)) > 100


class TestLowPrecision:
    def test_near_the_threshold_scores_are_those_of_float32(self) -> None:
        run = FakeRun(photons(100))
        exact = np.concatenate([models for _, models in score_run(small_ensemble(2), run)])
        threshold = float(np.median(exact.mean(1)))
        ensemble = small_ensemble(2, threshold=threshold)
        preview = LowPrecision(ensemble, "bfloat16")
        found = np.concatenate([models for _, models in score_run(ensemble, run, preview=preview)])
        near = np.abs(found.mean(1) - threshold) <= 0.04
        assert preview.tally.again >= near.sum() > 0
        np.testing.assert_allclose(found[near], exact[near], atol=1e-6)
        np.testing.assert_array_equal(found.mean(1) >= threshold, exact.mean(1) >= threshold)
        assert 0 < preview.tally.difference < 0.02
        facts = preview.facts(100)
        assert (facts["scored anew in float32"], facts["share"]) == (preview.tally.again, preview.tally.again / 100)

    def test_what_a_cpu_only_emulates_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "cpu_name": "Testing 3000"})
        check_native("bfloat16", torch.device("cpu"))
        check_native("float32", torch.device("cpu"))
        check_native("float16", torch.device("cuda"))
        with pytest.raises(SpiError, match=r"precision=float16.*Testing 3000.*precision=float32"):
            check_native("float16", torch.device("cpu"))
