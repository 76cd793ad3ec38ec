from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from spi_lightning.inference.parallel import each_on_one_core
from tests.unit.inference.small import small_ensemble
from tests.unit.patterns.fake_run import photons


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_are_in_order_and_the_same_to_the_bit_for_any_number_of_workers() -> None:
    ensemble = small_ensemble(2)
    parts = torch.from_numpy(photons(60)).split(8)
    one, three = (torch.cat(list(each_on_one_core(ensemble.probabilities, parts, n))) for n in (1, 3))
    assert torch.equal(one, three)
    torch.testing.assert_close(one, ensemble.probabilities(torch.cat(parts)))


def test_work_is_done_side_by_side_and_by_one_thread_each(two_threads: None) -> None:
    together = threading.Barrier(3, timeout=20)

    def work(number: int) -> tuple[int, int]:
        together.wait()  # goes on only when three are at work
        return number, torch.get_num_threads()

    assert list(each_on_one_core(work, range(6), 3)) == [(number, 1) for number in range(6)]


def test_the_number_of_threads_is_put_back(two_threads: None) -> None:
    def threads_of_a_new_thread() -> int:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return found[0]

    work = each_on_one_core(lambda part: part, range(10), 2)
    next(work)
    work.close()
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == (2, 2)


def test_parts_are_taken_as_they_are_needed() -> None:
    taken = 0

    def parts() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken = number + 1
            yield number

    for number, result in enumerate(each_on_one_core(lambda part: part, parts(), 2)):
        assert result == number
        assert taken <= number + 3


def test_an_error_of_the_work_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(each_on_one_core(lambda part: 1 // part, [1, 0, 1], 2))
