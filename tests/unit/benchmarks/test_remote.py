from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.remote import Remote, RemoteError

WORK = "tests.unit.benchmarks.work"
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_the_factory_runs_once_and_its_work_whenever_it_is_called() -> None:
    with Remote(f"{WORK}:counting", 5) as remote:
        assert [remote(), remote(), remote()] == [5, 6, 7]


def test_a_process_of_its_own_with_threads_and_malloc_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "100000000")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=100000000")
    with Remote(f"{WORK}:facts", threads=3) as remote:
        found = remote()
    assert found["pid"] != os.getpid()
    assert found["threads"] == 3
    assert found["malloc"] == set()
    assert os.environ["MALLOC_TRIM_THRESHOLD_"] == "100000000"


@linux
def test_large_blocks_are_mapped_as_glibc_does_by_itself() -> None:
    with Remote(f"{WORK}:allocated_by_mmap") as remote:
        assert remote() >= 64 << 20


def test_tensors_go_both_ways() -> None:
    with Remote(f"{WORK}:tensor_of", 3) as remote:
        torch.testing.assert_close(remote(), torch.arange(3))
    with Remote(f"{WORK}:weights_sum", {"a": torch.ones(5), "b": torch.ones(2)}) as remote:
        assert remote() == 7


def test_what_cannot_be_sent_is_left_there() -> None:
    with Remote(f"{WORK}:unsendable") as remote:
        assert remote() is None


def test_a_traceback_comes_back() -> None:
    with pytest.raises(RemoteError, match=r"failing(.|\n)*ArithmeticError: the factory is broken"):
        Remote(f"{WORK}:failing")
    with Remote(f"{WORK}:failing_later") as remote:
        for _ in range(2):  # the process goes on
            with pytest.raises(RemoteError, match="ArithmeticError: the work is broken"):
                remote()
    with pytest.raises(RemoteError, match=r"No module named 'benchmarks\.missing'"):
        Remote("benchmarks.missing:rows")


def test_a_crash_is_told() -> None:
    with Remote(f"{WORK}:crashing") as remote:
        with pytest.raises(RemoteError, match="exit code 3"):
            remote()
        with pytest.raises(RemoteError, match="exit code 3"):
            remote()


def test_it_may_have_children() -> None:
    with Remote(f"{WORK}:with_workers") as remote:
        assert remote() == [0, 1, 2, 3]


@linux
def test_the_peak_of_memory_is_that_of_the_process() -> None:
    with Remote(f"{WORK}:filling", 300) as remote:
        before = remote.peak_memory()
        remote()
        assert remote.peak_memory() - before > 250 << 20
        assert remote.peak_memory() < 300 << 20 | 1 << 30


@linux
def test_it_ends_with_its_parent_also_where_that_is_killed() -> None:
    with Remote(f"{WORK}:parent_of_one") as parent:
        orphan = parent()
        assert _runs(orphan)
        os.kill(parent._process.pid or 0, 9)
        assert _ends(orphan)


@linux
def test_it_ends_with_a_program_that_forgets_it() -> None:
    program = f"from benchmarks.remote import Remote\nif __name__ == '__main__':\n    r = Remote('{WORK}:facts')\n"
    program += "    print(r()['pid'])"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert _ends(int(done.stdout))


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _ends(pid: int) -> bool:
    for _ in range(100):
        if not _runs(pid):
            return True
        time.sleep(0.1)
    return False
