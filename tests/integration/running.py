"""Commands run in this process: what they do is the same, and Python and torch need not be started for each."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from spi_lightning.patterns.handles import close_files


def run_here(command: str) -> tuple[int, str, str]:
    """Run a command line in this process, as its console script does: exit status, standard output and error."""
    name, *arguments = shlex.split(command)
    main = importlib.import_module(f"spi_lightning.commands.{name.removeprefix('spi-')}").main
    stdout, stderr, status = io.StringIO(), io.StringIO(), 0
    argv, handlers, level = sys.argv, logging.root.handlers[:], logging.root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            sys.argv = [name, *arguments]
            main()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        finally:
            sys.argv, logging.root.handlers[:] = argv, handlers
            logging.root.setLevel(level)
            for number, handler in signals.items():
                signal.signal(number, handler)
            GlobalHydra.instance().clear()
            close_files()
    return status, stdout.getvalue(), stderr.getvalue()


def run_in(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a command in a folder, with one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tests run side by side, one a core
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of processes that it starts
        status, stdout, stderr = run_here(shlex.join([name, *arguments]))
    torch.set_num_threads(threads)
    return subprocess.CompletedProcess([name, *arguments], status, stdout, stderr)
