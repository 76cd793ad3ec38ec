"""A piece of work in a process of its own, so that variants do not share heap, threads or a peak of memory.

with Remote("benchmarks.paper_faithful:training_step", (192, 96), 64, 10) as theirs:
    interleaved({"theirs": theirs, ...}, 5)
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import pickle
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

# Settings of malloc, or another one in its place: what is compared is glibc's as it comes, and keep_heap() on top.
MALLOC = re.compile(r"MALLOC_\w+|GLIBC_TUNABLES|LD_PRELOAD")
PATIENCE = 5.0  # seconds that a process may take to end of its own accord


class RemoteError(RuntimeError):
    """The work failed; the message is the traceback over there."""


class Remote:
    """A zero-argument callable that runs in a freshly spawned process, and waits for the result.

    The process may have children of its own. It ends with the ``with`` block, or with its parent, however that ends.
    """

    def __init__(self, factory: str, *args: Any, threads: int | None = None) -> None:
        """Start the process, and wait until its work is prepared.

        Args:
            factory: ``module:function`` that makes the callable.
            *args: for the factory.
            threads: of torch; None: as many as torch chooses.

        Raises:
            RemoteError: the factory failed.
        """
        self._name = factory
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        # Not a daemon, for those may not have children: data loaders would have no workers.
        self._process = context.Process(target=_serve, args=(theirs,), name=factory)
        with _plain_malloc():
            self._process.start()
        theirs.close()
        atexit.register(self.close)  # comes before multiprocessing's own, which would wait for the process
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._send((factory, args, threads))
            self._receive()
            on_failure.pop_all()

    def __call__(self) -> Any:
        """Run the work once; its result, if it can be sent (None otherwise).

        Raises:
            RemoteError: it failed.
        """
        self._send(None)
        return self._receive()

    def peak_memory(self) -> int:
        """Largest resident memory of the process so far, bytes (VmHWM, on Linux); its children's is not in it."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        if found is None:
            raise RemoteError(f"{self._name}: the process has ended.")
        return int(found[1]) * 1024

    def close(self) -> None:
        """End the process."""
        atexit.unregister(self.close)
        self._connection.close()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # Plain pickles: multiprocessing's would put tensors into /dev/shm, of which containers often have 64 MB.
    def _send(self, message: object) -> None:
        content = pickle.dumps(message)
        try:
            self._connection.send_bytes(content)
        except BrokenPipeError:
            raise self._ended() from None

    def _receive(self) -> Any:
        try:
            succeeded, result = pickle.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise self._ended() from None
        if not succeeded:
            raise RemoteError(f"{self._name} failed:\n{result}")
        return result

    def _ended(self) -> RemoteError:
        self._process.join(PATIENCE)
        return RemoteError(f"{self._name}: the process ended with exit code {self._process.exitcode}.")


@contextmanager
def _plain_malloc() -> Iterator[None]:
    """Without settings of malloc in the environment, which a new process would take over."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if MALLOC.fullmatch(name)}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _serve(connection: Connection) -> None:
    """What the process does: prepare the work, then run it whenever it is asked to."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    factory, args, threads = pickle.loads(connection.recv_bytes())
    prepared, work = _tried(lambda: _prepared(factory, args, threads))
    _answer(connection, prepared, None if prepared else work)
    while prepared:
        try:
            connection.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        _answer(connection, *_tried(work))


def _prepared(factory: str, args: tuple[Any, ...], threads: int | None) -> Callable[[], object]:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)(*args)


def _tried(work: Callable[[], object]) -> tuple[bool, Any]:
    try:
        return True, work()
    except Exception:  # whatever it is, it is the parent's to know
        return False, traceback.format_exc()


def _answer(connection: Connection, succeeded: bool, result: object) -> None:
    try:
        content = pickle.dumps((succeeded, result))
    except (pickle.PicklingError, TypeError, AttributeError):  # a generator, a lambda, an open file
        content = pickle.dumps((succeeded, None))
    connection.send_bytes(content)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
