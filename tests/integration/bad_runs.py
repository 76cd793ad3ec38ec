"""Bad run folders: ensembles, checkpoints, scores, splits, and what is left of jobs."""

from __future__ import annotations

import math
import shutil
from hashlib import sha256

import numpy as np
import torch

from tests.integration.bad_inputs import PATTERNS, PREDICT, Bad
from tests.integration.conftest import SMALL
from tests.integration.spoiling import (
    FOLD,
    all_of,
    another_network,
    architecture,
    at_work,
    cut,
    hdf5_with,
    inside,
    json_with,
    removed,
    setting,
    unfinished,
    weights,
    written,
)

AGAIN = " ".join(SMALL[1])  # the training, once more
EVALUATE = "spi-evaluate run=trained"
SELECT = "spi-select run=predicted callbacks=none"
SELECT_TRAINED = "spi-select run=trained callbacks=none"
SCORE = f"{PREDICT} {PATTERNS}"


BAD = [
    # ensembles
    Bad(
        "the run in place of its ensemble",
        f"spi-predict ensemble=trained run=out {PATTERNS}",
        ("Did you mean trained/ensemble",),
    ),
    Bad(
        "an ensemble without weights",
        SCORE,
        ("weights.safetensors", "copy the folder again"),
        removed("trained/ensemble/weights.safetensors"),
    ),
    Bad(
        "weights cut short",
        SCORE,
        ("weights.safetensors", "SHA-256", "Copy both"),
        cut("trained/ensemble/weights.safetensors"),
    ),
    Bad(
        "weights that are no safetensors",
        SCORE,
        ("weights.safetensors", "not a safetensors file"),
        all_of(
            written("trained/ensemble/weights.safetensors", b"weights"),
            json_with("trained/ensemble/ensemble.json", weights_sha256=sha256(b"weights").hexdigest()),
        ),
    ),
    Bad(
        "weights of another shape",
        SCORE,
        ("weights.safetensors", "network 0", "expected was"),
        weights(lambda t: t.update({next(iter(t)): torch.zeros(3, 3)})),
    ),
    Bad(
        "weights that are NaN",
        SCORE,
        ("weights.safetensors", "not finite"),
        weights(lambda t: [v.fill_(math.nan) for v in t.values() if v.is_floating_point()]),
    ),
    Bad(
        "an ensemble.json that breaks off",
        SCORE,
        ("ensemble.json", "not JSON"),
        written("trained/ensemble/ensemble.json", "{"),
    ),
    Bad(
        "an ensemble of version 99",
        SCORE,
        ("ensemble.json", "version 99", "Use the version"),
        json_with("trained/ensemble/ensemble.json", version=99),
    ),
    Bad(
        "an ensemble whose network was renamed",
        SCORE,
        ("ensemble.json", "architecture", "not on the list"),
        architecture(_target_="torch.nn.Linear"),
    ),
    Bad(
        "an ensemble whose normalisation divides by zero",
        SCORE,
        ("ensemble.json", "normalisation"),
        json_with("trained/ensemble/ensemble.json", normalisation={"transform": "none", "mean": 0.0, "std": 0.0}),
    ),
    # checkpoints and what folds leave
    Bad(
        "a checkpoint cut short",
        AGAIN,
        (FOLD + "last.ckpt", "Remove the fold's folder"),
        unfinished(cut(FOLD + "last.ckpt")),
    ),
    Bad(
        "a checkpoint of another network",
        EVALUATE,
        (FOLD + "last.ckpt", "Remove the fold's folder"),
        another_network,
    ),
    Bad(
        "a checkpoint that is text",
        EVALUATE,
        (FOLD + "last.ckpt", "Remove the fold's folder"),
        written(FOLD + "last.ckpt", "weights\n"),
    ),
    Bad(
        "a fold that is not finished",
        EVALUATE,
        ("fold 1 of 2 is not finished", "spi-train"),
        removed("trained/folds/1/predictions.h5"),
    ),
    Bad(
        "predictions of another fold",
        EVALUATE,
        ("folds/0/predictions.h5",),
        lambda f: shutil.copy(f / "trained/folds/1/predictions.h5", f / FOLD / "predictions.h5"),
    ),
    Bad(
        "splits of other data", EVALUATE, ("splits.json", "other data"), json_with("trained/splits.json", data="0" * 64)
    ),
    Bad("splits that break off", AGAIN, ("splits.json", "JSON"), unfinished(cut("trained/splits.json"))),
    Bad(
        "a normalisation that is none",
        EVALUATE,
        ("normalisation.json", "Remove it"),
        written("trained/normalisation.json", "NaN?"),
    ),
    Bad(
        "patterns that have moved since",
        SELECT_TRAINED,
        ("patterns.cxi", "does not exist"),
        removed("simulated/patterns.cxi"),
    ),
    Bad(
        "patterns that are others now",
        SELECT_TRAINED,
        ("splits.json", "other data"),
        hdf5_with("simulated/patterns.cxi", "entry_1/image_1/data", np.ones((120, 96, 48), np.uint16)),
    ),
    Bad(
        "labels that are others now",
        SELECT_TRAINED,
        ("splits.json", "other labels"),
        hdf5_with("simulated/patterns.cxi", "entry_1/image_1/labels", np.arange(120, dtype=np.int8) % 2),
    ),
    # scores
    Bad("scores that are missing", SELECT_TRAINED, ("trained", "no scores.h5"), removed("trained/scores.h5")),
    Bad("scores cut short", SELECT, ("predicted/scores.h5", "truncated"), cut("predicted/scores.h5")),
    Bad(
        "scores of another run",
        SELECT,
        ("predicted/scores.h5", "Run spi-predict again"),
        hdf5_with("predicted/scores.h5", "@data", "0" * 64),
    ),
    Bad(
        "scores of unknown patterns",
        SELECT,
        ("predicted/scores.h5", "not in this run"),
        hdf5_with("predicted/scores.h5", "id", np.array([f"run7:{i}" for i in range(120)], "S8")),
    ),
    Bad(
        "scores, one too few",
        SELECT,
        ("predicted/scores.h5", "different numbers"),
        hdf5_with("predicted/scores.h5", "probability", np.zeros(119, np.float32)),
    ),
    Bad(
        "scores that are NaN",
        SELECT,
        ("predicted/scores.h5", "no probabilities"),
        hdf5_with("predicted/scores.h5", "probability", np.full(120, np.nan, np.float32)),
    ),
    Bad(
        "scores that do not say of what",
        SELECT,
        ("predicted/scores.h5", "attributes"),
        hdf5_with("predicted/scores.h5", "@data", 3),
    ),
    # run folders
    Bad("a run folder that is not there", "spi-evaluate run=nowhere", ("nowhere",)),
    Bad("an empty folder to report", "spi-report run=empty", ("empty",), inside("empty")),
    Bad("an empty folder to select in", "spi-select run=empty", ("empty",), inside("empty")),
    Bad("the run folder of a simulation to evaluate", "spi-evaluate run=simulated", ("simulated", "training")),
    Bad("a file in place of a run folder", "spi-report run=simulated/patterns.cxi", ("simulated/patterns.cxi",)),
    Bad(
        "a training whose tables are gone, to reproduce",
        "spi-reproduce run=trained",
        ("trained", "tables", "spi-evaluate"),
        removed("trained/tables"),
    ),
    Bad(
        "a run folder where nothing can be written",
        f"spi-inspect {PATTERNS} run=/proc/spi-lightning",
        ("/proc/spi-lightning", "cannot be made", "run=FOLDER"),
    ),
    Bad(
        "a part of an interrupted simulation, damaged",
        "spi-simulate simulate=tiny workers=1 run=out",
        ("part-00000000-00000060.h5", "remove it"),
        all_of(inside("out/parts"), written("out/parts/part-00000000-00000060.h5", "patterns")),
    ),
    Bad("a prediction to reproduce", "spi-reproduce run=predicted", ("predicted", "training")),
    Bad(
        "a training of other labels, to reproduce",
        "spi-reproduce run=trained",
        ("labels",),
        hdf5_with("simulated/patterns.cxi", "entry_1/image_1/labels", np.arange(120, dtype=np.int8) % 2),
    ),
    Bad(
        "a config that cannot be parsed",
        EVALUATE,
        ("trained/config.yaml", "not the config of a training"),
        written("trained/config.yaml", "a: [1\nb: }"),
    ),
    Bad(
        "a config of another version",
        EVALUATE,
        ("trained/config.yaml", "another version's", "optimiser"),
        setting("trained", "optimizer:", "optimiser:"),
    ),
    Bad(
        "a config that names a class out of the list",
        EVALUATE,
        ("trained/config.yaml", "subprocess.Popen", "not on the list"),
        setting("trained", "spi_lightning.models.small_cnn.SmallCNN", "subprocess.Popen"),
    ),
    Bad(
        "another training's folder",
        f"{AGAIN} seed=2",
        ("trained holds a job with other settings", "seed is 1 there and 2 here", "run=FOLDER"),
    ),
    Bad(
        "a prediction's folder to train in",
        f"spi-train experiment=tiny {PATTERNS} run=predicted",
        ("predicted", "other settings"),
    ),
    Bad(
        "a run that another process is at work in",
        SELECT,
        ("process 12345 on beamline-7", "predicted"),
        at_work("predicted"),
    ),
]
