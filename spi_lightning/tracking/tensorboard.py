"""Events for TensorBoard: ``tensorboard --logdir FOLDER`` shows all trainings below a folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from spi_lightning.records import rows_of
from spi_lightning.report.layout import markdown
from spi_lightning.tracking.run import About, Place, Results, State

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

MOST_ROWS = 100  # of a table
FINAL = "whole"  # of the training: pages are in the order of letters, and curves (train, val) come first
STATUS = {"complete": "SUCCESS", "failed": "FAILURE", "stopped": "FAILURE"}


@dataclass(frozen=True)
class TensorBoard:
    """Write events into ``tensorboard/`` of the training's folder: a run for each fold, and one for the whole.

    Attributes:
        flush_seconds: after which what was told is written, for those who look on.
    """

    flush_seconds: int

    package: ClassVar[str | None] = None

    def opened(self, place: Place, about: About) -> _Events:
        """Go on with the run, or begin it; that of the whole training is told anew each time."""
        folder = place.run / "tensorboard" / ("whole" if place.fold is None else f"fold_{place.fold}")
        events = _Events(folder, about, self.flush_seconds)
        if place.fold is None:
            events.go_on_from(0)
        return events


class _Events:
    def __init__(self, folder: Path, about: About, seconds: int):
        self._folder, self._about, self._seconds = folder, about, seconds
        self._writer: SummaryWriter | None = None

    def go_on_from(self, step: int) -> None:
        """Tell TensorBoard to forget what other files here say of later iterations, or all; it may have read them."""
        self._open(step + 1 if step else 0)
        if not step:
            self._tell_about()

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        for name, value in values.items():
            self._open().add_scalar(name, value, step)

    def flush(self) -> None:
        self._open().flush()

    def publish(self, results: Results) -> None:
        from matplotlib.image import imread

        writer = self._open()
        for name, value in results.metrics.items():
            writer.add_scalar(f"{FINAL}/{name}", value, 0)
        for name, path in results.tables.items():
            writer.add_text(f"tables/{name}", _as_markdown(path), 0)
        for name, path in results.figures.items():
            writer.add_image(f"figures/{name}", imread(path)[..., :3], 0, dataformats="HWC")
        self._compare(results)

    def close(self, state: State) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, purge_from: int | None = None) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            # Files are read in the order of their names, which begin with the second that they are made in.
            while any(self._folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
                time.sleep(0.05)
            self._writer = SummaryWriter(str(self._folder), purge_step=purge_from, flush_secs=self._seconds)
        return self._writer

    def _tell_about(self) -> None:
        facts = "\n".join(f"| {name} | {value} |" for name, value in self._about.facts.items())
        config = self._about.config_file.read_text(encoding="utf-8")
        self._open().add_text("about/facts", f"| | |\n|---|---|\n{facts}", 0)
        self._open().add_text("about/config", f"```yaml\n{config}```", 0)

    def _compare(self, results: Results) -> None:
        """What the page HPARAMS compares. SummaryWriter.add_hparams would make another run for it."""
        from torch.utils.tensorboard.summary import hparams

        metrics: dict[str, Any] = dict.fromkeys(f"{FINAL}/{name}" for name in results.metrics)
        for summary in hparams(results.settings, metrics):
            self._open()._get_file_writer().add_summary(summary, 0)


def _as_markdown(path: Path) -> str:
    lines = rows_of(path)
    if not lines:
        return "(empty)"
    cells = [[_short(cell) for cell in line.values()] for line in lines[:MOST_ROWS]]
    more = f"\n\n{len(lines) - MOST_ROWS} more rows are in {path}." if len(lines) > MOST_ROWS else ""
    return markdown(list(lines[0]), cells) + more


def _short(cell: str) -> str:
    """Numbers with four digits, which is as much as a table on a page can show."""
    try:
        return f"{float(cell):.4g}" if not cell.lstrip("-").isdigit() else cell
    except ValueError:
        return cell
