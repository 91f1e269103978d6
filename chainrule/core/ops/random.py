"""Random numbers as nodes: pure functions of the seed, the draw and the element (decision 12)."""

from __future__ import annotations

import math

import numpy as np

from chainrule.core import random
from chainrule.core.dtype import DType, uint32
from chainrule.core.graph import Array, Node, Shape, TensorType
from chainrule.core.op import Notation, Op, register
from chainrule.core.ops.arithmetic import cos, log, sqrt
from chainrule.core.ops.shape import reshape, slice_


def _bits(seed: Array, base: Array, *, ordinal: int, shape: Shape) -> Array:
    words = random.random_words(int(seed), int(base) + ordinal, math.prod(shape))
    return words.reshape(shape)


def _uniform(seed: Array, base: Array, *, ordinal: int, shape: Shape, dtype: DType) -> Array:
    return random.uniform(_bits(seed, base, ordinal=ordinal, shape=shape), dtype)


random_bits = register(
    Op(
        "random_bits",
        lambda seed, base, *, ordinal, shape: TensorType(shape, uint32),
        _bits,
        None,
        Notation("bits", r"\text{{bits}}"),
        arity=2,
    )
)
random_uniform = register(
    Op(
        "random_uniform",
        lambda seed, base, *, ordinal, shape, dtype: TensorType(shape, dtype),
        _uniform,
        None,
        Notation("uniform(0, 1)", r"\mathcal{{U}}(0, 1)"),
        arity=2,
    )
)


def _normal(seed: Node, base: Node, *, ordinal: int, shape: Shape, dtype: DType) -> Node:
    """Box and Muller: sqrt(-2 ln(1 - u)) cos(2 pi v)."""
    pairs = random_uniform(seed, base, ordinal=ordinal, shape=(2, math.prod(shape)), dtype=dtype)
    count = pairs.shape[1]
    u = slice_(pairs, (0, 0), (1, count))
    v = slice_(pairs, (1, 0), (2, count))
    return reshape(sqrt(-2 * log(1 - u)) * cos(2 * float(np.pi) * v), shape)


random_normal = register(
    Op(
        "random_normal",
        lambda seed, base, *, ordinal, shape, dtype: TensorType(shape, dtype),
        None,
        None,
        Notation("normal(0, 1)", r"\mathcal{{N}}(0, 1)"),
        body=_normal,
        arity=2,
    )
)
