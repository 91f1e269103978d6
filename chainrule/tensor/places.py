"""Entries by place along one axis: taken (gather), replaced (scatter), added to (scatter_add)."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.graph import Node, Shape
from chainrule.core.op import located
from chainrule.core.ops import arithmetic, shape
from chainrule.core.shape_rules import normalize_dim
from chainrule.errors import ShapeError
from chainrule.tensor.tensor import Tensor, operand_node, wrap

__all__ = ["flip", "gather", "scatter", "scatter_add"]


def flip(x: Tensor, dims: Any) -> Tensor:
    """Entries in reverse order along axes."""
    return x.flip(dims)


def gather(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """``y[i, j] = x[i, index[i, j]]`` for dim 1, and alike for other axes.

    Raises:
        IndexRangeError: a place outside the axis.
    """
    return x.gather(dim, index)


def scatter(x: Tensor, dim: int, index: Tensor, src: Any) -> Tensor:
    """``x`` with ``x[i, index[i, j]]`` replaced by ``src[i, j]`` for dim 1, alike for other axes.

    Of several sources for one place the last counts, in the order of rows.

    Args:
        x: the tensor that is copied.
        dim: the axis that ``index`` speaks of.
        index: whole numbers, with the axes of ``x``, none longer but ``dim``.
        src: a tensor of the shape of ``index``, or a number.

    Raises:
        ShapeError: shapes that do not fit.
        IndexRangeError: a place outside the axis.

    Example:
        >>> import chainrule as cr
        >>> scatter(cr.zeros(1, 3), 1, cr.tensor([[2]]), 5.0).tolist()
        [[0.0, 0.0, 5.0]]
    """
    dim, source = _fitting("scatter", x, dim, index, src)
    flat = shape.reshape(_flat_places(index.node, dim, x.shape), (index.numel(),))
    rows = shape.reshape(x.node, (x.numel(),))
    return wrap(shape.reshape(shape.put(rows, flat, shape.reshape(source, flat.shape)), x.shape))


def scatter_add(x: Tensor, dim: int, index: Tensor, src: Any) -> Tensor:
    """``x`` with ``src[i, j]`` added to ``x[i, index[i, j]]`` for dim 1, and alike for other axes.

    Every source counts, several for one place too. Arguments and errors are those of
    :func:`scatter`.

    Example:
        >>> import chainrule as cr
        >>> scatter_add(cr.zeros(1, 3), 1, cr.tensor([[2, 2]]), cr.ones(1, 2)).tolist()
        [[0.0, 0.0, 2.0]]
    """
    dim, source = _fitting("scatter_add", x, dim, index, src)
    return wrap(x.node + shape.gather_add(source, index.node, dim, x.shape))


def _fitting(op: str, x: Tensor, dim: int, index: Tensor, src: Any) -> tuple[int, Node]:
    """The axis counted from the front, and the source stretched to the index."""
    dim = normalize_dim(op, dim, x.ndim)
    fits = index.ndim == x.ndim and all(
        axis == dim or n <= x.shape[axis] for axis, n in enumerate(index.shape)
    )
    if not fits:
        raise located(
            ShapeError(
                op=op,
                expected=f"an index with {x.ndim} axes, none longer than {x.shape} but axis {dim}",
                got=index.shape,
            )
        )
    source = operand_node(src)
    if not isinstance(source, Node):
        source = shape.full((), source, x.dtype)
    return dim, shape.broadcast_to(arithmetic.cast(source, x.dtype), index.shape)


def _flat_places(index: Node, dim: int, lengths: Shape) -> Node:
    """The place of each source in the flattened tensor; -1, which is refused, where it has none."""
    total = None
    for axis in range(len(lengths)):
        stride = int(np.prod(lengths[axis + 1 :], dtype=np.int64))
        if axis == dim:
            part = arithmetic.cast(index, "int64") * stride
        else:
            steps = shape.iota(index.shape[axis]) * stride
            ones = (1,) * (index.ndim - axis - 1)
            part = shape.broadcast_to(shape.reshape(steps, (*steps.shape, *ones)), index.shape)
        total = part if total is None else total + part
    assert total is not None
    inside = (index < lengths[dim]) & (index >= 0)
    return arithmetic.where(inside, total, -1)
