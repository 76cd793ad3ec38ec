from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from spi_lightning.augmentation.pipeline import NoAugmentation
from spi_lightning.data.datamodule import SpiDataModule
from spi_lightning.data.loaders import Batch, LabelledCounts, finishing, on_device
from spi_lightning.data.normalisation import Normalisation
from spi_lightning.data.sampler import SamplerSettings, SingleHitSampler
from spi_lightning.data.splits import SplitSettings
from spi_lightning.errors import SpiError
from tests.unit.data.labelled import SHAPE, loaded, shuffled_labels

pytestmark = [  # Lightning's advice to those who write Trainers, and a fault of its own
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
]
NORMALISATION = Normalisation("none", 0.5, 2.0)
BATCHES = 5


class Noise:
    """Adds noise to good pixels, in the workers or on the device."""

    def __init__(self, in_workers: bool) -> None:
        self.in_workers = in_workers

    def __call__(self, patterns: torch.Tensor, mask: torch.Tensor, zero: float, seed: int) -> torch.Tensor:
        noise = torch.randn(patterns.shape, generator=torch.Generator().manual_seed(seed))
        return torch.where(mask, patterns + 0.001 * noise, torch.tensor(zero))


LABELS = shuffled_labels(20, 120, seed=3)
RUN, SPLITS, HELD = loaded(LABELS, SplitSettings(10, 93, folds=3))


def module(pipeline: Any, workers: int = 0, fold: int = 1) -> SpiDataModule:
    sampler = SamplerSettings(0.3, 6, BATCHES)
    return SpiDataModule(HELD, SPLITS, fold, sampler, pipeline, NORMALISATION, seed=4, workers=workers)


class Recorder(pl.LightningModule):
    """Remembers which batches it is given; learns one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[Batch] = []
        self.validated: list[LabelledCounts] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch)
        return (batch.patterns.mean() - self.weight).square().mean()

    def validation_step(self, batch: LabelledCounts, batch_idx: int) -> None:
        self.validated.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    data: SpiDataModule, epochs: int, resume: Path | None = None, callbacks: Any = None
) -> tuple[Recorder, pl.Trainer]:
    recorder = Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=callbacks is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(recorder, data, ckpt_path=None if resume is None else str(resume))
    return recorder, trainer


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, other, strict=True)
    )


def pattern_indices(patterns: torch.Tensor) -> list[int]:
    """Which patterns of the run these are: the first two pixels tell."""
    counts = (patterns[:, 0] * NORMALISATION.sd + NORMALISATION.mean).round()
    return (counts[:, 0, 0] * 200 + counts[:, 0, 1]).to(torch.int64).tolist()


@pytest.fixture(scope="module")
def uninterrupted() -> Recorder:
    return fit(module(Noise(in_workers=False)), 3)[0]


def test_a_step_sees_normalised_augmented_patterns_of_the_other_folds(uninterrupted: Recorder) -> None:
    assert len(uninterrupted.seen) == 3 * BATCHES
    for batch in uninterrupted.seen:
        assert batch.patterns.shape == (6, 1, *SHAPE)
        assert batch.patterns.dtype == torch.float32
        indices = pattern_indices(batch.patterns)
        assert set(indices) <= set(SPLITS.train_of(1).tolist())
        assert batch.labels.tolist() == LABELS[indices].tolist()
        assert torch.all(batch.patterns[:, 0, -1, -1] == NORMALISATION.zero)
        expected = NORMALISATION(torch.from_numpy(RUN.frames[indices].astype(np.float32)))[:, None]
        difference = (batch.patterns - expected)[:, 0].flatten(1)[:, :-1]
        assert 0.0001 < difference.std() < 0.01
    noise = {batch.patterns[0, 0, 1, 1].item() for batch in uninterrupted.seen}
    assert len(noise) == 3 * BATCHES


def test_validation_sees_counts_of_each_pattern_of_the_fold_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spi_lightning.data.datamodule.BLOCK", 8)
    recorder = fit(module(Noise(in_workers=False)), 1)[0]
    validation = SPLITS.validation_of(1)
    assert [len(block.labels) for block in recorder.validated] == [8] * (len(validation) // 8) + [len(validation) % 8]
    counts = torch.cat([block.counts for block in recorder.validated])
    assert counts.dtype == torch.uint8
    np.testing.assert_array_equal(counts, RUN.frames[validation])
    assert torch.cat([block.labels for block in recorder.validated]).tolist() == LABELS[validation].tolist()


@pytest.mark.parametrize("in_workers", [True, False])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_and_where_augmentation_runs_change_nothing(
    uninterrupted: Recorder, workers: int, in_workers: bool
) -> None:
    recorder = fit(module(Noise(in_workers), workers), 2)[0]
    assert same(recorder.seen, uninterrupted.seen[: 2 * BATCHES])


def test_folds_and_seeds_draw_for_themselves(uninterrupted: Recorder) -> None:
    other = fit(module(Noise(in_workers=False), fold=2), 1)[0]
    noise = [{batch.patterns[0, 0, 1, 1].item() for batch in one.seen} for one in (other, uninterrupted)]
    assert noise[0].isdisjoint(noise[1])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("when", "done"),
    [
        ({"every_n_epochs": 1, "save_on_train_epoch_end": True}, 2 * BATCHES),
        ({"every_n_epochs": 1, "save_on_train_epoch_end": False}, 2 * BATCHES),
        ({"every_n_train_steps": 3}, 9),  # in the middle of the second epoch
        ({"every_n_train_steps": 2}, 4),  # in the middle of the first
    ],
)
def test_a_resumed_training_goes_on_with_the_batches_that_are_due(
    uninterrupted: Recorder, tmp_path: Path, when: dict[str, Any], done: int, workers: int
) -> None:
    checkpoint = ModelCheckpoint(tmp_path, save_top_k=-1, **when)
    first = fit(module(Noise(in_workers=False), workers), 2, callbacks=[checkpoint])[0]
    assert same(first.seen, uninterrupted.seen[: 2 * BATCHES])
    (saved,) = tmp_path.glob(f"*step={done}.ckpt")
    resumed, trainer = fit(module(Noise(in_workers=False), workers), 3, resume=saved)
    assert same(resumed.seen, uninterrupted.seen[done:])
    assert trainer.global_step == 3 * BATCHES
    assert torch.equal(resumed.weight, uninterrupted.weight)


def test_ranks_share_training_batches_and_each_validates_all() -> None:
    class TwoDevices:
        world_size = 2
        strategy = type("Strategy", (), {"root_device": torch.device("cpu")})

        def __init__(self, rank: int) -> None:
            self.global_rank = rank

    def batches(rank: int | None) -> tuple[list[Batch], list[LabelledCounts]]:
        data = module(NoAugmentation())
        data.trainer = None if rank is None else TwoDevices(rank)  # type: ignore[assignment]
        return list(data.train_dataloader()), list(data.val_dataloader())

    (whole, validation), *ranks = (batches(rank) for rank in (None, 0, 1))
    for batch, *parts in zip(whole, *(training for training, _ in ranks), strict=True):
        assert torch.equal(batch.patterns, torch.cat([part.patterns for part in parts]))
        assert torch.equal(batch.labels, torch.cat([part.labels for part in parts]))
        assert all(len(part.labels) == 3 for part in parts)
    for _, validated in ranks:
        assert same(validated, validation)


@pytest.mark.parametrize("group", [1, 3, 8])
def test_an_epoch_can_be_entered_in_the_middle_of_a_group(group: int) -> None:
    seeds: list[int] = []

    class Told(Noise):
        def __call__(self, patterns: torch.Tensor, mask: torch.Tensor, zero: float, seed: int) -> torch.Tensor:
            seeds.append(seed)
            return super().__call__(patterns, mask, zero, seed)

    rows = HELD.rows(SPLITS.train_of(1))
    sampler = SingleHitSampler(rows, HELD.labels[rows], SamplerSettings(0.3, 6, BATCHES), 4, 1)
    finish = finishing(Told(False), NORMALISATION, torch.from_numpy(HELD.mask))
    loader = on_device(HELD, sampler, finish, torch.device("cpu"), group)
    whole = list(loader)
    assert [len(batch.labels) for batch in whole] == [6] * BATCHES
    assert seeds == sampler.seeds_of(0)[::group]
    drawn = sampler.rows_of(0)
    assert [pattern_indices(batch.patterns) for batch in whole] == HELD.indices[drawn].tolist()
    for step in range(BATCHES):
        loader.load_state_dict({"epoch": 0, "step": step})
        rest = list(loader)
        assert same(rest, whole[step:])
        assert loader.state_dict() == {"epoch": 0, "step": BATCHES}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_batches_are_the_same() -> None:
    rows = HELD.rows(SPLITS.train_of(1))
    found = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        sampler = SingleHitSampler(rows, HELD.labels[rows], SamplerSettings(0.3, 6, 20), 4, 1, device=device)
        finish = finishing(NoAugmentation(), NORMALISATION, torch.from_numpy(HELD.mask).to(device))
        found.append(list(on_device(HELD, sampler, finish, device)))
    for on_cpu, on_gpu in zip(*found, strict=True):
        assert on_gpu.patterns.is_cuda
        assert torch.allclose(on_gpu.patterns.cpu(), on_cpu.patterns)
        assert torch.equal(on_gpu.labels.cpu(), on_cpu.labels)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"fold": 3}, "fold is 3; it must be from 0 to 2"),
        ({"fold": -1}, "fold is -1"),
        ({"workers": -1}, "workers is -1"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, int], text: str) -> None:
    with pytest.raises(SpiError, match=text):
        module(NoAugmentation(), **wrong)
