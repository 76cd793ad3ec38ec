"""Tables 4 and 5 of the paper, and which of our selections stands beside which of its own.

Source: Assalauova et al. (2022), J. Appl. Cryst. 55, section 4. Its text once says 827 patterns where Table 4 has 829.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spi_lightning.errors import SpiError, nearest


@dataclass(frozen=True)
class PaperSelection:
    """A row of Table 4.

    Attributes:
        patterns: how many it holds.
        contrast: of its PSD (eq. 5).
    """

    patterns: int
    contrast: float


PAPER_SELECTIONS = {
    "MaxF1": PaperSelection(1257, 0.63),
    "MaxF1 + EM": PaperSelection(893, 0.64),
    "MaxF1 + size": PaperSelection(1098, 0.64),
    "MaxF1 + EM + size": PaperSelection(829, 0.64),
    "moreSH": PaperSelection(2086, 0.59),
    "moreSH + EM": PaperSelection(1204, 0.64),
    "moreSH + size": PaperSelection(1617, 0.62),
    "moreSH + EM + size": PaperSelection(1090, 0.65),
    "D_M": PaperSelection(1393, 0.59),
    "D_EM": PaperSelection(1085, 0.71),
}

# Table 5: patterns in both, and intersection over union in per cent.
_PAIRS: dict[tuple[str, ...], tuple[int, int]] = {
    ("MaxF1 + size", "MaxF1 + EM + size"): (829, 75),
    ("MaxF1 + size", "moreSH + size"): (1097, 68),
    ("MaxF1 + size", "moreSH + EM + size"): (878, 67),
    ("MaxF1 + size", "D_M"): (875, 54),
    ("MaxF1 + size", "D_EM"): (575, 36),
    ("MaxF1 + EM + size", "moreSH + size"): (829, 51),
    ("MaxF1 + EM + size", "moreSH + EM + size"): (730, 61),
    ("MaxF1 + EM + size", "D_M"): (678, 44),
    ("MaxF1 + EM + size", "D_EM"): (485, 34),
    ("moreSH + size", "moreSH + EM + size"): (1090, 67),
    ("moreSH + size", "D_M"): (1006, 50),
    ("moreSH + size", "D_EM"): (686, 34),
    ("moreSH + EM + size", "D_M"): (791, 47),
    ("moreSH + EM + size", "D_EM"): (651, 43),
    ("D_M", "D_EM"): (574, 30),
}
# Section 4.3. It names only two of the second three; the third is the one with which its numbers agree:
# 829 + 1090 + 1085 - 730 - 485 - 651 + 469 = 1607 patterns in any of them, of which 469 are 29 %.
_THREES: dict[tuple[str, ...], tuple[int, int]] = {
    ("MaxF1 + size", "moreSH + size", "D_EM"): (575, 29),
    ("MaxF1 + EM + size", "moreSH + EM + size", "D_EM"): (469, 29),
}
PAPER_INTERSECTIONS = {frozenset(names): figures for names, figures in (_PAIRS | _THREES).items()}
PAPER_THREES = tuple(frozenset(names) for names in _THREES)


def beside(names: Sequence[str], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Which of the paper's selections each of ours is compared with.

    Args:
        names: of our selections.
        given: the paper's names by ours. A name that is not here is matched with the paper's own, whatever its case;
            the paper's "+ size selection" is "+ size" here.

    Returns:
        Keys of :data:`PAPER_SELECTIONS` by our names; ours without a counterpart are left out.

    Raises:
        SpiError: ``given`` names a selection that the paper does not have.
    """
    known = {_plain(name): name for name in PAPER_SELECTIONS}
    for ours, theirs in (given or {}).items():
        if _plain(theirs) not in known:
            raise SpiError(
                f"The paper has no selection {theirs!r}, beside which {ours!r} is to stand."
                f"{nearest(theirs, PAPER_SELECTIONS)} It has: {', '.join(PAPER_SELECTIONS)}."
            )
    found = {name: known.get(_plain((given or {}).get(name, name))) for name in names}
    return {ours: theirs for ours, theirs in found.items() if theirs is not None}


def _plain(name: str) -> str:
    return "".join(name.lower().removesuffix(" selection").split())
