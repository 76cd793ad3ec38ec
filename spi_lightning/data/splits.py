"""Which labelled patterns train, in which fold they validate, and which are kept for the test; drawn and checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spi_lightning.data.groups import GroupKind, groups_of
from spi_lightning.errors import SpiError, require
from spi_lightning.patterns.frames import Frames


@dataclass(frozen=True)
class SplitSettings:
    """How the labelled patterns are divided.

    Attributes:
        singles: single hits in the training set; None: all but ``test_share`` of them.
        others: other patterns in the training set; None: all but ``test_share`` of them.
        test_share: share kept for the test of a class whose number is None.
        folds: parts of the training set; each validates the model that is trained on the others.
        seed: of every random choice.
        group: patterns of a group stay together in one fold, or in the test set.
        blocks: number of blocks, for ``group: block``.
        test: random: the training set is drawn from everywhere; later: from the first groups that hold enough patterns,
            and the test set is the rest of the experiment after them.
        validation: random: stratified folds, drawn at random; consecutive: folds are stretches of the experiment with
            about equally many single hits each.
    """

    singles: int | None = 100
    others: int | None = 19_900
    test_share: float = 0.2
    folds: int = 5
    seed: int = 1
    group: GroupKind = "none"
    blocks: int = 50
    test: Literal["random", "later"] = "random"
    validation: Literal["random", "consecutive"] = "random"

    def __post_init__(self) -> None:
        for name in ("singles", "others"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"split.{name}", value, "1 or more, or null for a share of all")
        require(0 <= self.test_share < 1, "split.test_share", self.test_share, "a share, from 0 to below 1")
        require(self.folds >= 2, "split.folds", self.folds, "2 or more")
        require(0 <= self.seed < 2**32, "split.seed", self.seed, "from 0 to 4294967295")
        require(self.blocks >= 1, "split.blocks", self.blocks, "1 or more")


@dataclass(frozen=True, eq=False)
class Splits:
    """A division of a run's labelled patterns that has passed :func:`check`.

    Attributes:
        scheme: the settings that it was made with.
        fingerprint: of the data, :meth:`~spi_lightning.patterns.frames.Frames.fingerprint`.
        labels_fingerprint: of the labels, which the data's does not cover.
        ids: of all patterns of the run, str ``(n,)``.
        labels: of all patterns of the run, int8 ``(n,)``: 1 single hit, 0 other, -1 unknown.
        folds: int64 indices into the run, ascending, of each fold's validation patterns.
        test: int64 indices into the run, ascending; may be empty.
    """

    scheme: SplitSettings
    fingerprint: str
    labels_fingerprint: str
    ids: np.ndarray
    labels: np.ndarray
    folds: list[np.ndarray]
    test: np.ndarray

    @property
    def training(self) -> np.ndarray:
        """Indices of the whole training set, all folds together, ascending."""
        return np.sort(np.concatenate(self.folds))

    def train_of(self, fold: int) -> np.ndarray:
        """Indices of the patterns that the model of ``fold`` is trained on: the other folds', ascending."""
        return np.sort(np.concatenate([part for k, part in enumerate(self.folds) if k != fold]))

    def validation_of(self, fold: int) -> np.ndarray:
        """Indices of the patterns that the model of ``fold`` is validated on, ascending."""
        return self.folds[fold]

    @property
    def unlabelled(self) -> int:
        """Patterns that take no part because they have no label."""
        return int((self.labels < 0).sum())

    @property
    def set_aside(self) -> int:
        """Labelled patterns in neither set: what was not drawn from a group that the training set was drawn from."""
        return len(self.ids) - self.unlabelled - len(self.training) - len(self.test)


def make_splits(run: Frames, settings: SplitSettings) -> Splits:
    """Divide the labelled patterns of a run; the same labels, ids and settings give the same division.

    Without groups, the training set is drawn at random and all other labelled patterns are the test set. With groups,
    or with ``test: later``, whole groups are taken (in random order, or from the beginning of the experiment) until
    they hold enough patterns of each class; the wanted numbers are drawn from these, the rest of them is set aside,
    and the test set is made of the other groups. Folds are scikit-learn's StratifiedKFold or StratifiedGroupKFold.

    Raises:
        SpiError: there are no labels; fewer patterns than asked for; no pattern is left for the test; or a fold
            would have no single hit, or no other pattern.
    """
    labels = _labels(run)
    groups = groups_of(run, settings.group, settings.blocks)
    wanted = {label: _wanted(labels, label, settings) for label in (1, 0)}
    rng = np.random.default_rng(settings.seed)
    if settings.group == "none" and settings.test == "random":
        drawn = [rng.choice(np.flatnonzero(labels == label), n, replace=False) for label, n in wanted.items()]
        training = np.sort(np.concatenate(drawn))
        test = np.setdiff1d(np.flatnonzero(labels >= 0), training)
    else:
        training, test = _whole_groups(labels, groups, wanted, settings, rng)
    no_test_wanted = settings.singles is None and settings.others is None and settings.test_share == 0
    if len(test) == 0 and not no_test_wanted:
        raise SpiError(
            f"No pattern is left for the test set: {len(training)} of {int((labels >= 0).sum())} labelled patterns are "
            f"in the training set, and the rest is in its groups (split.group={settings.group}). Ask for fewer with "
            "split.singles=NUMBER and split.others=NUMBER, or group more finely. To do without a test set: "
            "split.singles=null split.others=null split.test_share=0."
        )
    folds = _folds(training, labels, groups, settings)
    splits = Splits(settings, run.fingerprint(), labels_fingerprint(labels), run.ids, labels, folds, test)
    check(splits, f"The splits (split.group={settings.group}, split.validation={settings.validation})")
    return splits


def check(splits: Splits, name: str) -> None:
    """Refuse a division that would make scores meaningless.

    Args:
        splits: the division.
        name: what to call it.

    Raises:
        SpiError: a pattern occurs twice or has no label; a fold has no single hit, or no other pattern.
    """
    parts = {f"fold {k}": part for k, part in enumerate(splits.folds)} | {"the test set": splits.test}
    times = np.bincount(np.concatenate(list(parts.values())), minlength=len(splits.ids))
    if (twice := np.flatnonzero(times > 1)).size:
        where = [part for part, indices in parts.items() for index in indices if index == twice[0]]
        raise SpiError(
            f"{name}: {len(twice)} patterns occur more than once, for instance '{splits.ids[twice[0]]}' in "
            f"{' and '.join(where)}. A pattern may be in one fold, or in the test set. Give another "
            "run=FOLDER, which makes its own splits."
        )
    if (unknown := np.flatnonzero((times > 0) & (splits.labels < 0))).size:
        raise SpiError(
            f"{name}: {len(unknown)} patterns have no label, for instance '{splits.ids[unknown[0]]}'. Only labelled "
            "patterns can train or test. Give another run=FOLDER, which makes its own splits."
        )
    for k, fold in enumerate(splits.folds):
        for label, kind in ((1, "single hit"), (0, "pattern that is no single hit")):
            if not (splits.labels[fold] == label).any():
                raise SpiError(
                    f"{name}: fold {k} of {len(splits.folds)} has no {kind} among its {len(fold)} patterns; it could "
                    "not be scored. Ask for fewer folds (split.folds=NUMBER), for more patterns (split.singles, "
                    "split.others), or for more and smaller groups."
                )


def labels_fingerprint(labels: np.ndarray) -> str:
    """SHA-256 (hex) of the labels of a run."""
    return hashlib.sha256(labels.astype(np.int8).tobytes()).hexdigest()


def _labels(run: Frames) -> np.ndarray:
    if run.labels is None:
        about = " ".join(note for note in run.notes if "label" in note)
        raise SpiError(
            "The data has no labels, so there is nothing to train on. Give them with data.prepare.labels.path=FILE."
            + (f" {about}" if about else "")
        )
    singles, others = (int((run.labels == label).sum()) for label in (1, 0))
    if not singles or not others:
        raise SpiError(
            f"The labels know {singles} single hits and {others} others among {len(run)} patterns; both are needed. "
            "Give other labels with data.prepare.labels.path=FILE."
        )
    return run.labels


def _wanted(labels: np.ndarray, label: int, settings: SplitSettings) -> int:
    """How many patterns with this label the training set shall have, at least."""
    there = int((labels == label).sum())
    name, kind = ("singles", "single hits") if label == 1 else ("others", "patterns that are no single hits")
    asked = getattr(settings, name)
    if asked is None:
        return round((1 - settings.test_share) * there)
    if asked > there:
        raise SpiError(
            f"split.{name} asks for {asked} {kind} in the training set, but the data has {there} with that label "
            f"({len(labels)} patterns, {int((labels < 0).sum())} of them without a label). Ask for at most {there} "
            f"with split.{name}=NUMBER, or for a share of all with split.{name}=null."
        )
    return asked


def _whole_groups(
    labels: np.ndarray, groups: np.ndarray, wanted: dict[int, int], settings: SplitSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Training and test indices such that no group has patterns in both."""
    number = int(groups.max(initial=-1)) + 1
    order = np.arange(number) if settings.test == "later" else rng.permutation(number)
    held = {label: np.cumsum(np.bincount(groups[labels == label], minlength=number)[order]) for label in wanted}
    needed = max(int(np.searchsorted(held[label], n)) for label, n in wanted.items()) + 1
    taken = np.isin(groups, order[:needed])
    training = []
    for label, asked in ((1, settings.singles), (0, settings.others)):
        pool = np.flatnonzero(taken & (labels == label))
        training.append(pool if asked is None else rng.choice(pool, asked, replace=False))
    return np.sort(np.concatenate(training)), np.flatnonzero(~taken & (labels >= 0))


def _folds(training: np.ndarray, labels: np.ndarray, groups: np.ndarray, settings: SplitSettings) -> list[np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels, groups, folds = labels[training], groups[training], settings.folds
    counts = {
        "single hits": int((labels == 1).sum()),
        "patterns that are no single hits": int((labels == 0).sum()),
        f"groups (split.group={settings.group})": len(np.unique(groups)),
    }
    for kind, count in counts.items():
        if count < folds:
            raise SpiError(
                f"split.folds is {folds}, but the training set has {count} {kind}: not one for every fold. Ask for "
                "fewer folds (split.folds=NUMBER), for more patterns (split.singles, split.others), or group more "
                "finely."
            )
    if settings.validation == "consecutive":
        fold_of = _stretches(labels, groups, folds)
        return [training[fold_of == k] for k in range(folds)]
    if settings.group == "none":
        drawn = StratifiedKFold(folds, shuffle=True, random_state=settings.seed).split(training, labels)
    else:
        drawn = StratifiedGroupKFold(folds, shuffle=True, random_state=settings.seed).split(training, labels, groups)
    return [training[validation] for _, validation in drawn]


def _stretches(labels: np.ndarray, groups: np.ndarray, folds: int) -> np.ndarray:
    """Fold of each pattern: consecutive groups with about as many single hits in each fold, as these are scarce."""
    singles = np.bincount(groups[labels == 1], minlength=int(groups.max()) + 1)
    middle = np.cumsum(singles) - singles / 2
    return np.minimum((middle * folds / singles.sum()).astype(np.int64), folds - 1)[groups]
