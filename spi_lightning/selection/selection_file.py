"""The file of selections, ``selection.h5``. Patterns are counted from 0 in the order of the run.

===========================  ==================  =====================================================================
``id``                       ``(n,)`` UTF-8      pattern ids, of the whole run
``score``                    ``(n,)`` f4         probability of a single hit; NaN where not scored (trained on)
``label``                    ``(n,)`` i1         1 single hit, 0 other, -1 unknown; left out where nothing is known
``q``                        ``(rings,)`` f8     momentum transfer of each ring, nm⁻¹; left out where not known
``measured/index``           ``(m,)`` i8         the patterns that were looked at, ascending
``measured/photons``         ``(m,)`` f8         in good pixels
``measured/psd``             ``(m, rings)`` f4   angular means, photons a pixel; left out where callbacks.psd is off
``measured/diameter``        ``(m,)`` f4         nm; NaN where no size could be fitted; left out, as the next four,
                                                 where callbacks.size is off
``measured/misfit``          ``(m,)`` f4         of the fit
``measured/fidelity``        ``(m,)`` f4         misfit of the second-best size over that of the best
``measured/scale``           ``(m,)`` f4         forward scattering of the fitted sphere, photons a pixel
``measured/flag``            ``(m,)`` u1         a place in the attribute ``flags`` of ``measured``
``selections/K/index``       ``(k,)`` i8         the patterns of selection K, ascending; attributes: see below
``selections/K/reason``      ``(n,)`` u1         why a pattern is dropped: a place in the attribute ``reasons``
``selections/K/psd``         ``(rings,)`` f8     mean over its patterns, photons a pixel
``selections/K/minima``      ``(pairs,)`` i8     rings of the extrema behind the contrast; -1 where none
``selections/K/maxima``      ``(pairs,)`` i8     likewise
``classes/K/index``          ``(m,)`` i8         the patterns of EM classification K, ascending
``classes/K/class``          ``(m,)`` i8         of each, from 0; -1 without photons in the range of EM
``classes/K/angle``          ``(m,)`` f4         in-plane rotation, degrees
``classes/K/certainty``      ``(m,)`` f4         posterior probability of the class
``classes/K/agreement``      ``(m,)`` f4         share of the starts that agree
``classes/K/image``          ``(K, S, S)`` f4    class averages of what EM classifies, beam in the middle; NaN: not seen
``classes/K/measures/…``     ``(K,)`` f8         of each class: patterns, contrast, diameter, misfit, …, score
``classes/K/chosen``         ``(K,)`` u1         1: taken for single hits
===========================  ==================  =====================================================================

Attributes of the file: ``data`` (fingerprint of the prepared run), ``source`` (of what gave the scores), ``threshold``,
``range`` (sizes that are wanted, nm), ``notes``, ``program``. Of a selection: ``name``, ``reasons``, ``steps`` (JSON),
``step_of`` (of each reason), ``contrast``, ``contrast_low``, ``contrast_high``, ``contrast_reason``,
``other_pairing``, ``classes`` (-1: none). Of a classification: ``by_hand``, ``similarity``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import spi_lightning
from spi_lightning.analysis.class_choice import ClassMeasures
from spi_lightning.analysis.contrast import Contrast
from spi_lightning.analysis.size import FLAGS, Sizes
from spi_lightning.errors import SpiError
from spi_lightning.patterns.export_cxi import replaced_when_done
from spi_lightning.patterns.hdf5 import damage_is_reported, open_h5
from spi_lightning.selection.results import Classes, Findings, Selection, StepTaken

FORMAT = "spi-lightning selection"
VERSION = 1
SIZES = ("diameter", "misfit", "fidelity", "scale")


def write_findings(path: Path, findings: Findings, data: str, source: str) -> None:
    """Write ``selection.h5``; it appears once it is whole.

    Args:
        path: the file.
        findings: what to write.
        data: fingerprint of the prepared run.
        source: of what gave the scores.

    Raises:
        SpiError: the file cannot be written.
    """
    with replaced_when_done(path) as partial, h5py.File(partial, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, "program": spi_lightning.__version__})
        file.attrs.update({"data": data, "source": source, "notes": json.dumps(findings.notes)})
        file.attrs["threshold"] = math.nan if findings.threshold is None else findings.threshold
        names = np.char.encode(findings.ids.astype(np.str_), "utf-8")
        file.create_dataset("id", data=names.astype(h5py.string_dtype("utf-8", max(1, names.dtype.itemsize))))
        _put(file, {"score": (findings.scores, "f4"), "label": (findings.labels, "i1"), "q": (findings.q, "f8")})
        _put_measured(file.create_group("measured"), findings)
        for place, selection in enumerate(findings.selections.values()):
            _put_selection(file.create_group(f"selections/{place}"), selection)
        for place, classes in enumerate(findings.classes):
            _put_classes(file.create_group(f"classes/{place}"), classes)


def read_findings(path: Path) -> Findings:
    """Read ``selection.h5``.

    Raises:
        SpiError: it is missing, damaged, or of another format.
    """
    with open_h5(path) as file:
        if file.attrs.get("format") != FORMAT or file.attrs.get("version") != VERSION:
            raise SpiError(
                f"{path} is not a file of selections that this version reads (its attributes 'format' and 'version' "
                f"are {file.attrs.get('format')!r} and {file.attrs.get('version')!r}). Make it anew with spi-select."
            )
        try:
            with damage_is_reported(path, "its content"):
                _refuse_links(file)
                return _findings(file)
        except (TypeError, AttributeError, UnicodeDecodeError) as error:
            raise SpiError(f"{path} is damaged, or was changed by another program ({error}): make it anew.") from None


def _refuse_links(group: h5py.Group) -> None:
    """All that the file says must stand in it: links, and values that lie elsewhere, could bring in any other file."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise SpiError(f"{group.file.filename}: '{name}' is a link to somewhere else; such a file is not read.")
        if isinstance(inner := group[name], h5py.Group):
            _refuse_links(inner)
        elif inner.is_virtual or inner.external:
            raise SpiError(f"{group.file.filename}: the values of '{name}' lie elsewhere; such a file is not read.")


def _findings(file: h5py.File) -> Findings:
    measured = file["measured"]
    sizes = None
    if "diameter" in measured:
        values = {name: torch.from_numpy(measured[name][()].astype(np.float64)) for name in SIZES}
        sizes = Sizes(**values, flag=torch.from_numpy(measured["flag"][()]))
    threshold = float(file.attrs["threshold"])
    span = file.attrs.get("range")
    groups = file.get("selections", {}), file.get("classes", {})
    selections = [_selection(groups[0][str(place)]) for place in range(len(groups[0]))]
    return Findings(
        ids=np.array([name.decode() for name in file["id"][()].tolist()], dtype=np.str_),
        labels=_maybe(file, "label"),
        scores=file["score"][()],
        threshold=None if math.isnan(threshold) else threshold,
        q=_maybe(file, "q"),
        measured=measured["index"][()],
        photons=measured["photons"][()],
        psd=_maybe(measured, "psd"),
        sizes=sizes,
        range=None if span is None else (float(span[0]), float(span[1])),
        selections={selection.name: selection for selection in selections},
        classes=[_classes(groups[1][str(place)]) for place in range(len(groups[1]))],
        notes=json.loads(file.attrs["notes"]),
    )


def _put(group: h5py.Group, columns: dict[str, tuple[Any, str]]) -> None:
    """Write arrays, compressed where they are large; None is left out."""
    for name, (values, kind) in columns.items():
        if values is None:
            continue
        array = values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
        more: dict[str, Any] = {"compression": "gzip", "shuffle": True} if array.size > 4096 else {}
        group.create_dataset(name, data=array.astype(kind), **more)


def _maybe(group: h5py.Group, name: str) -> np.ndarray | None:
    return group[name][()] if name in group else None


def _put_measured(group: h5py.Group, findings: Findings) -> None:
    _put(
        group,
        {
            "index": (findings.measured, "i8"),
            "photons": (findings.photons, "f8"),
            "psd": (findings.psd, "f4"),
        },
    )
    if findings.range is not None:
        group.file.attrs["range"] = findings.range
    if (sizes := findings.sizes) is not None:
        group.attrs["flags"] = json.dumps(FLAGS)
        _put(group, {name: (getattr(sizes, name), "f4") for name in SIZES} | {"flag": (sizes.flag, "u1")})


def _put_selection(group: h5py.Group, selection: Selection) -> None:
    group.attrs.update(
        {
            "name": selection.name,
            "reasons": json.dumps(selection.reasons),
            "step_of": selection.step_of,
            "steps": json.dumps([dataclasses.asdict(step) for step in selection.steps]),
            "classes": -1 if selection.classes is None else selection.classes,
            "contrast_low": selection.interval[0],
            "contrast_high": selection.interval[1],
            "other_pairing": selection.other_pairing,
        }
    )
    columns: dict[str, tuple[Any, str]] = {
        "index": (selection.kept, "i8"),
        "reason": (selection.reason, "u1"),
        "psd": (selection.psd, "f8"),
    }
    if (contrast := selection.contrast) is not None:
        group.attrs["contrast"] = float(contrast.value[0])
        group.attrs["contrast_reason"] = contrast.reasons[0]
        columns |= {"minima": (contrast.minima[0], "i8"), "maxima": (contrast.maxima[0], "i8")}
    _put(group, columns)


def _selection(group: h5py.Group) -> Selection:
    said = group.attrs
    contrast = None
    if "contrast" in said:
        contrast = Contrast(
            value=torch.tensor([float(said["contrast"])], dtype=torch.float64),
            minima=torch.from_numpy(group["minima"][()])[None],
            maxima=torch.from_numpy(group["maxima"][()])[None],
            reasons=(str(said["contrast_reason"]),),
        )
    return Selection(
        name=str(said["name"]),
        kept=group["index"][()],
        reason=group["reason"][()],
        reasons=tuple(json.loads(said["reasons"])),
        steps=tuple(StepTaken(**step) for step in json.loads(said["steps"])),
        classes=None if said["classes"] < 0 else int(said["classes"]),
        psd=_maybe(group, "psd"),
        contrast=contrast,
        interval=(float(said["contrast_low"]), float(said["contrast_high"])),
        other_pairing=float(said["other_pairing"]),
        step_of=tuple(int(step) for step in said["step_of"]),
    )


def _put_classes(group: h5py.Group, classes: Classes) -> None:
    group.attrs.update({"by_hand": classes.by_hand, "similarity": classes.similarity})
    _put(
        group,
        {
            "index": (classes.members, "i8"),
            "class": (classes.classes, "i8"),
            "angle": (classes.angles, "f4"),
            "certainty": (classes.certainty, "f4"),
            "agreement": (classes.agreement, "f4"),
            "image": (classes.images, "f4"),
            "chosen": (classes.chosen, "u1"),
        },
    )
    fields = dataclasses.fields(ClassMeasures)
    _put(
        group.create_group("measures"), {field.name: (getattr(classes.measures, field.name), "f8") for field in fields}
    )


def _classes(group: h5py.Group) -> Classes:
    measures = {name: torch.from_numpy(values[()]) for name, values in group["measures"].items()}
    return Classes(
        members=group["index"][()],
        classes=group["class"][()],
        angles=group["angle"][()],
        certainty=group["certainty"][()],
        agreement=group["agreement"][()],
        images=group["image"][()],
        measures=ClassMeasures(**measures),
        chosen=group["chosen"][()].astype(np.bool_),
        by_hand=bool(group.attrs["by_hand"]),
        similarity=float(group.attrs["similarity"]),
    )
