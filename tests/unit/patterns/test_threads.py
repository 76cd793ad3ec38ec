from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from spi_lightning.patterns import open_run, threads
from spi_lightning.patterns.threads import side_by_side

from . import foreign


@pytest.fixture(autouse=True)
def three_cores(monkeypatch):
    """Whatever this machine has."""
    monkeypatch.setattr(threads, "available_cores", lambda: 3)
    monkeypatch.setattr(threads, "_pool", None)


def test_results_come_in_order_and_from_several_threads():
    meeting = threading.Barrier(3)  # none gets further alone

    def work(part):
        if part < 3:
            meeting.wait(timeout=30)
        return part, threading.get_ident()

    results = list(side_by_side(work, range(50)))
    assert [part for part, _ in results] == list(range(50))
    assert len({thread for _, thread in results[:3]}) == 3
    assert threading.get_ident() not in {thread for _, thread in results}


@pytest.mark.parametrize("n", [0, 1])
def test_little_work_needs_no_thread(n):
    assert list(side_by_side(lambda part: threading.get_ident(), range(n))) == [threading.get_ident()] * n
    assert threads._pool is None


def test_one_core_needs_no_thread(monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 1)
    assert set(side_by_side(lambda part: threading.get_ident(), range(9))) == {threading.get_ident()}


def test_parts_are_taken_as_they_are_needed():
    taken = []

    def parts():
        for part in range(100):
            taken.append(part)
            yield part

    results = side_by_side(lambda part: part, parts())
    assert next(results) == 0
    assert len(taken) == 3 * 2 + 1
    results.close()
    assert len(taken) == 3 * 2 + 1


def test_nothing_runs_on_after_an_error():
    running, done = threading.Event(), []

    def work(part):
        if part == 1:
            running.wait(timeout=30)
            raise ValueError("part 1")
        if part == 2:
            running.set()
            threading.Event().wait(0.05)
        done.append(part)

    with pytest.raises(ValueError, match="part 1"):
        list(side_by_side(work, range(1000)))
    before = len(done)
    assert 2 in done
    assert before < 20
    threading.Event().wait(0.02)
    assert len(done) == before


def test_work_within_work():
    inner = side_by_side(lambda part: list(side_by_side(lambda n: n * part, range(9))), range(9))
    assert list(inner) == [[n * part for n in range(9)] for part in range(9)]


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[1, 4])
def file(request, tmp_path):
    frames = foreign.photons(200, dtype=np.uint16)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as made:
        made.create_dataset("data", data=frames, chunks=(request.param, 8, 10), compression="gzip", shuffle=True)
    return path, frames


def test_several_threads_read_at_once(file):
    path, frames = file
    run = open_run(path)
    orders = [np.random.default_rng(i).permutation(200) for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for order, found in zip(orders, pool.map(run.read, orders), strict=True):
            np.testing.assert_array_equal(found, frames[order])


def _read(run, order):
    return os.getpid(), run.read(order)


def test_a_forked_child_decodes_with_threads_of_its_own(file):
    path, frames = file
    run = open_run(path)
    orders = [np.random.default_rng(i).permutation(200) for i in range(6)]
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            run.read(orders[0])

    reader = threading.Thread(target=busy)  # locks are held, and threads at work, while the children are made
    reader.start()
    try:
        for _ in range(3):
            with multiprocessing.get_context("fork").Pool(2) as pool:
                results = pool.starmap_async(_read, [(run, order) for order in orders]).get(timeout=60)
            for order, (process, found) in zip(orders, results, strict=True):
                assert process != os.getpid()
                np.testing.assert_array_equal(found, frames[order])
    finally:
        stop.set()
        reader.join()
    np.testing.assert_array_equal(run.read(orders[1]), frames[orders[1]])
