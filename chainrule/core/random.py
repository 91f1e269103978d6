"""Random numbers as a pure function of (seed, draw, element): Philox4x32-10.

Element ``i`` of draw ``n`` is word ``i % 4`` of the block whose counter is ``(i // 4, n)`` and
whose key is the seed. So the same numbers come out on every executor, in any order, on any thread.

Source: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_MULTIPLIER = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_WORD = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10


def philox(counter: np.ndarray[Any, Any], key: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Ten rounds of Philox4x32.

    Args:
        counter: uint32 words, shape (4, n).
        key: two 32-bit words.

    Returns:
        uint32 words, shape (4, n).
    """
    c0, c1, c2, c3 = counter.astype(np.uint64)
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    for _ in range(_ROUNDS):
        low, high = c0 * _MULTIPLIER[0], c2 * _MULTIPLIER[1]
        c0, c1, c2, c3 = (
            (high >> _HALF) ^ c1 ^ k0,
            high & _WORD,
            (low >> _HALF) ^ c3 ^ k1,
            low & _WORD,
        )
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


def random_words(seed: int, draw: int, count: int) -> np.ndarray[Any, Any]:
    """The first ``count`` uint32 words of draw number ``draw``."""
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    counter = np.empty((4, len(blocks)), np.uint32)
    counter[0] = blocks & _WORD
    counter[1] = blocks >> _HALF
    counter[2] = draw & 0xFFFFFFFF
    counter[3] = draw >> 32 & 0xFFFFFFFF
    key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
    return philox(counter, key).T.reshape(-1)[:count]


def uniform(words: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Numbers in [0, 1): the upper 24 bits of each word, exact in float32 and float64."""
    numbers: np.ndarray[Any, Any] = (words >> np.uint32(8)).astype(dtype) * dtype.type(2.0**-24)
    return numbers
