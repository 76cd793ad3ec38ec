"""Predicting with a full ensemble, five networks at four mirrored views, and with one network at one view.

    python -m benchmarks.prediction [--quick] [--results FOLDER]

Ours is what spi-predict runs, :func:`~spi_lightning.inference.predict.score_run`, from counts in memory on; the
paper-faithful loop and OpenVINO start from normalised float32. Networks are new ones with batch statistics of the
patterns, whose probabilities lie about 0.5, where a difference shows. Every variant has a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from benchmarks import record
from benchmarks.paper_faithful import NORMALISATION, new_networks, normalised_patterns, pattern_counts
from benchmarks.record import Row, fact_row, interleaved, rate_row
from benchmarks.remote import Remote, RemoteError
from spi_lightning.errors import SpiError
from spi_lightning.inference.engine import Precision
from spi_lightning.inference.ensemble import Ensemble, TrainedOn, ready
from spi_lightning.inference.folding import folded
from spi_lightning.inference.low_precision import LowPrecision, check_native
from spi_lightning.inference.mirroring import MIRRORS, Mirror, mirrored
from spi_lightning.inference.predict import score_run
from spi_lightning.inference.thresholds import ThresholdSettings

SHAPE, QUICK_SHAPE = (192, 96), (64, 32)
NETWORKS = 5
SEED = 1
LOOP = "paper-faithful loop"
WITHIN = {"float32": 1e-4, "bfloat16": 2e-3, "float16": 2e-3}  # of the probabilities in float64
EXACT = 16  # patterns whose probabilities are computed in float64
OPENVINO_BATCH = 8


def rows(quick: bool) -> list[Row]:
    """Rows of the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = QUICK_SHAPE if quick else SHAPE
    n = 16 if quick else 64 if device == "cpu" else 8192
    return [
        *_full(n, shape, device, 1 if quick else 5),
        *_one(4 * n, shape, device, 1 if quick else 5),
        *([] if device == "cuda" else _compiled(shape, 1 if quick else 7)),
    ]


def _full(n: int, shape: tuple[int, int], device: str, repeats: int) -> list[Row]:
    patterns = normalised_patterns(n, shape, SEED)
    with ExitStack() as stack:

        def process(factory: str, *args: Any) -> Remote:
            return stack.enter_context(Remote(factory, *args))

        lower: Precision = "float16" if device == "cuda" else "bfloat16"
        variants = {
            LOOP: process("benchmarks.paper_faithful:full_ensemble", patterns, NETWORKS, SEED, device),
            "float32": process("benchmarks.prediction:ours", n, shape, device, "float32"),
        }
        try:
            check_native(lower, torch.device(device))
            variants[lower] = process("benchmarks.prediction:ours", n, shape, device, lower)
        except SpiError as error:
            without = [fact_row(f"the same in {lower}", "not measured", note=str(error))]
        else:
            without = []
        if device == "cpu":
            try:
                variants["OpenVINO fp32"] = process("benchmarks.prediction:openvino", patterns)
            except RemoteError as error:
                without.append(fact_row("OpenVINO fp32", "not measured", note=str(error).strip().splitlines()[-1]))
        said = {name: run() for name, run in variants.items()}
        speed = {name: [n / s for s in seconds] for name, seconds in interleaved(variants, repeats).items()}
        memory = variants["float32"].peak_memory()
        exact = process("benchmarks.prediction:in_float64", patterns)()
    target = 2.5 if device == "cpu" else None
    what = "patterns by the full ensemble with mirroring"
    found = [
        rate_row(f"{what}: {LOOP}", speed[LOOP]),
        rate_row(what, speed["float32"], LOOP, speed[LOOP], target),
    ]
    if "OpenVINO fp32" in speed:
        found.append(rate_row("the same", speed["float32"], "OpenVINO fp32", speed["OpenVINO fp32"], 0.8))
    if lower in speed:
        found.append(rate_row(f"the same in {lower}, near the threshold anew", speed[lower], LOOP, speed[LOOP]))
    for name in ("float32", lower):
        if name in said:
            worst = float(np.abs(said[name][:EXACT].mean(1) - exact.mean(1)).max())
            limit = WITHIN[name]
            found.append(
                fact_row(f"largest difference from float64, {name}", f"{worst:.1e}", f"≤ {limit:g}", worst <= limit)
            )
    return [*found, fact_row("memory of that process, at most", f"{memory / 1e9:.2f} GB"), *without]


def _one(n: int, shape: tuple[int, int], device: str, repeats: int) -> list[Row]:
    patterns = normalised_patterns(n, shape, SEED)
    with (
        Remote("benchmarks.paper_faithful:one_model", patterns, SEED, device) as theirs,
        Remote("benchmarks.prediction:ours", n, shape, device, "float32", 1, ("none",)) as mine,
    ):
        seconds = interleaved({"theirs": theirs, "ours": mine}, repeats)
    speed = {name: [n / s for s in values] for name, values in seconds.items()}
    return [rate_row("patterns by one network, no mirroring", speed["ours"], LOOP, speed["theirs"])]


def _compiled(shape: tuple[int, int], repeats: int) -> list[Row]:
    with (
        Remote("benchmarks.prediction:one_batch", shape, False, threads=1) as plain,
        Remote("benchmarks.prediction:one_batch", shape, True, threads=1) as compiled,
    ):
        seconds = interleaved({"plain": plain, "compiled": compiled}, repeats)
    speed = {name: [OPENVINO_BATCH / s for s in values] for name, values in seconds.items()}
    note = "not used: it does not clearly win, and takes some twenty seconds to compile"
    return [rate_row("one network by torch.compile, one core", speed["compiled"], "plain", speed["plain"], note=note)]


def ours(
    n: int,
    shape: tuple[int, int],
    device: str,
    precision: Precision,
    networks: int = NETWORKS,
    mirrors: tuple[Mirror, ...] = MIRRORS,
) -> Callable[[], np.ndarray]:
    """What spi-predict does once counts are read; gives probabilities ``(n, networks)``."""
    counts = pattern_counts(n, shape, SEED)
    members = new_networks(networks, normalised_patterns(n, shape, SEED), SEED)
    ensemble = Ensemble(
        networks=tuple(ready(member, device) for member in members),
        architecture={},
        normalisation=NORMALISATION,
        mirrors=mirrors,
        threshold=0.9,
        chosen_by=ThresholdSettings(),
        trained_on=TrainedOn(shape, None, {}, "", ""),
        description={},
    )

    def work() -> np.ndarray:
        preview = None if precision == "float32" else LowPrecision(ensemble, precision)
        return np.concatenate([models for _, models in score_run(ensemble, InMemory(counts), preview=preview)])

    return work


def in_float64(patterns: np.ndarray) -> Callable[[], np.ndarray]:
    """Probabilities ``(EXACT, networks)`` of the first patterns, eagerly on the CPU."""
    networks = [network.double() for network in new_networks(NETWORKS, patterns, SEED)]
    views = [mirrored(torch.from_numpy(patterns[:EXACT])[:, None].double(), mirror) for mirror in MIRRORS]

    @torch.inference_mode()
    def work() -> np.ndarray:
        members = [torch.stack([network(view).softmax(1)[:, 1] for view in views]).mean(0) for network in networks]
        return torch.stack(members, dim=1).numpy()

    return work


class InMemory:
    """As much of a run as prediction asks for."""

    def __init__(self, counts: np.ndarray):
        self.counts, self.shape = counts, counts.shape[1:]

    def blocks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(self.counts), size):
            yield start, self.counts[start : start + size]


def openvino(patterns: np.ndarray) -> Callable[[], np.ndarray]:
    """The same networks in OpenVINO, arranged as it likes: one stream a core, requests in flight on all of them."""
    import openvino as ov

    networks = new_networks(NETWORKS, patterns, SEED)
    core, compiled = ov.Core(), []
    example = torch.from_numpy(patterns[:OPENVINO_BATCH])[:, None]
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    for network in networks:
        model = ov.convert_model(network, example_input=example)
        model.reshape([OPENVINO_BATCH, *example.shape[1:]])
        compiled.append(core.compile_model(model, "CPU", hints))
    waiting = torch.from_numpy(patterns)[:, None]
    views = [np.ascontiguousarray(mirrored(waiting, mirror).numpy()) for mirror in MIRRORS]

    def work() -> np.ndarray:
        found = np.empty((len(MIRRORS), len(patterns), NETWORKS), np.float32)
        for member, model in enumerate(compiled):
            queue = ov.AsyncInferQueue(model)

            def take(request: Any, place: tuple[int, int], member: int = member) -> None:
                view, start = place
                logits = torch.from_numpy(request.get_output_tensor(0).data)
                found[view, start : start + OPENVINO_BATCH, member] = logits.softmax(1)[:, 1].numpy()

            queue.set_callback(take)
            for number, view in enumerate(views):
                for start in range(0, len(patterns), OPENVINO_BATCH):
                    queue.start_async({0: view[start : start + OPENVINO_BATCH]}, (number, start))
            queue.wait_all()
        return found.mean(0)

    return work


def one_batch(shape: tuple[int, int], compiled: bool) -> Callable[[], object]:
    """A batch through one folded network."""
    patterns = torch.from_numpy(normalised_patterns(OPENVINO_BATCH, shape, SEED))[:, None]
    patterns = patterns.contiguous(memory_format=torch.channels_last)
    network = folded(new_networks(1, patterns[:, 0].numpy(), SEED)[0])
    apply = torch.compile(network) if compiled else network

    def work() -> object:
        with torch.inference_mode():
            return apply(patterns)

    return work


if __name__ == "__main__":
    record.main(rows, "prediction")
