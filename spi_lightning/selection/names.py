"""Names of selections as names of files."""

from __future__ import annotations

import re


def file_name(name: str) -> str:
    """A selection's name as part of a file's: ``singles + EM`` becomes ``singles_em``."""
    return re.sub(r"[^\w.]+", "_", name.lower()).strip("_.") or "selection"
