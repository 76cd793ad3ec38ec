"""Table 5: how many patterns selections share."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from spi_lightning.analysis import overlap
from spi_lightning.errors import SpiError, nearest, require
from spi_lightning.provenance import write_text
from spi_lightning.report.layout import csv_text, markdown, printed
from spi_lightning.report.paper_selections import PAPER_INTERSECTIONS, PAPER_THREES, beside

if TYPE_CHECKING:
    from spi_lightning.selection.results import Selection

TITLE, BESIDE = "Overlap of the selections", "Beside the paper"
NOTE = (
    "Patterns in both selections, and intersection over union (IoU); the size of each selection is in brackets. "
    "There is none (–) where all are empty."
)
PAPER_NOTE = "Paper: Table 5 and section 4.3 of Assalauova et al. (2022)."


@dataclass(frozen=True)
class Shared:
    """What two or more selections have in common.

    Attributes:
        selections: their names.
        patterns: in all of them.
        iou: this as a share of the patterns in any of them; NaN where that is none.
        paper_patterns: the paper's number for the selections beside ours; None where it gives none.
        paper_iou: the paper's share, which it rounds to a per cent.
    """

    selections: tuple[str, ...]
    patterns: int
    iou: float
    paper_patterns: int | None = None
    paper_iou: float | None = None


def memberships(selections: Mapping[str, Selection], n: int) -> torch.Tensor:
    """Which pattern is in which selection.

    Args:
        selections: by name.
        n: patterns of the run.

    Returns:
        bool ``(selections, n)``.
    """
    member = torch.zeros((len(selections), n), dtype=torch.bool)
    for row, selection in zip(member, selections.values(), strict=True):
        row[torch.from_numpy(selection.kept)] = True
    return member


def shared(
    selections: Mapping[str, Selection],
    n: int,
    joint: Sequence[Sequence[str]] = (),
    paper: Mapping[str, str] | None = None,
) -> list[Shared]:
    """Every pair of selections, each with itself first, and joint intersections of more.

    Args:
        selections: by name.
        n: patterns of the run.
        joint: groups of selections to intersect, three or more names each; the paper's two threes come besides where
            all three are there.
        paper: the paper's names by ours, see :func:`spi_lightning.report.paper_selections.beside`.

    Raises:
        SpiError: ``joint`` names a selection that is not there, or fewer than two.
    """
    names, member = list(selections), memberships(selections, n)
    theirs = beside(names, paper)
    both, iou = overlap.intersections(member), overlap.iou(member)
    pairs = itertools.combinations_with_replacement(range(len(names)), 2)
    found = [_beside((names[i], names[j]), int(both[i, j]), float(iou[i, j]), theirs) for i, j in pairs]
    for three in _threes(names, joint, theirs):
        patterns, share = overlap.joint(member[[names.index(name) for name in three]])
        found.append(_beside(three, int(patterns), float(share), theirs))
    return found


def write_overlap(folder: Path, found: list[Shared]) -> None:
    """Write and print Table 5.

    Args:
        folder: receives ``overlap.csv`` (all digits; names joined by ``; ``) and ``overlap.md``. It must exist.
        found: of :func:`shared`.
    """
    from rich.console import Console

    rows = [{**dataclasses.asdict(each), "selections": "; ".join(each.selections)} for each in found]
    write_text(folder / "overlap.csv", csv_text([field.name for field in dataclasses.fields(Shared)], rows))
    parts, console = [f"## {TITLE}", markdown(*_matrix(found, "{patterns} · {iou} %"), 2), NOTE], Console()
    for title, cell in ((TITLE, "{patterns}"), ("Intersection over union, per cent", "{iou}")):
        console.print(printed(title, *_matrix(found, cell), 2))
    for title, chosen in (
        ("Shared by three and more", [each for each in found if len(each.selections) > 2]),
        (BESIDE, [each for each in found if len(each.selections) == 2 and each.paper_patterns is not None]),
    ):
        if chosen:
            header, lines = _list(chosen)
            parts += [f"### {title}", markdown(header, lines)]
            console.print(printed(title, header, lines))
    if any(each.paper_patterns is not None for each in found):
        parts.append(PAPER_NOTE)
    write_text(folder / "overlap.md", "\n\n".join(parts) + "\n")


def _threes(names: list[str], joint: Sequence[Sequence[str]], theirs: Mapping[str, str]) -> list[tuple[str, ...]]:
    for name in itertools.chain.from_iterable(joint):
        if name not in names:
            raise SpiError(
                f"There is no selection {name!r} to intersect.{nearest(name, names)} There are: {', '.join(names)}."
            )
    for group in joint:
        require(len(set(group)) > 1, "joint", list(group), "groups of two or more different selections")
    ours = {paper: name for name, paper in theirs.items()}
    known = [three for three in PAPER_THREES if three <= ours.keys()]
    found = [
        tuple(name for name in names if theirs.get(name) in three and ours[theirs[name]] == name) for three in known
    ]
    return list(dict.fromkeys([*found, *(tuple(three) for three in joint)]))


def _beside(names: tuple[str, ...], patterns: int, iou: float, theirs: Mapping[str, str]) -> Shared:
    paper = PAPER_INTERSECTIONS.get(frozenset(theirs.get(name, "") for name in names))
    if paper is None or len(set(names)) != len({theirs[name] for name in names}):
        return Shared(names, patterns, iou)
    return Shared(names, patterns, iou, paper[0], paper[1] / 100)


def _matrix(found: list[Shared], cell: str) -> tuple[list[str], list[list[str]]]:
    pairs = {frozenset(each.selections): each for each in found if len(each.selections) == 2}
    sizes = {name: pairs[frozenset([name])].patterns for each in pairs.values() for name in each.selections}
    numbers = [str(index) for index in range(1, len(sizes) + 1)]
    lines = []
    for number, (name, size) in zip(numbers, sizes.items(), strict=True):
        shares = [pairs[frozenset([name, other])] for other in sizes]
        cells = [cell.format(patterns=each.patterns, iou=_per_cent(each.iou)) for each in shares]
        lines.append([number, f"{name} ({size})", *cells])
    return ["", "Selection", *numbers], lines


def _list(found: list[Shared]) -> tuple[list[str], list[list[str]]]:
    lines = [
        [
            " ∩ ".join(each.selections),
            str(each.patterns),
            f"{_per_cent(each.iou)} %",
            "" if each.paper_patterns is None else str(each.paper_patterns),
            "" if each.paper_iou is None else f"{_per_cent(each.paper_iou)} %",
        ]
        for each in found
    ]
    return ["Selections", "Patterns", "IoU", "Paper", "Paper: IoU"], lines


def _per_cent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f}"
