"""Pattern files as other programs write them: one function a program, as close to its own code as is known.

Each takes the path and the frames ``(N, y, x)``, and writes what that program writes around them.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

EV = 1.602176634e-19  # J


def photons(n: int = 6, shape: tuple[int, int] = (8, 10), seed: int = 0, dtype: type = np.uint16) -> np.ndarray:
    """Poisson frames, each different."""
    return np.random.default_rng(seed).poisson(0.8, (n, *shape)).astype(dtype)


def half_mask(shape: tuple[int, int] = (8, 10)) -> np.ndarray:
    """Flags, 0 = good: the first two rows are bad."""
    flags = np.zeros(shape, np.uint8)
    flags[:2] = 1
    return flags


def paper_cxi(path: Path, groups: dict[int, np.ndarray], *, centre=(4.5, 3.5, 0.0), mask=None, **datasets) -> Path:
    """spi-processing's cxidata: ``image_K`` with data, mask, image_center, and a link ``data_K`` to the group."""
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        entry = file.create_group("entry_1")
        for k, frames in groups.items():
            image = entry.create_group(f"image_{k}")
            entry[f"data_{k}"] = h5py.SoftLink(f"/entry_1/image_{k}")
            image.create_dataset("data", data=frames, chunks=(1, *frames.shape[1:]) if len(frames) else None)
            if mask is not None:
                image["mask"] = mask
            if centre is not None:
                image["image_center"] = np.array(centre)
            for name, values in datasets.items():
                image[name] = values
    return path


def add_instrument(path: Path, *, distance=0.5, pixel=(3e-4, 3e-4), energy=1600 * EV) -> Path:
    """The instrument, as CXI says, in a file that exists."""
    with h5py.File(path, "a") as file:
        detector = file.require_group("entry_1/instrument_1/detector_1")
        detector["distance"], detector["x_pixel_size"], detector["y_pixel_size"] = distance, *pixel
        file["entry_1/instrument_1/source_1/energy"] = energy
    return path


def extra_data_cxi(
    path: Path, modules: np.ndarray, trains: np.ndarray, pulses: np.ndarray, masks: np.ndarray | None = None
) -> Path:
    """extra-data's write_virtual_cxi: ``modules (N, M, y, x)`` or assembled ``(N, y, x)`` in source files beside."""
    source = path.with_name(f"{path.stem}-source.h5")
    with h5py.File(source, "w") as file:
        file["INSTRUMENT/image/data"] = modules
        if masks is not None:
            file["INSTRUMENT/image/mask"] = masks
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.create_dataset("cxi_version", data=[150])
        ids = file.create_dataset("entry_1/experiment_identifier", shape=(len(modules),), dtype=h5py.string_dtype())
        ids[:] = [f"{t}:{p}" for t, p in zip(trains, pulses, strict=True)]
        file.create_dataset("entry_1/pulseId", data=pulses)
        file.create_dataset("entry_1/trainId", data=trains)
        group = file.create_group("entry_1/instrument_1/detector_1")
        for name, values in {"data": modules, "mask": masks}.items():
            if values is None:
                continue
            layout = h5py.VirtualLayout(values.shape, values.dtype)
            layout[:] = h5py.VirtualSource(source.name, f"INSTRUMENT/image/{name}", values.shape)
            made = group.create_virtual_dataset(name, layout, fillvalue=0)
            made.attrs["axes"] = "experiment_identifier:module_identifier:y:x"
        group["experiment_identifier"] = h5py.SoftLink("/entry_1/experiment_identifier")
        file["entry_1/data_1"] = h5py.SoftLink("/entry_1/instrument_1/detector_1")
        group.create_dataset("module_identifier", data=np.arange(modules.shape[1] if modules.ndim == 4 else 1))
    return path


def psocake_cxi(path: Path, frames: np.ndarray, *, counts: np.ndarray | None = None, mask=None, joules=None) -> Path:
    """psocake's peak finder: the instrument for each frame, misspelt identifier, electron energy as pulse energy."""
    n = len(frames)
    with h5py.File(path, "w") as file:
        file["/status/findPeaks"] = "success"
        file.create_dataset("/psana/input", (1,), dtype=h5py.string_dtype())[...] = "exp amo86615\nrun 7\n"
        file["cxi_version"] = 140
        file["LCLS/photon_energy_eV"] = np.full(n, 1602.0)
        entry = file.create_group("entry_1")
        entry["experimental_identifier"] = np.arange(n) + 40
        entry["result_1/nPeaksAll"] = np.full(n, -1)
        entry["result_1/nHits"] = n
        detector, source = entry.create_group("instrument_1/detector_1"), entry.create_group("instrument_1/source_1")
        source.create_dataset("energy", (0,) if joules is None else (n,), maxshape=(None,), dtype=float)
        if joules is not None:
            source["energy"][:] = joules
        source["pulse_energy"] = np.full(n, 4012.7)
        detector.create_dataset("data", data=frames.astype(float), chunks=(1, *frames.shape[1:]), compression="gzip")
        detector["data"].attrs["axes"] = "experiment_identifier"
        if counts is not None:
            detector["photons"] = counts
        entry["data_1/data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
        if mask is not None:
            entry["data_1/mask"] = mask
        detector["distance"] = np.full(n, 0.581)
        detector["x_pixel_size"] = np.full(n, 75e-6)
        detector["y_pixel_size"] = np.full(n, 75e-6)
        detector["description"] = "pnccdBack"
    return path


def condor_cxi(path: Path, frames: np.ndarray, masks: np.ndarray, *, cx=4.5, cy=3.5) -> Path:
    """Condor: amplitudes beside the intensities, a mask a frame, parameters of every frame at the root."""
    n = len(frames)
    with h5py.File(path, "w") as file:
        file["entry_1/data_1/data"] = frames.astype(np.float64)
        file["entry_1/data_1/data_fourier"] = frames.astype(np.complex128)
        file["entry_1/data_1/mask"] = masks.astype(np.uint16)
        file["source/pulse_energy"] = np.full(n, 1e-3)
        file["source/wavelength"] = np.full(n, 1e-9)
        file["particles/particle_00/extrinsic_quaternion"] = np.tile([1.0, 0, 0, 0], (n, 1))
        for name, value in {"cx": cx, "cy": cy, "nx": 10, "ny": 8, "pixel_size": 110e-6, "distance": 2.4}.items():
            file[f"detector/{name}"] = np.full(n, value)
        file["entry_1/data_1/data"].attrs["axes"] = ["experiment_identifier:y:x"]
    return path


def photon_converter_h5(path: Path, frames: np.ndarray, detectors: tuple[str, ...] = ("pnccdBack",)) -> Path:
    """CXIDB 58."""
    with h5py.File(path, "w") as file:
        for detector in detectors:
            file[f"photonConverter/{detector}/photonCount"] = frames.astype(np.int16)
    return path


def multi_panel_cxi(path: Path, n: int = 3) -> Path:
    """LCLS: 32 CSPAD panels between frames and pixels."""
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 140
        file["entry_1/data_1/data"] = np.zeros((n, 32, 5, 6), np.float32)
    return path


def emc(path: Path, frames: np.ndarray) -> Path:
    """A sparse .emc file, written out by hand from the format's description."""
    flat = frames.reshape(len(frames), -1)
    ones = [np.flatnonzero(frame == 1) for frame in flat]
    multi = [np.flatnonzero(frame > 1) for frame in flat]
    header = np.zeros(256, "<i4")
    header[:2] = flat.shape
    parts = [header, [len(o) for o in ones], [len(m) for m in multi], *ones, *multi]
    parts += [frame[places] for frame, places in zip(flat, multi, strict=True)]
    path.write_bytes(b"".join(np.asarray(part, "<i4").tobytes() for part in parts))
    return path


def dense_emc(path: Path, frames: np.ndarray, kind: int) -> Path:
    """A dense .emc file: kind 1 int32, kind 2 float64."""
    header = np.zeros(256, "<i4")
    header[:3] = len(frames), frames[0].size, kind
    path.write_bytes(header.tobytes() + frames.astype({1: "<i4", 2: "<f8"}[kind]).tobytes())
    return path


def dragonfly_photons(path: Path, frames: np.ndarray) -> Path:
    """Dragonfly's photon lists in HDF5."""
    flat = frames.reshape(len(frames), -1)
    with h5py.File(path, "w") as file:
        file["num_pix"] = np.array([flat.shape[1]], np.int32)
        lists = {
            "place_ones": [np.flatnonzero(f == 1) for f in flat],
            "place_multi": [np.flatnonzero(f > 1) for f in flat],
            "count_multi": [f[f > 1] for f in flat],
        }
        for name, values in lists.items():
            dataset = file.create_dataset(name, (len(flat),), h5py.vlen_dtype(np.int32))
            for i, value in enumerate(values):
                dataset[i] = value.astype(np.int32)
    return path


def detector_table(shape: tuple[int, int], centre: tuple[float, float], detd: float, radius: float, slow_x: bool):
    """qx, qy, qz, corr of Dragonfly's make_detector; ``slow_x``: its own habit of letting x run along the rows."""
    row, column = np.indices(shape, dtype=float)
    across, down = column - centre[0], row - centre[1]
    cx, cy = (down, across) if slow_x else (across, down)
    fac = np.sqrt(cx**2 + cy**2 + detd**2)
    corr = detd / fac**3 * (1 - cx**2 / fac**2)
    return [a.ravel() for a in (cx * radius / fac, cy * radius / fac, radius * (detd / fac - 1), corr)]


def dragonfly_detector(
    path: Path, shape=(8, 10), centre=(4.25, 3.5), detd=2000.0, radius=650.0, mask=None, slow_x=False, dtype=np.float64
) -> Path:
    """Dragonfly's detector file, HDF5."""
    table = detector_table(shape, centre, detd, radius, slow_x)
    with h5py.File(path, "w") as file:
        for name, values in zip(("qx", "qy", "qz", "corr"), table, strict=True):
            file[name] = values.astype(dtype)
        file["mask"] = (np.zeros(shape) if mask is None else mask).ravel().astype(np.uint8)
        file["detd"], file["ewald_rad"] = detd, radius
    return path


def dragonfly_detector_text(path: Path, shape=(8, 10), centre=(4.25, 3.5), detd=2000.0, radius=650.0) -> Path:
    """Dragonfly's older detector file, text: number of pixels, then a line a pixel."""
    table = [*detector_table(shape, centre, detd, radius, slow_x=True), np.zeros(shape[0] * shape[1])]
    lines = [
        f"{shape[0] * shape[1]} {detd} {radius}",
        *(" ".join(f"{v:.10e}" for v in row) for row in zip(*table, strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
