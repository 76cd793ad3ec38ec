"""What a user may choose about labels and about the way from stored frames to photon counts.

These classes are embedded in the checked config as they are: only plain types, and nothing heavy is imported. Ranges
are checked here, so that a value is refused in the same words whether it comes from a config or from a script.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from spi_lightning.errors import require


@dataclass(frozen=True)
class PhotonSettings:
    """From detector units (ADU) to photons."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    # none: the file holds photon counts. gain: the gain is given below.
    # histogram: gain and offset are found from the photon peaks in the histogram of pixel values.
    mode: Literal["none", "gain", "histogram"] = "none"
    # ADU per photon; needed by mode gain, refused in the others.
    gain: float | None = None
    # ADU of a pixel without a photon, in mode gain; mode histogram finds it.
    offset: float = 0.0
    # Part of a photon's ADU from which on a pixel counts as one photon; above that, counts are rounded to the nearest.
    # With noise of 0.18 photon (pnCCD at 1.7 keV: 1.4 of 7.8 ADU), 0.5 makes 180 false photons in a frame of 260 x 257
    # pixels and 0.7 makes 3, at the price of missing 5 % of the pixels with one photon.
    threshold: float = 0.7

    def __post_init__(self) -> None:
        require(
            self.mode in ("none", "gain", "histogram"),
            "data.prepare.photons.mode",
            self.mode,
            "none, gain or histogram",
        )
        if self.mode == "gain":
            require(
                self.gain is not None and math.isfinite(self.gain) and self.gain > 0,
                "data.prepare.photons.gain",
                self.gain,
                "a positive number of ADU per photon where data.prepare.photons.mode=gain",
            )
        else:
            require(
                self.gain is None,
                "data.prepare.photons.gain",
                self.gain,
                f"null where data.prepare.photons.mode={self.mode}",
            )
        require(math.isfinite(self.offset), "data.prepare.photons.offset", self.offset, "a finite number of ADU")
        require(
            0 < self.threshold <= 1, "data.prepare.photons.threshold", self.threshold, "above 0 and at most 1 (photon)"
        )


@dataclass(frozen=True)
class BackgroundSettings:
    """Background that is the same in every frame."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    # none: nothing is subtracted. level: each pixel's most frequent count over the run is subtracted (background.py).
    mode: Literal["none", "level"] = "none"
    # Highest level that is looked for, photons.
    maximum: int = 50
    # Share of the frames that must show the level at a pixel, within two standard deviations, for it to be believed.
    min_share: float = 0.5

    def __post_init__(self) -> None:
        require(self.mode in ("none", "level"), "data.prepare.background.mode", self.mode, "none or level")
        require(1 <= self.maximum <= 1000, "data.prepare.background.maximum", self.maximum, "1 to 1000 photons")
        require(0 < self.min_share <= 1, "data.prepare.background.min_share", self.min_share, "above 0 and at most 1")


@dataclass(frozen=True)
class CentreSettings:
    """Where the beam's position on the detector comes from."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    # file: what the file says, or instrument.centre where that is given. given: instrument.centre, which must be there.
    # find: from the symmetry of the run's mean pattern; what file and config say is only compared.
    mode: Literal["file", "given", "find"] = "file"
    # For mode find. friedel: a full plane, each pattern equals itself turned by 180 degrees. rings: circles about the
    # beam, also for a half plane. auto: friedel where it holds, else rings.
    method: Literal["auto", "friedel", "rings"] = "auto"

    def __post_init__(self) -> None:
        require(self.mode in ("file", "given", "find"), "data.prepare.centre.mode", self.mode, "file, given or find")
        require(
            self.method in ("auto", "friedel", "rings"),
            "data.prepare.centre.method",
            self.method,
            "auto, friedel or rings",
        )


@dataclass(frozen=True)
class CropSettings:
    """The part of the detector that is kept, and binning."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    # (rows, columns) in pixels as stored, before binning; null keeps the whole detector.
    shape: tuple[int, int] | None = None
    # full: the beam sits in the middle of the crop. half: it sits at the middle of one long edge; which one follows
    # from where the good pixels lie. auto: half where good pixels lie on one side of the beam only, else full.
    plane: Literal["auto", "full", "half"] = "auto"
    # So many by so many pixels are summed into one.
    binning: int = 1
    # A binned pixel is good where at least this share of its pixels is good. Below 1, the photons of the good ones are
    # summed and not scaled up: counts stay Poisson counts, but such a pixel is dimmer than its neighbours.
    min_good_fraction: float = 1.0

    def __post_init__(self) -> None:
        require(self.plane in ("auto", "full", "half"), "data.prepare.crop.plane", self.plane, "auto, full or half")
        require(self.binning >= 1, "data.prepare.crop.binning", self.binning, "1 or more pixels")
        require(
            0 < self.min_good_fraction <= 1,
            "data.prepare.crop.min_good_fraction",
            self.min_good_fraction,
            "above 0, at most 1",
        )
        if self.shape is not None:
            fits = len(self.shape) == 2 and min(self.shape) >= 1
            require(
                fits, "data.prepare.crop.shape", self.shape, "two positive numbers of pixels, [rows, columns], or null"
            )
            divisible = all(side % self.binning == 0 for side in self.shape)
            require(
                divisible,
                "data.prepare.crop.shape",
                self.shape,
                f"divisible by data.prepare.crop.binning={self.binning} on both sides",
            )


@dataclass(frozen=True)
class LabelSettings:
    """Where the labels come from: single hit, other, or unknown."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    # HDF5, CXI, CSV, text or JSON; null takes the labels that lie beside the frames, if any.
    path: str | None = None
    # Dataset in an HDF5 or CXI file; null looks for the only one called "labels".
    dataset: str | None = None
    # classes: a label for each pattern listed. singles: a list of the single hits, all others are 0.
    # auto: decided from what is in the file, by the rules in labels.py.
    kind: Literal["auto", "classes", "singles"] = "auto"

    def __post_init__(self) -> None:
        require(
            self.kind in ("auto", "classes", "singles"),
            "data.prepare.labels.kind",
            self.kind,
            "auto, classes or singles",
        )
        fits = self.dataset is None or self.path is not None
        require(
            fits,
            "data.prepare.labels.dataset",
            self.dataset,
            "null, or data.prepare.labels.path=FILE must say in which file it lies",
        )


@dataclass(frozen=True)
class PrepareSettings:
    """All choices on the way from stored frames to photon counts; what is done first stands first."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    # Pixels to leave out besides those that the data file masks: .npy, .txt, or FILE.h5:/dataset.
    mask_file: str | None = None
    # good: nonzero marks a good pixel. bad: nonzero marks a bad one. cxi: the bits of CXI 1.6, 0 is good.
    # auto: cxi for numbers; for true/false values, of which both readings are common, one of the others must be said.
    mask_kind: Literal["auto", "good", "bad", "cxi"] = "auto"
    photons: PhotonSettings = field(default_factory=PhotonSettings)
    background: BackgroundSettings = field(default_factory=BackgroundSettings)
    centre: CentreSettings = field(default_factory=CentreSettings)
    crop: CropSettings = field(default_factory=CropSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)
    # Frames, spread over the run, that are looked at for gain, background, centre and maximum; null looks at all.
    sample_frames: int | None = 1000

    def __post_init__(self) -> None:
        kinds = ("auto", "good", "bad", "cxi")
        require(self.mask_kind in kinds, "data.prepare.mask_kind", self.mask_kind, "auto, good, bad or cxi")
        fits = self.sample_frames is None or self.sample_frames >= 1
        require(fits, "data.prepare.sample_frames", self.sample_frames, "1 or more frames, or null for all")
