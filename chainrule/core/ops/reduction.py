"""Primitives that fold axes away, and sorting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from chainrule.core.dtype import bool_, int64, is_float, uint8
from chainrule.core.graph import Array, Node, Shape, TensorType
from chainrule.core.op import Joint, Notation, Op, register, results
from chainrule.core.ops.arithmetic import cast, equal
from chainrule.core.ops.shape import broadcast_to, gather_add, reshape
from chainrule.core.shape_rules import normalize_dim, normalize_dims
from chainrule.errors import ShapeError

Dims = int | Sequence[int] | None


def folded(x: TensorType, *, dims: Shape, keepdim: bool) -> TensorType:
    """The type after folding ``dims``."""
    if keepdim:
        shape = [1 if axis in dims else n for axis, n in enumerate(x.shape)]
    else:
        shape = [n for axis, n in enumerate(x.shape) if axis not in dims]
    return TensorType(tuple(shape), x.dtype)


def spread(y: Node, x: Node, dims: Shape) -> Node:
    """A folded value copied back over the folded axes of ``x``."""
    kept = tuple(1 if axis in dims else n for axis, n in enumerate(x.shape))
    return broadcast_to(reshape(y, kept), x.shape)


SUM = register(
    Op(
        "sum",
        folded,
        lambda x, *, dims, keepdim: np.add.reduce(x, dims, x.dtype, keepdims=keepdim),
        (lambda g, y, x, *, dims, keepdim: spread(g, x, dims),),
        Notation("sum({0})", r"\sum {0}"),
    )
)


def sum(x: Node, dim: Dims = None, keepdim: bool = False) -> Node:
    """The sum over axes; of whole numbers and truth values in int64."""
    dims = normalize_dims("sum", dim, x.ndim)
    x = cast(x, int64) if x.dtype.kind in "biu" else x
    return SUM(x, dims=dims, keepdim=keepdim) if dims else x


def _amax_rule(g: Node, y: Node, x: Node, *, dims: Shape, keepdim: bool) -> Node:
    winners = cast(equal(x, spread(y, x, dims)), g.dtype)
    return winners / spread(sum(winners, dims), x, dims) * spread(g, x, dims)


def _amax_type(x: TensorType, *, dims: Shape, keepdim: bool) -> TensorType:
    if 0 in [x.shape[dim] for dim in dims]:
        raise ShapeError(
            op="amax", expected="at least one entry to choose from", got=x.shape, mend=""
        )
    return folded(x, dims=dims, keepdim=keepdim)


AMAX = register(
    Op(
        "amax",
        _amax_type,
        lambda x, *, dims, keepdim: np.maximum.reduce(x, dims, keepdims=keepdim),
        (_amax_rule,),
        Notation("max({0})", r"\max {0}"),
    )
)


def amax(x: Node, dim: Dims = None, keepdim: bool = False) -> Node:
    """The largest entry over axes; equal winners share the gradient evenly."""
    dims = normalize_dims("amax", dim, x.ndim)
    return AMAX(x, dims=dims, keepdim=keepdim) if dims else x


def amin(x: Node, dim: Dims = None, keepdim: bool = False) -> Node:
    """The smallest entry over axes."""
    return cast(_reversed(amax(_reversed(x), dim, keepdim)), x.dtype)


def _reversed(x: Node) -> Node:
    """Entries in the opposite order of size; of whole numbers -1 - x, which can't overflow."""
    if is_float(x.dtype):
        return -x
    return -1 - (x if x.dtype.kind == "i" else cast(x, int64))


def _argmax_type(x: TensorType, *, dim: int, keepdim: bool) -> TensorType:
    shape = _amax_type(x, dims=(dim,), keepdim=keepdim).shape
    return TensorType(shape, int64)


ARGMAX = register(
    Op(
        "argmax",
        _argmax_type,
        lambda x, *, dim, keepdim: np.argmax(x, axis=dim, keepdims=keepdim).astype(int64),
        None,
        Notation.call("argmax"),
    )
)


def argmax(x: Node, dim: int | None = None, keepdim: bool = False) -> Node:
    """The position of the first largest entry along an axis (None: of the flattened tensor)."""
    if dim is None:
        x, dim = reshape(x, (-1,) if x.size else (0,)), 0
    if x.ndim == 0:
        x = reshape(x, (1,))
    return ARGMAX(x, dim=normalize_dim("argmax", dim, x.ndim), keepdim=keepdim)


def argmin(x: Node, dim: int | None = None, keepdim: bool = False) -> Node:
    """The position of the first smallest entry along an axis (None: of the flattened tensor)."""
    return argmax(_reversed(x), dim, keepdim)


def count(x: Node, dims: Dims) -> int:
    """How many entries one folded value stands for."""
    return math.prod(x.shape[dim] for dim in normalize_dims("mean", dims, x.ndim))


def any(x: Node, dim: Dims = None, keepdim: bool = False) -> Node:
    """Whether some entry is true."""
    return sum(cast(x, bool_), dim, keepdim) > 0


def all(x: Node, dim: Dims = None, keepdim: bool = False) -> Node:
    """Whether every entry is true."""
    return equal(sum(equal(cast(x, bool_), False), dim, keepdim), 0)


# ---------------------------------------------------------------------------------- sorting


def _sort(x: Array, *, dim: int, descending: bool) -> tuple[Array, Array]:
    if descending:  # stable: equal entries keep their order
        length = x.shape[dim]
        order = length - 1 - np.flip(np.argsort(np.flip(x, dim), axis=dim, kind="stable"), dim)
    else:
        order = np.argsort(x, axis=dim, kind="stable")
    return np.take_along_axis(x, order, dim), order.astype(int64)


def _sort_rule(
    g: Sequence[Node], y: Sequence[Node], x: Node, *, dim: int, descending: bool
) -> Sequence[Node | None]:
    return (gather_add(g[0], y[1], dim, x.shape),)


SORT = register(
    Op(
        "sort",
        lambda x, *, dim, descending: (x, TensorType(x.shape, int64)),
        _sort,
        Joint(_sort_rule),
        Notation.call("sort"),
    )
)


def sort(x: Node, dim: int = -1, descending: bool = False) -> tuple[Node, Node]:
    """Entries in order along an axis, and where each came from; equal entries keep their order."""
    x = cast(x, uint8) if x.dtype == bool_ else x
    row = x if x.ndim else reshape(x, (1,))
    made = SORT(row, dim=normalize_dim("sort", dim, x.ndim), descending=descending)
    values, order = results(made)
    return reshape(values, x.shape), reshape(order, x.shape)
