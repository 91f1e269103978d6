"""Cases of the random ops, against Philox written out in Python's own whole numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from oracle import Case

from chainrule.core.ops import random as ops

CASES: dict[str, list[Case]] = {}
KINKS: dict[str, list[Case]] = {}
SPECIALS: dict[str, list[Case]] = {}

WORD = 0xFFFFFFFF


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Ten rounds, as figure 2 of the paper writes them (Salmon et al. 2011)."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p2 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p2 >> 32 ^ c1 ^ k0, p2 & WORD, p0 >> 32 ^ c3 ^ k1, p0 & WORD
        k0, k1 = k0 + 0x9E3779B9 & WORD, k1 + 0xBB67AE85 & WORD
    return c0, c1, c2, c3


def words(seed: int, draw: int, count: int) -> list[int]:
    found: list[int] = []
    for block in range(-(-count // 4)):
        counter = (block & WORD, block >> 32, draw & WORD, draw >> 32 & WORD)
        found += philox(counter, (seed & WORD, seed >> 32 & WORD))
    return found[:count]


def _bits(shape: tuple[int, ...], ordinal: int) -> Any:
    def reference(seed: Any, base: Any) -> Any:
        found = words(int(seed), int(base) + ordinal, math.prod(shape))
        return torch.tensor(found, dtype=torch.int64).reshape(shape)

    return reference


def _uniform(shape: tuple[int, ...], ordinal: int) -> Any:
    return lambda seed, base: (_bits(shape, ordinal)(seed, base) >> 8).double() / 2**24


def _normal(shape: tuple[int, ...], ordinal: int) -> Any:
    def reference(seed: Any, base: Any) -> Any:
        u, v = _uniform((2, math.prod(shape)), ordinal)(seed, base)
        return (torch.sqrt(-2 * torch.log(1 - u)) * torch.cos(2 * math.pi * v)).reshape(shape)

    return reference


def _cases(name: str, reference: Any, **attrs: Any) -> None:
    op = getattr(ops, name)
    CASES[name] = [
        Case(
            lambda seed, base, s=shape, o=ordinal: op(seed, base, shape=s, ordinal=o, **attrs),
            reference(shape, ordinal),
            (np.array(seed), np.array(base)),
        )
        for seed, base, ordinal, shape in [
            (0, 0, 0, (5,)),
            (1, 2, 3, (2, 3)),
            (2**40 + 7, 2**32 - 1, 5, (9,)),
            (-1, 2**62, 0, ()),
            (3, 0, 0, (0, 2)),
        ]
    ]


_cases("random_bits", _bits)
_cases("random_uniform", _uniform, dtype=np.dtype(np.float64))
_cases("random_normal", _normal, dtype=np.dtype(np.float64))
