"""How many folds are trained at the same time, and with how many threads each."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from spi_lightning.cores import available_cores

# Memory of a process that trains, measured: 0.43 GB once all is imported, and 400 times a batch in float32 for the
# paper's network at 192 x 96, 180 times for the demo's; a part of what is needed comes only with validation.
PROCESS = 600_000_000
TIMES_BATCH = 600
# Until it is measured: processes share a GPU by taking turns, and each keeps some GB of its memory.
ON_A_GPU = 1


@dataclass(frozen=True)
class Sharing:
    """How a machine is shared out among the folds.

    Attributes:
        processes: folds at the same time, at most.
        threads: of each fold; where several devices share it, of each of their processes.
        cores: threads at the same time, at most, unless a single fold has more.
        devices: that share each fold.
    """

    processes: int
    threads: tuple[int, ...]
    cores: int
    devices: int = 1


def share_out(folds: int, wanted: int | None, threads: int, device: str, batch_bytes: int, devices: int = 1) -> Sharing:
    """Share out the cores of this machine.

    How many threads a fold has does not depend on which folds are finished, nor on the memory that happens to be free:
    what goes on after a stop is computed as it would have been.

    Args:
        folds: of the run, finished or not.
        wanted: folds at once; None: on a CPU one a core, as far as memory allows; on a GPU :data:`ON_A_GPU`.
        threads: of each fold's processes; 0: the cores divided by the processes at once, the last folds having those
            of all that are finished by then.
        device: cpu, cuda or cuda:N.
        batch_bytes: of the patterns of a batch in float32.
        devices: that share each fold: GPUs, or processes on a CPU.
    """
    cores = available_cores()
    if device != "cpu":
        at_once = min(folds, wanted or ON_A_GPU)
        fit = at_once
    else:
        at_once = min(folds, wanted or max(1, cores // (devices * (threads or 1))))
        each_needs = devices * PROCESS + TIMES_BATCH * batch_bytes
        fit = at_once if wanted else max(1, min(at_once, _free_memory() // each_needs))
    rounds = [min(at_once, folds - fold // at_once * at_once) for fold in range(folds)]
    each = tuple(threads or max(1, cores // (devices * size)) for size in rounds)
    return Sharing(fit, each, max(cores, at_once * devices * each[0]), devices)


def _free_memory() -> int:
    """Bytes that this process and its children may still take: of the machine, and of the job's control group."""
    try:
        available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:  # not Linux
        available = None
    if available is None:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([int(available[1]) * 1024, *_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _limits(membership: Path, root: Path) -> list[int]:
    """What is left, in bytes, of the memory of the control group (version 2) of this process, and of those around it.

    A batch system gives a job its share of a node like so; the node's free memory says nothing of it.
    """
    try:
        own = re.search(r"^0::/(.*)$", membership.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return []
    if own is None:
        return []
    inner = root / own[1]
    groups = [group for group in [inner, *inner.parents] if group.is_relative_to(root)]
    limits = [(group, _number(group / "memory.max")) for group in groups]
    return [max(0, limit - _in_use(group)) for group, limit in limits if limit is not None]


def _in_use(group: Path) -> int:
    """Bytes that a control group holds, without copies of files, which give way."""
    stat = group / "memory.stat"
    files = re.search(r"^inactive_file (\d+)$", stat.read_text() if stat.is_file() else "", re.MULTILINE)
    return max(0, (_number(group / "memory.current") or 0) - (int(files[1]) if files else 0))


def _number(file: Path) -> int | None:
    """What stands in a file of the control group; None where it is missing, or says that there is no limit."""
    text = file.read_text().strip() if file.is_file() else ""
    return int(text) if text.isdecimal() else None
