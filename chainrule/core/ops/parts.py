"""Cumulative sums, the largest k, triangles, and tensors cut into parts or repeated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainrule.core.dtype import int64
from chainrule.core.graph import Node
from chainrule.core.op import Notation, Op, located, register
from chainrule.core.ops.arithmetic import cast, less_equal, where
from chainrule.core.ops.reduction import sort
from chainrule.core.ops.shape import broadcast_to, flip, iota, reshape, slice_, squeeze, unsqueeze
from chainrule.core.shape_rules import normalize_dim, same_type
from chainrule.errors import OptionError, ShapeError

# ---------------------------------------------------------------------------------- sums

CUMSUM: Op = register(
    Op(
        "cumsum",
        same_type,
        lambda x, *, dim: np.cumsum(x, axis=dim, dtype=x.dtype),
        (lambda g, y, x, *, dim: flip(cumsum(flip(g, dim), dim), dim),),
        Notation.call("cumsum"),
    )
)


def cumsum(x: Node, dim: int) -> Node:
    """y_i = x_0 + ... + x_i along an axis; of whole numbers and truth values in int64."""
    x = cast(x, int64) if x.dtype.kind in "biu" else x
    if x.ndim == 0:
        return x
    return CUMSUM(x, dim=normalize_dim("cumsum", dim, x.ndim))


def top_k(x: Node, k: int, dim: int = -1, largest: bool = True) -> tuple[Node, Node]:
    """The k largest (or smallest) entries along an axis, in order, and where each came from."""
    axis = normalize_dim("topk", dim, x.ndim)
    length = x.shape[axis] if x.ndim else 1
    if not 0 <= k <= length:
        raise located(
            OptionError(name="k", expected=f"between 0 and the {length} entries of the axis", got=k)
        )
    values, order = sort(x, axis, descending=largest)
    if not x.ndim:
        return values, order
    return narrow(values, axis, 0, k), narrow(order, axis, 0, k)


# ---------------------------------------------------------------------------------- parts


def narrow(x: Node, dim: int, start: int, length: int) -> Node:
    """The entries ``start`` to before ``start + length`` along an axis."""
    axis = normalize_dim("narrow", dim, x.ndim)
    if not 0 <= start <= start + length <= x.shape[axis]:
        raise located(
            ShapeError(
                op="narrow",
                expected=f"a part of the {x.shape[axis]} entries of axis {axis}",
                got=f"start {start}, length {length}",
                mend="",
            )
        )
    starts = tuple(start if i == axis else 0 for i in range(x.ndim))
    stops = tuple(start + length if i == axis else n for i, n in enumerate(x.shape))
    return slice_(x, starts, stops)


def split(x: Node, sizes: int | Sequence[int], dim: int = 0) -> tuple[Node, ...]:
    """Parts along an axis: of one size (the last may be smaller), or of the sizes given."""
    axis = normalize_dim("split", dim, x.ndim)
    length = x.shape[axis]
    if isinstance(sizes, int):
        if sizes < 1:
            raise located(OptionError(name="split size", expected="at least 1", got=sizes))
        lengths = [min(sizes, length - start) for start in range(0, length, sizes)] or [0]
    else:
        lengths = list(sizes)
    if sum(lengths) != length or min(lengths, default=0) < 0:
        raise located(
            ShapeError(
                op="split",
                expected=f"sizes that sum to the {length} entries of axis {axis}",
                got=tuple(lengths),
                mend="",
            )
        )
    starts = np.cumsum([0, *lengths]).tolist()
    return tuple(narrow(x, axis, a, n) for a, n in zip(starts, lengths, strict=False))


def chunk(x: Node, chunks: int, dim: int = 0) -> tuple[Node, ...]:
    """At most ``chunks`` parts of equal size; the last may be smaller."""
    if chunks < 1:
        raise located(OptionError(name="chunks", expected="at least 1", got=chunks))
    length = x.shape[normalize_dim("chunk", dim, x.ndim)]
    return split(x, max(-(-length // chunks), 1), dim)


def unbind(x: Node, dim: int = 0) -> tuple[Node, ...]:
    """Every slice along an axis, without that axis."""
    axis = normalize_dim("unbind", dim, x.ndim)
    return tuple(squeeze(narrow(x, axis, i, 1), axis) for i in range(x.shape[axis]))


def repeat(x: Node, times: Sequence[int]) -> Node:
    """Copies side by side: ``times`` for each axis, new axes in front."""
    if len(times) < x.ndim or any(n < 0 for n in times):
        raise located(
            ShapeError(
                op="repeat",
                expected=f"a number of copies for each of the {x.ndim} axes",
                got=tuple(times),
                mend="",
            )
        )
    shape = (1,) * (len(times) - x.ndim) + x.shape
    pairs = list(zip(times, shape, strict=True))
    apart = reshape(x, [n for length in shape for n in (1, length)])
    copies = broadcast_to(apart, [n for pair in pairs for n in pair])
    return reshape(copies, [n * length for n, length in pairs])


# ---------------------------------------------------------------------------------- triangles


def tril(x: Node, diagonal: int = 0) -> Node:
    """Zeros above a diagonal of the last two axes; 0 is the main one, above it is positive."""
    return where(_reaches(x, diagonal), x, 0)


def triu(x: Node, diagonal: int = 0) -> Node:
    """Zeros below a diagonal of the last two axes."""
    return where(_reaches(x, diagonal - 1), 0, x)


def _reaches(x: Node, diagonal: int) -> Node:
    """Where the column is at most the row plus ``diagonal``."""
    if x.ndim < 2:
        raise located(ShapeError(op="tril", expected="at least two axes", got=x.shape, mend=""))
    rows, columns = iota(x.shape[-2]), iota(x.shape[-1])
    return less_equal(columns, unsqueeze(rows + diagonal, 1))
