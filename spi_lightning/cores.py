"""How many cores there are to use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Cores that this process may use: on a shared node often fewer than there are.

    SLURM binds its jobs to theirs on some clusters; on others it only says how many they are.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(own, int(given)) if given.isdigit() and int(given) > 0 else own
