from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spi_lightning.data.seeds import hashed_seed, random_words, shifted

WORDS = 2**64
PUBLISHED = [  # of seed 1234567, on rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def splitmix64(seed: int, count: int) -> list[int]:
    """With Python's integers, one after the other."""
    found = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) % WORDS
        word = seed
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % WORDS
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORDS
        found.append(word ^ (word >> 31))
    return found


def unsigned(words: torch.Tensor) -> list[int]:
    return [word % WORDS for word in words.tolist()]


def test_the_words_are_the_published_ones() -> None:
    assert splitmix64(1234567, 5) == PUBLISHED
    assert unsigned(random_words(1234567, 5)) == PUBLISHED


@given(seed=st.integers(0, 2**63 - 1), count=st.integers(0, 50))
def test_words_are_those_of_plain_integers(seed: int, count: int) -> None:
    assert unsigned(random_words(seed, count)) == splitmix64(seed, count)


@given(word=st.integers(-(2**63), 2**63 - 1), bits=st.integers(1, 63))
def test_a_shift_lets_zeros_in(word: int, bits: int) -> None:
    assert shifted(torch.tensor([word]), bits).item() == word % WORDS >> bits


def test_every_bit_is_even_and_neighbours_are_unrelated() -> None:
    count = 20_000
    one, other = (random_words(hashed_seed(0, 0, epoch, 0, 1), count) for epoch in (0, 1))
    five_sigma = 2.5 * count**0.5
    for words in (one, one ^ other, one[1:] ^ one[:-1]):
        for bit in range(64):
            assert abs(int((words >> bit & 1).sum()) - len(words) / 2) < five_sigma


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_gpu_gives_the_same_words() -> None:
    assert torch.equal(random_words(7, 10_000, "cuda").cpu(), random_words(7, 10_000))
