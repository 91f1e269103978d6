"""Random numbers as a pure function of (seed, draw, element): Philox4x32-10.

Element ``i`` of draw ``n`` is word ``i % 4`` of the block whose counter is ``(i // 4, n)`` and
whose key is the seed. So the same numbers come out on every executor, in any order, on any thread.

Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_MULTIPLIER = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF
_ROUNDS = 10
# So few blocks are computed faster one by one, in Python's whole numbers.
_FEW = 6


def philox(counter: np.ndarray[Any, Any], key: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Ten rounds of Philox4x32.

    Args:
        counter: uint32 words, shape (4, n).
        key: two 32-bit words.

    Returns:
        uint32 words, shape (4, n).
    """
    c0, c1, c2, c3 = counter.astype(np.uint64)
    return np.stack(_rounds(c0, c1, c2, c3, key)).astype(np.uint32)


def _rounds(c0: Any, c1: Any, c2: Any, c3: Any, key: tuple[int, int]) -> tuple[Any, ...]:
    """Ten rounds on the words of counters: whole numbers, or arrays of uint64."""
    k0, k1 = key
    for _ in range(_ROUNDS):
        low, high = c0 * _MULTIPLIER[0], c2 * _MULTIPLIER[1]
        c0, c1, c2, c3 = (
            (high >> 32) ^ c1 ^ k0,
            high & _WORD,
            (low >> 32) ^ c3 ^ k1,
            low & _WORD,
        )
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


def random_words(seed: int, draw: int, count: int) -> np.ndarray[Any, Any]:
    """The first ``count`` uint32 words of draw number ``draw``."""
    length = (count + 3) // 4
    key = (seed & _WORD, seed >> 32 & _WORD)
    number = (draw & _WORD, draw >> 32 & _WORD)
    if length <= _FEW:
        words = [word for block in range(length) for word in _rounds(block, 0, *number, key)]
        return np.array(words[:count], np.uint32)
    blocks = np.arange(length, dtype=np.uint64)
    counter = np.empty((4, length), np.uint32)
    counter[0], counter[1] = blocks & _WORD, blocks >> 32
    counter[2], counter[3] = number
    return philox(counter, key).T.reshape(-1)[:count]


def uniform(words: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Numbers in [0, 1): the upper 24 bits of each word, exact in float32 and float64."""
    numbers: np.ndarray[Any, Any] = (words >> np.uint32(8)).astype(dtype) * dtype.type(2.0**-24)
    return numbers
