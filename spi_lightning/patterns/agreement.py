"""What the segments of a run have in common, and what is refused because they do not go together."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from spi_lightning.errors import SpiError
from spi_lightning.instrument import Geometry
from spi_lightning.patterns.segment import Segment


def without_copies(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Segments of which those with equal masks share one array: a thousand files do not need a thousand masks."""
    kept: dict[bytes, np.ndarray] = {}
    for segment in segments:
        if segment.mask is None:
            yield segment
        else:
            mask = kept.setdefault(hashlib.sha256(segment.mask.tobytes()).digest(), segment.mask)
            yield dataclasses.replace(segment, mask=mask)


def common_mask(segments: Sequence[Segment], notes: list[str]) -> np.ndarray:
    """Pixels that are good in every segment, ``(rows, columns)`` bool; what a user should know is added to ``notes``.

    Raises:
        SpiError: none is.
    """
    masks = [segment.mask for segment in segments if segment.mask is not None]
    silent = [segment.where for segment in segments if segment.mask is None]
    if silent:
        missing = "no mask" if len(masks) == 0 else f"no mask in {_some(silent)}"
        notes.append(
            f"The files have {missing}: all pixels are taken as good. Give one with data.prepare.mask_file=FILE."
        )
    good = np.ones(segments[0].shape, dtype=bool)
    for mask in masks:
        good &= mask
    if any(not np.array_equal(good, mask) for mask in masks):
        counts = sorted({int((~mask).sum()) for mask in masks})
        notes.append(
            f"Masks differ between files or groups (from {counts[0]} to {counts[-1]} bad pixels): pixels that are bad "
            f"in any of them are left out of all, {int((~good).sum())} of {good.size}."
        )
    if not good.any():
        raise SpiError(
            f"The mask of {_some([s.where for s in segments if s.mask is not None])} leaves no good pixel. Expected "
            "0 = good. Set data.mask_bits to the bits that are bad; if 1 marks good pixels in it, read it so: "
            f"data.mask_bits=0 data.prepare.mask_file={segments[0].path}:/MASK data.prepare.mask_kind=good."
        )
    return good


def common_geometry(segments: Sequence[Segment], notes: list[str]) -> Geometry:
    """What the segments that speak agree on; disagreements become None and are added to ``notes``."""
    agreed: dict[str, object] = {}
    for field in dataclasses.fields(Geometry):
        name = field.name
        said = [(segment, value) for segment in segments if (value := getattr(segment.geometry, name)) is not None]
        if not said:
            continue
        speaker, value = said[0]
        reference = Geometry(**{name: value})  # of this one quantity only
        contrary = [
            (segment, other) for segment, other in said[1:] if reference.disagreements(Geometry(**{name: other}))
        ]
        if not contrary:
            agreed[name] = value
            continue
        segment, other = contrary[0]
        more = f" ({len(contrary)} of {len(said)} differ from the first)" if len(contrary) > 1 else ""
        notes.append(
            f"The files disagree on {name}: {value} in {speaker.where}, {other} in {segment.where}{more}. It is taken "
            f"as unknown. Open the files as runs of their own, or set instrument.{name}=VALUE if one holds for all."
        )
    return Geometry(**agreed)  # type: ignore[arg-type]  # each value comes from a field of that name


def all_labels(segments: Sequence[Segment]) -> np.ndarray | None:
    """Labels of all frames, ``(n,)`` int8, -1 where a segment has none; None where no segment has any."""
    if all(segment.labels is None for segment in segments):
        return None
    return np.concatenate([np.full(s.n_frames, -1, np.int8) if s.labels is None else s.labels for s in segments])


def refuse_duplicates(segments: Sequence[Segment]) -> None:
    """Raise :class:`SpiError` unless ids are unique.

    Ids that are made from a prefix are if the prefixes are, which spares making them.
    """
    remedy = "Rename one of the files, or open them as runs of their own."
    prefixes: dict[str, Segment] = {}
    for segment in segments:
        if segment.own_ids is not None:
            continue
        if segment.id_prefix in prefixes:
            raise SpiError(
                f"The ids of {prefixes[segment.id_prefix].where} and {segment.where} would be the same, for instance "
                f"'{segment.id_prefix}:0': the files have one name. {remedy}"
            )
        prefixes[segment.id_prefix] = segment
    if all(segment.own_ids is None for segment in segments):
        return
    values, counts = np.unique(np.concatenate([s.ids for s in segments]), return_counts=True)
    repeated = values[counts > 1]
    if len(repeated):
        files = _some([s.where for s in segments if np.isin(repeated[0], s.ids)])
        raise SpiError(
            f"{len(repeated)} pattern ids occur more than once, for instance {_some(repeated.tolist())} in {files}. Is "
            f"a file or its copy used twice? {remedy}"
        )


def _some(names: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
