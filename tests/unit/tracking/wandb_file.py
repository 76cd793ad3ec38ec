"""Reading what wandb leaves offline: its own reader is no Python any more. Blocks of LevelDB's log, of protobufs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
FILE_HEADER, RECORD_HEADER = 7, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> list[Any]:
    data, place, found, part = path.read_bytes(), FILE_HEADER, [], b""
    assert data[:4] == b":W&B"
    while place + RECORD_HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < RECORD_HEADER:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        if kind not in (WHOLE, FIRST, MIDDLE, LAST):
            break
        part += data[place + RECORD_HEADER : place + RECORD_HEADER + length]
        place += RECORD_HEADER + length
        if kind in (WHOLE, LAST):
            found.append(Record.FromString(part))
            part = b""
    return found


class OfflineRun:
    """What one start of a run has left in ``FOLDER/wandb``."""

    def __init__(self, folder: Path, start: int = -1):
        path = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))[start]
        self.id = path.stem.removeprefix("run-")
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.exit_code: int | None = None
        for record in records(path):
            match record.WhichOneof("record_type"):
                case "run":
                    self.name, self.group, self.job_type = (
                        record.run.display_name, record.run.run_group, record.run.job_type,
                    )  # fmt: skip
                    self.project = record.run.project
                    self.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
                case "history":
                    self.history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
                case "summary":
                    self.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
                case "exit":
                    self.exit_code = record.exit.exit_code

    def curve(self, name: str) -> dict[int, float]:
        return {int(row["_step"]): row[name] for row in self.history if name in row}


def _key(item: Any) -> str:
    return str(item.key or ".".join(item.nested_key))
