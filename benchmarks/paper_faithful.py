"""The pipeline of the paper as its users would write it: the baseline of every speed, kept alive.

batchgenerators with cubic splines, pattern by pattern in the worker processes of a torch data loader; eager float32 in
NCHW (automatic mixed precision on a GPU); a Python loop over networks and mirror states in batches of 64. Factories for
:class:`~benchmarks.remote.Remote`: in a process of their own they have glibc's malloc as it comes.

Assalauova et al., J. Appl. Cryst. 55 (2022), 444-454, section 3.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from spi_lightning.augmentation.covering import hide
from spi_lightning.augmentation.settings import Transforms
from spi_lightning.augmentation.with_batchgenerators import _after_the_detector, _up_to_the_detector
from spi_lightning.cores import available_cores
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.inference.mirroring import FLIPPED, MIRRORS, Mirror
from spi_lightning.models.preact_resnet import PreActResNet
from spi_lightning.training.optimizers import Adam

NORMALISATION = Normalisation("none", 0.342, 2.336)  # the paper's patterns'
SINGLE_SHARE = 0.02  # chance that a drawn pattern is a single hit: the paper's MaxF1
WORKERS = max(1, min(12, available_cores() - 1))  # that augment; one core is the network's
BATCH = 64
ORDER = 3  # of the splines
CALIBRATED_ON = 64  # patterns from which a new network takes its batch statistics

Weights = Mapping[str, torch.Tensor]


def training_step(
    shape: tuple[int, int],
    batch: int = BATCH,
    steps: int = 10,
    seed: int = 1,
    device: str = "cpu",
    n_patterns: int = 2000,
    architecture: Mapping[str, Any] | None = None,
) -> Callable[[], float]:
    """Prepare a training.

    Args:
        shape: of the patterns, (rows, columns).
        batch: patterns of a step.
        steps: that the callable does; nothing is prepared for them ahead of its call, nor for later ones.
        seed: of patterns, weights, draws and augmentation.
        device: of the network.
        n_patterns: in memory, normalised, float32.
        architecture: parameters of :class:`PreActResNet`; None for the paper's.

    Returns:
        Does the steps, and gives the last one's loss.
    """
    kind = torch.device(device).type
    patterns = torch.from_numpy(normalised_patterns(n_patterns, shape, seed))[:, None]
    labels = (torch.arange(n_patterns) % 50 == 0).long()
    torch.manual_seed(seed)
    network = PreActResNet(**architecture or {}).to(device)
    optimizer = Adam(lr=1e-4, weight_decay=3e-5)(network.parameters())
    scaler = torch.amp.GradScaler(kind, enabled=kind == "cuda")
    chance = torch.where(labels == 1, SINGLE_SHARE / labels.sum(), (1 - SINGLE_SHARE) / (1 - labels).sum())
    loader = DataLoader(
        _Augmented(patterns, labels),
        batch,
        sampler=WeightedRandomSampler(chance.tolist(), steps * batch, replacement=True),
        num_workers=WORKERS,
        worker_init_fn=_seed_numpy,
        persistent_workers=True,
        pin_memory=kind == "cuda",
    )

    def work() -> float:
        network.train()
        for some, given in loader:
            optimizer.zero_grad()
            with torch.autocast(kind, torch.float16, enabled=kind == "cuda"):
                logits = network(some.to(device, non_blocking=True))
                loss = cross_entropy(logits, given.to(device, non_blocking=True))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        return float(loss.detach())

    return work


def full_ensemble(
    patterns: np.ndarray,
    models: int | Sequence[Weights] = 5,
    seed: int = 1,
    device: str = "cpu",
    architecture: Mapping[str, Any] | None = None,
    mirrors: Sequence[Mirror] = MIRRORS,
) -> Callable[[], np.ndarray]:
    """Prepare a prediction by several networks with mirroring.

    Args:
        patterns: ``(n, rows, columns)`` float32, normalised, in memory.
        models: state dicts; or how many :func:`new_networks` makes of the ``seed`` for these patterns.
        seed: of weights.
        device: of the networks.
        architecture: parameters of :class:`PreActResNet`; None for the paper's.
        mirrors: views of a pattern.

    Returns:
        Gives the probability of a single hit by each network, the mean over the views, ``(n, networks)`` float32: what
        :meth:`~spi_lightning.inference.ensemble.Ensemble.probabilities` gives. The ensemble's is the mean over axis 1.
    """
    if isinstance(models, int):
        networks = new_networks(models, patterns, seed, architecture)
    else:
        networks = [_with_weights(weights, architecture) for weights in models]
    networks = [network.to(device).eval() for network in networks]
    waiting, kind = torch.from_numpy(patterns)[:, None], torch.device(device).type

    @torch.no_grad()
    def work() -> np.ndarray:
        found = []
        for block in waiting.split(BATCH):
            some = block.to(device)
            each = []
            with torch.autocast(kind, torch.float16, enabled=kind == "cuda"):
                for network in networks:
                    total = torch.zeros(len(some), device=device)
                    for mirror in mirrors:
                        view = some.flip(FLIPPED[mirror]) if FLIPPED[mirror] else some
                        total += network(view).float().softmax(1)[:, 1]
                    each.append(total / len(mirrors))
            found.append(torch.stack(each, 1).cpu())
        return torch.cat(found).numpy()

    return work


def one_model(
    patterns: np.ndarray,
    seed: int = 1,
    device: str = "cpu",
    architecture: Mapping[str, Any] | None = None,
) -> Callable[[], np.ndarray]:
    """Prepare a prediction by one network without mirroring: as :func:`full_ensemble`, ``(n, 1)``."""
    return full_ensemble(patterns, 1, seed, device, architecture, ("none",))


def new_networks(
    how_many: int, patterns: np.ndarray, seed: int = 1, architecture: Mapping[str, Any] | None = None
) -> list[nn.Module]:
    """Untrained networks whose probabilities lie about 0.5, where a difference shows.

    Args:
        how_many: each with weights of its own, and with batch statistics of the first of the patterns.
        patterns: ``(n, rows, columns)`` float32, normalised.
        seed: of the weights.
        architecture: parameters of :class:`PreActResNet`; None for the paper's.

    Returns:
        On the CPU, in evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = [PreActResNet(**architecture or {}) for _ in range(how_many)]
    some = torch.from_numpy(patterns[:CALIBRATED_ON])[:, None]
    for network in networks:
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = None  # the mean of what it is shown
        with torch.no_grad():
            network.train()(some)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return [network.eval() for network in networks]


def pattern_counts(n: int, shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Photons that fall off from the middle of the image, of the paper's mean on average.

    Returns:
        ``(n, rows, columns)`` uint16.
    """
    rng = np.random.default_rng(seed)
    rows, columns = (np.linspace(-1, 1, length) for length in shape)
    fall = np.exp(-4 * np.hypot(rows[:, None], columns))
    brightness = rng.lognormal(-(0.5**2) / 2, 0.5, (n, 1, 1)) * NORMALISATION.mean / fall.mean()
    return rng.poisson(brightness * fall).astype(np.uint16)


def normalised_patterns(n: int, shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    """The same, ``(n, rows, columns)`` float32, as the networks see them."""
    return NORMALISATION(torch.from_numpy(pattern_counts(n, shape, seed).astype(np.int32))).numpy()


def _with_weights(weights: Weights, architecture: Mapping[str, Any] | None) -> nn.Module:
    network = PreActResNet(**architecture or {})
    network.load_state_dict(dict(weights))
    return network


class _Augmented(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Patterns ``(n, 1, rows, columns)`` and labels, of which each that is asked for is augmented.

    What :class:`~spi_lightning.augmentation.with_batchgenerators.BatchgeneratorsPipeline` does, without a seed a
    pattern, which takes 6 % of its time: batchgenerators draws from numpy's global generator.
    """

    def __init__(self, patterns: torch.Tensor, labels: torch.Tensor):
        self.patterns, self.labels = patterns, labels
        self.shape = (patterns.shape[2], patterns.shape[3])
        self.mask = torch.ones(self.shape, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.patterns)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        data = self.patterns[index : index + 1].numpy()
        for change in _up_to_the_detector(Transforms(), ORDER, NORMALISATION.zero):
            data = change(data=data)["data"]
        data = hide(torch.from_numpy(data), self.mask, NORMALISATION.zero).numpy()
        for change in _after_the_detector(Transforms(), self.shape, NORMALISATION.zero):
            data = change(data=data)["data"]
        return torch.from_numpy(data)[0], self.labels[index]


def _seed_numpy(worker: int) -> None:
    """Workers would all augment alike otherwise: they start with the same global generator."""
    warnings.filterwarnings("ignore", "This function is deprecated", DeprecationWarning)  # random_integers
    np.random.seed(torch.initial_seed() % 2**32)  # noqa: NPY002
