"""Arrays to try ops on: repeatable, and away from the kinks."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

NAN, INF = np.nan, np.inf
# The float range and its edges, but for the subnormals, which PyTorch takes for 0 in some curves.
SPECIAL = np.array(
    [NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-9, -1e-9, 1e-300, -1e-300, 1e300, -1e300,
     800.0, -800.0]
)  # fmt: skip

SHAPES = [(), (1,), (5,), (3, 7), (2, 1, 3), (0,), (2, 0, 3)]


def grid(*shape: int, offset: float = 0.0, seed: int = 0) -> Array:
    """Distinct numbers about 0, a tenth apart and .05 from every multiple of .1, shuffled.

    So they are .05 from every whole and half number; two grids with offsets .03 apart never tie.
    """
    size = int(np.prod(shape))
    numbers = (np.arange(size) - size // 2 + 0.5) / 10 + offset
    return np.random.default_rng(seed).permutation(numbers).reshape(shape)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


def between(low: float, high: float, *shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).uniform(low, high, shape))


def whole(low: int, high: int, *shape: int, dtype: object = np.int64, seed: int = 0) -> Array:
    numbers = np.random.default_rng(seed).integers(low, high, shape)
    return np.asarray(numbers, dtype)  # type: ignore[call-overload]


def truth(*shape: int, seed: int = 0) -> Array:
    return whole(0, 2, *shape, dtype=np.bool_, seed=seed)


def pairs(values: Array = SPECIAL) -> tuple[Array, Array]:
    """Each value beside each."""
    a, b = np.meshgrid(values, values)
    return a.copy(), b.copy()
