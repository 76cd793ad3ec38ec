"""Bad settings: on the command line, and in a folder of configs of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.integration.bad_inputs import PATTERNS, PREDICT, TRAIN, Bad


def own(name: str, content: str) -> Callable[[Path], None]:
    """A config in the folder ``mine``."""

    def make(folder: Path) -> None:
        path = folder / "mine" / name
        path.parent.mkdir(parents=True)
        path.write_text(content)

    return make


SELECT = "spi-select run=predicted"
SIMULATE = "spi-simulate simulate=tiny workers=1 run=out"
SOME = f"{TRAIN} {PATTERNS}"

BAD = [
    Bad("a key that is not there", f"{SOME} trainer.epoch=3", ("trainer.epoch", "Did you mean 'epochs'", "Valid here")),
    Bad(
        "a block that is not there", f"{SOME} trainers.epochs=3", ("trainers", "no such key", "Did you mean 'trainer'")
    ),
    Bad("a word for a number", f"{SOME} trainer.epochs=many", ("trainer.epochs", "'many'", "integer")),
    Bad(
        "a choice of a group that is not there",
        f"{SOME} model=preact_resnt",
        ("model=preact_resnt", "Did you mean 'preact_resnet'"),
    ),
    Bad("a number for the choice of a group", "spi-simulate simulate=3", ("GROUP=NAME",)),
    Bad("no data", TRAIN, ("data.path", "must be given")),
    Bad("a fold that is not there", f"{SOME} fold=7", ("fold is 7", "0 to 1")),
    Bad("more single hits than there are", f"{SOME} split.singles=5000 split.others=10", ("split.singles", "5000")),
    Bad("several values without -m", f"{SOME} seed=1,2", ("seed=1,2", "-m")),
    Bad("several values, and --cfg", f"{SOME} -m --cfg job seed=1,2", ("--cfg", "Leave -m out")),
    Bad(
        "a logger that is not there",
        f"{SOME} logger=[csv,tensorbord]",
        ("logger=tensorbord", "Did you mean 'tensorboard'"),
    ),
    Bad(
        "a search of a number of trials that is none",
        f"{SOME} sweep=search hydra.sweeper.trials=many",
        ("hydra.sweeper.trials", "many"),
    ),
    Bad("a search without trials", f"{SOME} sweep=search hydra.sweeper.trials=0", ("hydra.sweeper.trials is 0",)),
    Bad(
        "a key of the launcher, mistyped",
        f"{SOME} -m seed=1,2 hydra/launcher=slurm_cpu hydra.launcher.timeout_mn=3",
        ("hydra.launcher.timeout_mn", "Did you mean 'timeout_min'"),
    ),
    Bad("an override that cannot be read", f"{SOME} 'seed=[1'", ("seed=[1", "KEY=VALUE")),
    Bad("a value that refers to itself", f"{SOME} 'seed=${{seed}}'", ("seed",)),
    Bad("a resolver that is not there", f"{SOME} 'paper=${{shell:ls}}'", ("shell",)),
    Bad(
        "a class that is not on the list",
        f"{SOME} model._target_=os.system",
        ("model._target_", "os.system", "Allowed"),
    ),
    Bad("a class that is missing", f"{SOME} '~loss._target_'", ("loss._target_",)),
    Bad("a learning rate below zero", f"{SOME} optimizer.lr=-0.1", ("optimizer", "lr is -0.1")),
    Bad(
        "a config folder that is not there", f"{SOME} --config-dir nowhere", ("--config-dir nowhere", "no such folder")
    ),
    Bad(
        "YAML of one's own that cannot be parsed",
        f"{SOME} --config-dir mine model=mine",
        ("mine.yaml",),
        own("model/mine.yaml", "a: [1, 2\nb: }"),
    ),
    Bad(
        "a network of one's own with a key too many",
        f"{SOME} --config-dir mine model=mine",
        ("model.depth",),
        own("model/mine.yaml", "_target_: spi_lightning.models.small_cnn.SmallCNN\ndepth: 3\n"),
    ),
    Bad(
        "YAML of one's own that holds a list",
        f"{SOME} --config-dir mine model=mine",
        ("model", "list"),
        own("model/mine.yaml", "- 1\n- 2\n"),
    ),
    Bad(
        "YAML of one's own with a tag for Python",
        f"{SOME} --config-dir mine model=mine",
        ("mine.yaml", "python/object"),
        own("model/mine.yaml", "_target_: !!python/object/apply:os.system ['true']\n"),
    ),
    Bad(
        "a YAML file of one's own that is binary",
        f"{SOME} --config-dir mine model=mine",
        ("--config-dir", "utf-8"),
        lambda f: (own("model/mine.yaml", "")(f), (f / "mine/model/mine.yaml").write_bytes(b"\x80\x81\xff\0")),
    ),
    Bad(
        "a preset of one's own that includes itself",
        f"{SOME} --config-dir mine experiment=mine",
        ("includes itself",),
        own("experiment/mine.yaml", "# @package _global_\ndefaults: [mine]\nseed: 3\n"),
    ),
    Bad(
        "a step that is not there",
        f"{SELECT} '+selections.mine=[threshold,sise]'",
        ("selections.mine", "sise", "Did you mean 'size'"),
    ),
    Bad("a selection without steps", f"{SELECT} '+selections.mine=[]'", ("selections.mine", "no steps")),
    Bad(
        "two selections for one file",
        f"{SELECT} '+selections={{a b: [threshold], a/b: [threshold]}}'",
        ("a b", "a/b", "same files"),
    ),
    Bad("a size range upside down", f"{SELECT} steps.size.smallest=80.0 steps.size.largest=40.0", ("size",)),
    Bad("a threshold above one", f"{PREDICT} {PATTERNS} threshold=1.5", ("threshold", "1.5")),
    Bad(
        "a mixture without single hits",
        f"{SIMULATE} simulate.composition.single.share=-1.0",
        ("simulate.composition.single.share", "-1"),
    ),
    Bad("a particle that is not there", f"{SIMULATE} simulate.composition.single.particles=[unicorn]", ("unicorn",)),
    Bad(
        "a density map that is no map",
        f"{SIMULATE} particle@simulate.particles.virus=density_map "
        "simulate.particles.virus.map_diameter=60.0 simulate.particles.virus.path=simulated/patterns.cxi",
        ("patterns.cxi",),
    ),
    Bad(
        "a beam stop over the whole detector",
        f"{SIMULATE} simulate.detector.beamstop_radius=1.0e4",
        ("simulate.detector",),
    ),
    Bad("a run folder without a name", "spi-inspect data.path=simulated/patterns.cxi run=", ("run",)),
    Bad(
        "a run folder below a file",
        f"{SOME} run=simulated/config.yaml/out",
        ("simulated/config.yaml/out", "cannot be made", "run=FOLDER"),
    ),
]
