"""Whatever a file holds, reading it either works or ends with a message for the user: never with another error."""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spi_lightning.errors import SpiError
from spi_lightning.patterns import open_run
from spi_lightning.patterns.handles import close_files
from spi_lightning.patterns.prepare import prepare

from . import foreign

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Sound(dict):
    """Files by name; says only their names when a test fails."""

    def __repr__(self):
        return f"<{sorted(self)}>"


@pytest.fixture(scope="module")
def sound():
    """A sound file of each kind, as bytes, and a detector."""
    with tempfile.TemporaryDirectory() as name:
        folder, frames = Path(name), foreign.photons(4, dtype=np.int32)
        masks = np.zeros(frames.shape, np.uint16)
        paths = [
            foreign.add_instrument(foreign.paper_cxi(folder / "paper.cxi", {1: frames}, mask=foreign.half_mask())),
            foreign.psocake_cxi(folder / "psocake.cxi", frames, mask=foreign.half_mask()),
            foreign.condor_cxi(folder / "condor.cxi", frames, masks),
            foreign.dragonfly_photons(folder / "lists.h5", frames),
            foreign.emc(folder / "sparse.emc", frames),
            foreign.dense_emc(folder / "dense.emc", frames, 1),
        ]
        detector = Sound(raw=foreign.dragonfly_detector(folder / "det.h5").read_bytes())
        yield Sound({path.name: path.read_bytes() for path in paths}), detector


def read_everything(path: Path, detector: Path | None = None) -> bool:
    """Whether a file could be read to its end; any error but SpiError escapes."""
    try:
        run = open_run(path, detector=detector)
        assert run.mask.shape == run.shape
        assert len(run.ids) == len(run)
        for first, block in run.blocks(3):
            assert block.shape[1:] == run.shape
            assert first + len(block) <= len(run)
        prepared = prepare(run)
        for _, block in prepared.blocks(3):
            assert block.dtype.kind == "u"
    except SpiError as error:
        if path.name not in str(error) and "det.h5" not in str(error):
            raise AssertionError(f"The message names no file: {error}") from error
        return False
    finally:
        close_files()
    return True


def read_bytes(raw: bytes, name: str, detector: dict[str, bytes]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path, det = Path(folder) / name, Path(folder) / "det.h5"
        path.write_bytes(raw)
        det.write_bytes(detector["raw"])
        return read_everything(path, det)


def assert_read_or_refused(raw: bytes, name: str, detector: dict[str, bytes]) -> None:
    """Whatever the bytes: values come out, or a SpiError that names the file; :func:`read_everything` sees to it."""
    assert read_bytes(raw, name, detector) in (True, False)


def test_sound_files_are_read(sound):
    files, detector = sound
    for name, raw in files.items():
        assert read_bytes(raw, name, detector), name


@quick
@given(data=st.data())
def test_truncated_files(sound, data):
    files, detector = sound
    name = data.draw(st.sampled_from(sorted(files)))
    length = data.draw(st.integers(0, len(files[name]) - 1))
    assert not read_bytes(files[name][:length], name, detector)


@quick
@given(data=st.data())
def test_damaged_emc_files(sound, data):
    files, detector = sound
    name = data.draw(st.sampled_from(["sparse.emc", "dense.emc"]))
    raw = bytearray(files[name])
    for place in data.draw(st.lists(st.integers(0, 11) | st.integers(1024, len(raw) - 1), min_size=1, max_size=4)):
        raw[place] = data.draw(st.integers(0, 255))
    assert_read_or_refused(bytes(raw), name, detector)


@quick
@given(numbers=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=3, max_size=40), tail=st.integers(0, 40))
@example(numbers=[1, 1, 0], tail=0)
@example(numbers=[2**31 - 1, 2**31 - 1, 1], tail=8)
def test_emc_headers_of_any_kind(sound, numbers, tail):
    header = np.zeros(256, "<i4")
    header[:3] = numbers[:3]
    raw = header.tobytes() + np.array(numbers[3:], "<i4").tobytes() + bytes(tail)
    assert_read_or_refused(raw, "any.emc", sound[1])


@quick
@given(data=st.data())
def test_damaged_hdf5_files(sound, data):
    files, detector = sound
    name = data.draw(st.sampled_from([n for n in sorted(files) if not n.endswith(".emc")]))
    raw = bytearray(files[name])
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=8)):
        raw[place] = data.draw(st.integers(0, 255))
    assert_read_or_refused(bytes(raw), name, detector)


@quick
@given(data=st.data())
def test_damaged_detectors(sound, data):
    files, detector = sound
    raw = bytearray(detector["raw"])
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=8)):
        raw[place] = data.draw(st.integers(0, 255))
    assert_read_or_refused(
        files["sparse.emc"], "sparse.emc", {"raw": bytes(raw[: data.draw(st.integers(1, len(raw)))])}
    )


@quick
@given(raw=st.binary(max_size=2000), name=st.sampled_from(["a.emc", "a.cxi", "a.h5", "a"]))
def test_files_of_noise(sound, raw, name):
    assert not read_bytes(raw, name, sound[1])


SHAPES = st.lists(st.integers(0, 5), max_size=5).map(tuple)
TYPES = st.sampled_from(["u1", "i4", "f4", "f8", "c8", "S3", "?", "i4,f4"])
PLACES = st.sampled_from(
    ["entry_1/image_1", "entry_1/data_1", "entry_1/instrument_1/detector_1", "photonConverter/a", ""]
)


@quick
@given(place=PLACES, shape=SHAPES, dtype=TYPES, mask=st.none() | SHAPES, mask_type=TYPES, center=st.none() | SHAPES,
       ids=st.none() | SHAPES, number=SHAPES, number_type=TYPES, groups=st.sets(st.sampled_from(
           ["data", "mask", "ids", "labels", "image_center", "trainId", "distance"])))  # fmt: skip
def test_datasets_of_any_shape_and_type(place, shape, dtype, mask, mask_type, center, ids, number, number_type, groups):
    """Wrong ranks, empty runs, masks that fit nothing, text for numbers, groups where datasets should be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.cxi"
        with h5py.File(path, "w") as file:
            entry, instrument = "entry_1", "entry_1/instrument_1"
            datasets = {
                f"{place}/{'photonCount' if 'photon' in place else 'data'}": (shape, dtype),
                f"{place}/mask": (mask, mask_type),
                f"{place}/image_center": (center, number_type),
                f"{place}/ids": (ids, "S3"),
                f"{place}/labels": (ids, number_type),
                f"{entry}/trainId": (center, number_type),
                f"{entry}/pulseId": (ids, number_type),
                f"{instrument}/detector_1/distance": (number, number_type),
                f"{instrument}/detector_1/x_pixel_size": (number, number_type),
                f"{instrument}/source_1/energy": (number, number_type),
                f"{instrument}/source_1/polarisation": (number, number_type),
                "detector/cx": (number, number_type),
            }
            for name, (size, kind) in datasets.items():
                if size is None:
                    continue
                if name.rpartition("/")[2] in groups:
                    file.require_group(name)
                elif name not in file:
                    file.create_dataset(name, size, kind)
        assert read_everything(path) in (True, False)  # it raises where something else than a refusal comes


@pytest.mark.parametrize("values", [h5py.Empty("f4"), "text", 3.0, np.zeros((2, 3), "i4,f4"), np.array([b"a", b"b"])])
def test_odd_datasets_in_every_place(tmp_path, values):
    for place in ("entry_1/image_1", "entry_1/data_1", "entry_1/instrument_1/detector_1", "photonConverter/a", "", "x"):
        with h5py.File(tmp_path / "a.cxi", "w") as file:
            file[f"{place}/{'photonCount' if 'photon' in place else 'data'}"] = values
        assert not read_everything(tmp_path / "a.cxi")
        with pytest.raises(SpiError):
            open_run(tmp_path / "a.cxi", dataset=f"{place}/data")
    for beside in ("mask", "image_center", "labels", "ids", "detector_1/distance", "source_1/energy"):
        foreign.paper_cxi(tmp_path / "a.cxi", {1: foreign.photons(2)}, centre=None, **{beside: values})
        read_everything(tmp_path / "a.cxi")
