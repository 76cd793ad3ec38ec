"""The errors that a user can do something about."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable


class SpiError(Exception):
    """Something that the user gave cannot be used; the message says what, where, and what to do.

    A command prints the message of such an error without a traceback and exits with status 1. Any other
    exception is a fault of the program and keeps its traceback.
    """


class Pruned(SpiError):
    """A trial of a search that is given up, since others are better."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the valid name nearest to ``name``, or an empty string."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def require(fits: bool, name: str, value: object, expected: str) -> None:
    """Raise a :class:`SpiError` that names a setting, what was found and what was expected, unless it ``fits``."""
    if not fits:
        raise SpiError(f"{name} is {value!r}; it must be {expected}.")


_DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def disk_trouble(error: BaseException) -> str | None:
    """What the disk says, such as "No space left on device", where an error comes from it; else None.

    HDF5, safetensors and torch say it in the text alone.
    """
    said = re.search(r"errno = (\d+)|os error (\d+)|Errno (\d+)", str(error))
    number = getattr(error, "errno", None) or (int(next(filter(None, said.groups()))) if said else 0)
    return os.strerror(number) if number in _DISK_TROUBLE else None
