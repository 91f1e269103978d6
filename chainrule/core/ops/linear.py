"""Matrix multiplication."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.graph import Node, TensorType
from chainrule.core.op import (
    PRODUCT,
    UNARY,
    Notation,
    Op,
    broadcast_shape,
    common_dtype,
    lift,
    located,
    register,
)
from chainrule.core.ops.shape import broadcast_to, reshape, transpose
from chainrule.errors import ShapeError


def _operands(op: Op, a: Node, b: Node) -> tuple[Node, ...]:
    """Equal batch axes; the inner lengths are checked by the shape rule."""
    dtype = common_dtype(op, (a, b))
    a, b = lift(a, dtype), lift(b, dtype)
    if a.ndim < 2 or b.ndim < 2:
        return a, b
    batch = broadcast_shape(op, [a.shape[:-2], b.shape[:-2]])
    return broadcast_to(a, (*batch, *a.shape[-2:])), broadcast_to(b, (*batch, *b.shape[-2:]))


def _type(a: TensorType, b: TensorType) -> TensorType:
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            op="matmul",
            expected="as many columns on the left as rows on the right",
            got=f"{a.shape} @ {b.shape}",
            mend=f"transpose one of them, or reshape the left one to end in {b.shape[-2]}",
        )
    return TensorType((*a.shape[:-1], b.shape[-1]), a.dtype)


MATMUL: Op = register(
    Op(
        "matmul",
        _type,
        np.matmul,
        (
            lambda g, y, a, b: MATMUL(g, transpose(b)),
            lambda g, y, a, b: MATMUL(transpose(a), g),
        ),
        Notation("{0} {1}", "{0} {1}", PRODUCT, (PRODUCT, UNARY)),
        operands=_operands,
        arity=2,
    )
)


def matmul(a: Any, b: Any) -> Node:
    """The matrix product; vectors are rows on the left and columns on the right, as in NumPy."""
    if a.ndim == 0 or b.ndim == 0:
        error = ShapeError(
            op="matmul", expected="tensors with at least one axis", got="a number", mend="use *"
        )
        raise located(error)
    left = reshape(a, (1, *a.shape)) if a.ndim == 1 else a
    right = reshape(b, (*b.shape, 1)) if b.ndim == 1 else b
    y = MATMUL(left, right)
    shape = list(y.shape)
    if b.ndim == 1:
        del shape[-1]
    if a.ndim == 1:
        del shape[-1 if b.ndim == 1 else -2]
    return reshape(y, shape)
