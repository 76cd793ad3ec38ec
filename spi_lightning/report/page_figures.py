"""The pictures of a run folder, with titles and captions, ready to stand in a page."""

from __future__ import annotations

from pathlib import Path

from spi_lightning.report.template import Picture, picture

# By section, in the order of the page: file name without suffix, title, caption. A name that ends in * is a prefix.
KNOWN: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Patterns": (
        (
            "examples",
            "Examples",
            "Patterns that are called single hits, and others. Logarithmic scale; grey is masked.",
        ),
        ("contact_sheet", "Contact sheet", "Patterns of the run, labelled single hits first. Grey is masked."),
        (
            "mean_and_psd",
            "Mean pattern and power spectral density",
            "Mean over all patterns, the beam marked where its place is known, and the angular mean of it.",
        ),
        (
            "highest",
            "Highest scores",
            "The patterns that the ensemble is most certain are single hits, with what their labels say.",
        ),
        (
            "mistakes",
            "Most confident mistakes",
            "Patterns on the wrong side of the threshold by their labels, the furthest from it first: labelled single "
            "hits with low scores, then others with high ones. Some are errors of the labels.",
        ),
    ),
    "Scores": (
        (
            "precision_recall",
            "Precision and recall",
            "Of the patterns above a threshold, which share is single hits, against which share of all single hits is "
            "above it. The dot is the threshold in use; grey lines have the same F1 score.",
        ),
        (
            "score_histogram",
            "Scores",
            "How many patterns have which score, by label. Both axes are stretched to show the scores near 0 and 1 "
            "and the few single hits.",
        ),
        (
            "calibration",
            "Calibration",
            "Of the patterns with about the same score, which share is single hits, with its 95 % interval. On the "
            "dashed line a score is a probability. Networks that are shown single hits more often than they occur give "
            "scores that are too high, and lie below it; the order of the patterns is not touched by that.",
        ),
    ),
    "Selections": (
        (
            "psd",
            "Power spectral density",
            "Angular mean of the patterns of each selection. The deeper the fringes, the more alike the particles; γ "
            "is their contrast, from the minima (▽) and maxima (△) that are marked.",
        ),
        (
            "sizes",
            "Particle sizes",
            "Diameters from fits of a sphere's form factor to every pattern; the wanted range is shaded. Patterns "
            "without a size, and those whose size is outside of the axis, are counted in the legend.",
        ),
        (
            "overlap",
            "Overlap",
            "Patterns that two selections share, and below that number intersection over union.",
        ),
    ),
    "Classes": (
        (
            "classes*",
            "Class averages",
            "What expectation maximisation makes of a selection's patterns: the mean of each class after rotation in "
            "the plane, with the numbers by which classes are taken for single hits.",
        ),
    ),
    "Training": (
        ("training", "Course of the training", "Loss and scores of each fold: training dashed, validation solid."),
        ("augmentation", "Augmentation", "Patterns as they are (left), and what the networks are shown of them."),
    ),
}
MORE = "More figures"


def pictures(folder: Path) -> tuple[dict[str, list[Picture]], list[str]]:
    """PNG files of a run folder and of its ``figures``, by section.

    Args:
        folder: of the run.

    Returns:
        Sections in the order of the page, those without a picture left out; and notes on files that are no pictures.
    """
    files = {path.stem: path for place in (folder, folder / "figures") for path in sorted(place.glob("*.png"))}
    found: dict[str, list[Picture]] = {section: [] for section in (*KNOWN, MORE)}
    notes = []
    placed = []
    for section, entries in KNOWN.items():
        for name, title, caption in entries:
            stems = [stem for stem in files if (stem.startswith(name[:-1]) if name.endswith("*") else stem == name)]
            placed += [(section, stem, title + _which(stem, name), caption) for stem in stems]
    known = {stem for _, stem, _, _ in placed}
    placed += [(MORE, stem, stem.replace("_", " "), "") for stem in files if stem not in known]
    for section, stem, title, caption in placed:
        try:
            found[section].append(picture(files[stem], title, caption))
        except (OSError, ValueError) as error:
            notes.append(f"{files[stem].name} is left out: {error}")
    return {section: shown for section, shown in found.items() if shown}, notes


def _which(stem: str, name: str) -> str:
    rest = stem.removeprefix(name.rstrip("*")).strip("_").replace("_", " ") if name.endswith("*") else ""
    return f": {rest}" if rest else ""
