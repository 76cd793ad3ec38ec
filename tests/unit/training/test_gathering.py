"""From trained folds to an ensemble, and what is refused on the way."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from spi_lightning.data.normalisation import Normalisation
from spi_lightning.data.splits import SplitSettings
from spi_lightning.errors import SpiError
from spi_lightning.inference.ensemble import ready
from spi_lightning.training.fold import train_fold
from spi_lightning.training.gathering import first_looks, out_of_fold, trained_networks
from spi_lightning.training.shared import read_normalisation, settled_normalisation, settled_splits
from tests.unit.inference.small import small_ensemble
from tests.unit.training.easy import divided, easy_run, recipe, small_network


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    splits, training_set = divided(easy_run())
    for fold in (0, 1):
        (folder / "folds" / str(fold)).mkdir(parents=True)
        train_fold(recipe(training_set), training_set, splits, fold, folder / "folds" / str(fold))
    return folder


def test_every_training_pattern_has_one_out_of_fold_score(run_folder: Path) -> None:
    splits, _ = divided(easy_run())
    found = out_of_fold(run_folder, splits)
    ids = [name for scores in found for name in scores.ids.tolist()]
    assert sorted(ids) == sorted(splits.ids[splits.training].tolist())


def test_networks_are_those_of_the_folds(run_folder: Path) -> None:
    first, second = trained_networks(run_folder, 2, "last", small_network)
    stored = torch.load(run_folder / "folds/1/last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(second.head.weight, stored["network.head.weight"])
    assert not torch.equal(first.head.weight, second.head.weight)


def test_first_looks_are_by_networks_that_had_not_seen_the_patterns(run_folder: Path) -> None:
    run = easy_run()
    splits, training_set = divided(run)
    normalisation = recipe(training_set).normalisation
    networks = tuple(ready(network) for network in trained_networks(run_folder, 2, "last", small_network))
    ensemble = small_ensemble(2, run.shape, networks=networks, normalisation=normalisation, mirrors=("rows", "none"))
    unseen = out_of_fold(run_folder, splits)
    looks = first_looks(ensemble, run, splits, unseen)
    expected = set()
    for fold, indices in enumerate(splits.folds):
        counts = torch.from_numpy(run.read(indices))
        alone = dataclasses.replace(ensemble, networks=networks[fold : fold + 1], mirrors=("rows",))
        first = alone.probabilities(counts)[:, 0].logit().numpy()
        full = np.maximum(ensemble.probabilities(counts).mean(1).numpy(), unseen[fold].probabilities)
        for place in np.flatnonzero((splits.labels[indices] == 1) | (unseen[fold].probabilities >= looks.floor)):
            expected.add((round(float(first[place]), 2), round(float(full[place]), 3), fold))
    found = zip(np.round(looks.first, 2).tolist(), np.round(looks.full, 3).tolist(), looks.network, strict=True)
    assert looks.floor == ensemble.threshold / 4
    assert len(expected) > 5
    assert set(found) == expected


def test_missing_and_foreign_folds_are_told(run_folder: Path, tmp_path: Path) -> None:
    splits, _ = divided(easy_run())
    folder = tmp_path / "copy"
    shutil.copytree(run_folder, folder)
    shutil.copy(folder / "folds/0/predictions.h5", folder / "folds/1/predictions.h5")
    with pytest.raises(SpiError, match=r"does not hold the patterns that splits\.json has for this fold"):
        out_of_fold(folder, splits)
    (folder / "folds/1/predictions.h5").write_bytes(b"cut off")
    with pytest.raises(SpiError, match=r"remove .*folds/1 and start spi-train again"):
        out_of_fold(folder, splits)
    (folder / "folds/1/predictions.h5").unlink()
    with pytest.raises(SpiError, match="fold 1 of 2 is not finished"):
        out_of_fold(folder, splits)


def test_splits_are_made_once_and_not_made_otherwise(tmp_path: Path) -> None:
    run, settings = easy_run(), SplitSettings(singles=None, others=None, folds=2)
    made = settled_splits(tmp_path, run, settings)
    text = (tmp_path / "splits.json").read_text()
    assert settled_splits(tmp_path, run, settings).test.tolist() == made.test.tolist()
    assert (tmp_path / "splits.json").read_text() == text
    with pytest.raises(SpiError, match="was made in another way"):
        settled_splits(tmp_path, run, SplitSettings(singles=None, others=None, folds=2, seed=2))


def test_the_normalisation_is_that_of_the_training_set(tmp_path: Path) -> None:
    _, training_set = divided(easy_run())
    found = settled_normalisation(tmp_path, training_set, "none")
    assert found.mean == pytest.approx(training_set.counts.mean())
    assert found.sd == pytest.approx(training_set.counts.std())
    assert found.zero == pytest.approx(-found.mean / found.sd)
    assert isinstance(read_normalisation(tmp_path), Normalisation)
    for damaged in ('{"transform": "none", "mean": 0.0, "sd": 0.0}', '{"transform": "none", "mean": 0.0}', "{}", "{"):
        (tmp_path / "normalisation.json").write_text(damaged)
        with pytest.raises(SpiError, match=r"normalisation\.(sd|json)"):
            read_normalisation(tmp_path)
