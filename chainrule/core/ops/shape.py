"""Primitives that move entries without changing them: shapes, slices, indices.

Broadcasting is always a node of its own, and so is its derivative: the sum over the copies.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.dtype import DType, int64
from chainrule.core.graph import Array, Node, Shape, TensorType
from chainrule.core.op import ATOM, POWER, Notation, Op, constant, located, register
from chainrule.core.shape_rules import normalize_dim, normalize_dims
from chainrule.errors import DTypeError, IndexRangeError, ShapeError

# ---------------------------------------------------------------------------------- views

RESHAPE = register(
    Op(
        "reshape",
        lambda x, *, shape: TensorType(shape, x.dtype),
        lambda x, *, shape: x.reshape(shape),
        (lambda g, y, x, *, shape: reshape(g, x.shape),),
        Notation("{0}", "{0}"),
    )
)


def reshape(x: Node, shape: Sequence[int]) -> Node:
    """The entries in the same order under another shape; one length may be -1."""
    wanted = list(shape)
    if wanted.count(-1) == 1:
        known = math.prod(length for length in wanted if length != -1)
        if known and x.size % known == 0:
            wanted[wanted.index(-1)] = x.size // known
    if -1 in wanted or math.prod(wanted) != x.size:
        error = ShapeError(
            op="reshape",
            expected=f"a shape with {x.size} entries, as {x.shape} has",
            got=tuple(shape),
            mend="one length may be -1 and is then worked out",
        )
        raise located(error)
    return x if tuple(wanted) == x.shape else RESHAPE(x, shape=tuple(wanted))


PERMUTE = register(
    Op(
        "permute",
        lambda x, *, dims: TensorType(tuple(x.shape[dim] for dim in dims), x.dtype),
        lambda x, *, dims: x.transpose(dims),
        (lambda g, y, x, *, dims: permute(g, tuple(int(i) for i in np.argsort(dims))),),
        Notation("{0}^T", "{{{0}}}^\\top", POWER, (ATOM,)),
    )
)


def permute(x: Node, dims: Sequence[int]) -> Node:
    """The axes in another order."""
    order = tuple(normalize_dim("permute", dim, x.ndim) for dim in dims)
    if sorted(order) != list(range(x.ndim)):
        error = ShapeError(
            op="permute",
            expected=f"each of the {x.ndim} axes once",
            got=tuple(dims),
            mend="",
        )
        raise located(error)
    return x if order == tuple(range(x.ndim)) else PERMUTE(x, dims=order)


def transpose(x: Node, dim0: int = -2, dim1: int = -1) -> Node:
    """Two axes exchanged."""
    order = list(range(x.ndim))
    a, b = normalize_dim("transpose", dim0, x.ndim), normalize_dim("transpose", dim1, x.ndim)
    if a == b:
        return x
    order[a], order[b] = order[b], order[a]
    return permute(x, order)


def _broadcast(x: Array, *, shape: Shape) -> Array:
    if math.prod(shape) > 4096:
        return np.broadcast_to(x, shape)
    made: Array = np.empty(shape, x.dtype)  # NumPy takes longer for a view than for a few copies
    made[...] = x
    return made


BROADCAST = register(
    Op(
        "broadcast_to",
        lambda x, *, shape: TensorType(shape, x.dtype),
        _broadcast,
        (lambda g, y, x, *, shape: sum_to(g, x.shape),),
        Notation("{0}", "{0}"),
    )
)


def broadcast_to(x: Node, shape: Sequence[int]) -> Node:
    """Copies along new leading axes and along axes of length 1."""
    shape = tuple(shape)
    if x.shape == shape:
        return x
    if not x.shape:
        return Node(BROADCAST, (x,), {"shape": shape}, TensorType(shape, x.dtype))
    tail = shape[len(shape) - x.ndim :] if x.ndim <= len(shape) else ()
    if len(tail) != x.ndim or any(a not in (1, b) for a, b in zip(x.shape, tail, strict=True)):
        error = ShapeError(
            op="broadcast_to",
            expected=f"a shape that {x.shape} can stretch to",
            got=shape,
            mend="only axes of length 1, and new axes in front, can stretch",
        )
        raise located(error)
    return BROADCAST(x, shape=shape)


def sum_to(g: Node, shape: Shape) -> Node:
    """The sum over the copies that :func:`broadcast_to` made from ``shape``."""
    from chainrule.core.ops.reduction import sum

    lead = g.ndim - len(shape)
    stretched = [
        axis
        for axis in range(g.ndim)
        if axis < lead or (shape[axis - lead] == 1 and g.shape[axis] != 1)
    ]
    return reshape(sum(g, stretched), shape) if stretched else g


def full(shape: Sequence[int], value: bool | int | float, dtype: DType) -> Node:
    """One number everywhere."""
    return broadcast_to(constant(value, dtype), shape)


def unsqueeze(x: Node, dim: int) -> Node:
    """A new axis of length 1."""
    at = normalize_dim("unsqueeze", dim, x.ndim + 1)
    return reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


def squeeze(x: Node, dims: int | Sequence[int] | None = None) -> Node:
    """Without the axes of length 1 (all of them, or those named)."""
    chosen = normalize_dims("squeeze", dims, x.ndim)
    return reshape(x, [n for axis, n in enumerate(x.shape) if not (axis in chosen and n == 1)])


# ---------------------------------------------------------------------------------- slices


@functools.lru_cache(1024)
def _slices(starts: Shape, stops: Shape, steps: Shape) -> tuple[slice, ...]:
    return tuple(slice(*bounds) for bounds in zip(starts, stops, steps, strict=True))


def _slice_type(x: TensorType, *, starts: Shape, stops: Shape, steps: Shape) -> TensorType:
    lengths = [len(range(*bounds)) for bounds in zip(starts, stops, steps, strict=True)]
    return TensorType(tuple(lengths), x.dtype)


def _unslice(g: Node, y: Node, x: Node, *, starts: Shape, stops: Shape, steps: Shape) -> Node:
    high = tuple(
        length - start - ((n - 1) * step + 1 if n else 0)
        for length, start, step, n in zip(x.shape, starts, steps, g.shape, strict=True)
    )
    return pad(g, starts, high, tuple(step - 1 for step in steps))


SLICE = register(
    Op(
        "slice",
        _slice_type,
        lambda x, *, starts, stops, steps: x[_slices(starts, stops, steps)],
        (_unslice,),
        Notation("{0}[{starts}:{stops}]", "{0}_{{{starts}:{stops}}}"),
    )
)


def slice_(x: Node, starts: Shape, stops: Shape, steps: Shape | None = None) -> Node:
    """Every ``step``-th entry from ``start`` to before ``stop``, for each axis."""
    steps = steps or (1,) * x.ndim
    if starts == (0,) * x.ndim and stops == x.shape and steps == (1,) * x.ndim:
        return x
    return SLICE(x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


def _pad_type(x: TensorType, *, low: Shape, high: Shape, interior: Shape) -> TensorType:
    shape = [
        before + after + n + max(n - 1, 0) * inside
        for n, before, after, inside in zip(x.shape, low, high, interior, strict=True)
    ]
    return TensorType(tuple(shape), x.dtype)


def _inner(shape: Shape, low: Shape, interior: Shape) -> tuple[Shape, Shape, Shape]:
    """Start, stop and step of the original entries inside a padded array."""
    steps = tuple(inside + 1 for inside in interior)
    stops = tuple(
        start + ((n - 1) * step + 1 if n else 0)
        for n, start, step in zip(shape, low, steps, strict=True)
    )
    return low, stops, steps


def _pad_evaluate(x: Array, *, low: Shape, high: Shape, interior: Shape) -> Array:
    out = np.zeros(
        _pad_type(TensorType(x.shape, x.dtype), low=low, high=high, interior=interior).shape,
        x.dtype,
    )
    out[_slices(*_inner(x.shape, low, interior))] = x
    return out


PAD = register(
    Op(
        "pad",
        _pad_type,
        _pad_evaluate,
        (lambda g, y, x, *, low, high, interior: slice_(g, *_inner(x.shape, low, interior)),),
        Notation.call("pad"),
    )
)


def pad(x: Node, low: Shape, high: Shape, interior: Shape | None = None) -> Node:
    """Zeros before, after, and (``interior``) between the entries of each axis."""
    interior = interior or (0,) * x.ndim
    if not any((*low, *high, *interior)):
        return x
    return PAD(x, low=tuple(low), high=tuple(high), interior=tuple(interior))


FLIP = register(
    Op(
        "flip",
        lambda x, *, dims: x,
        lambda x, *, dims: np.flip(x, dims),
        (lambda g, y, x, *, dims: flip(g, dims),),
        Notation.call("flip"),
    )
)


def flip(x: Node, dims: int | Sequence[int]) -> Node:
    """Entries in reverse order along axes."""
    chosen = normalize_dims("flip", dims, x.ndim)
    return FLIP(x, dims=chosen) if chosen else x


def _concatenate_type(*types: TensorType, dim: int) -> TensorType:
    first = types[0]
    for other in types[1:]:
        rest = [n for axis, n in enumerate(other.shape) if axis != dim]
        if other.dtype != first.dtype:
            raise DTypeError(
                op="cat",
                expected="one element type",
                got=f"{first.dtype} and {other.dtype}",
                mend="",
            )
        if rest != [n for axis, n in enumerate(first.shape) if axis != dim]:
            raise ShapeError(
                op="cat",
                expected=f"equal lengths on every axis but {dim}",
                got=f"{first.shape} and {other.shape}",
                mend="",
            )
    length = sum(other.shape[dim] for other in types)
    return TensorType((*first.shape[:dim], length, *first.shape[dim + 1 :]), first.dtype)


def _concatenate_rule(position: int) -> Any:
    def rule(g: Node, y: Node, *xs: Node, dim: int) -> Node:
        start = sum(x.shape[dim] for x in xs[:position])
        starts = tuple(start if axis == dim else 0 for axis in range(g.ndim))
        stops = tuple(
            start + xs[position].shape[dim] if axis == dim else n for axis, n in enumerate(g.shape)
        )
        return slice_(g, starts, stops)

    return rule


CONCATENATE = register(
    Op(
        "concatenate",
        _concatenate_type,
        lambda *xs, dim: np.concatenate(xs, axis=dim),
        _concatenate_rule,
        Notation.call("cat"),
        arity=None,
    )
)


def concatenate(xs: Sequence[Node], dim: int = 0) -> Node:
    """Tensors one after the other along an axis."""
    if len(xs) == 1:
        return xs[0]
    return CONCATENATE(*xs, dim=normalize_dim("cat", dim, xs[0].ndim))


def stack(xs: Sequence[Node], dim: int = 0) -> Node:
    """Tensors of one shape along a new axis."""
    return concatenate([unsqueeze(x, dim) for x in xs], dim)


# ---------------------------------------------------------------------------------- indices


def check_range(
    op: str, index: Array, size: int, what: str = "entries", what_zh: str = "元素"
) -> None:
    """Raise, naming the first index outside 0..size-1."""
    bad = (index < 0) | (index >= size)
    if bad.any():
        position = tuple(int(i) for i in np.argwhere(bad)[0])
        got = int(index[position])
        raise IndexRangeError(
            op=op,
            got=got,
            position=position[0] if len(position) == 1 else position,
            last=size - 1,
            size=size,
            what=what,
            what_zh=what_zh,
            needed=got + 1 if got >= 0 else size,
        )


def _take_type(x: TensorType, index: TensorType, *, dim: int) -> TensorType:
    return TensorType((*x.shape[:dim], *index.shape, *x.shape[dim + 1 :]), x.dtype)


def _take(x: Array, index: Array, *, dim: int) -> Array:
    check_range("indexing", index, x.shape[dim])
    return x.take(index, dim)


TAKE = register(
    Op(
        "take",
        _take_type,
        _take,
        (lambda g, y, x, index, *, dim: take_add(g, index, dim, x.shape[dim]), None),
        Notation("{0}[{1}]", "{0}_{{{1}}}"),
        arity=2,
    )
)


def take(x: Node, index: Node, dim: int = 0) -> Node:
    """Whole slices of ``x`` along ``dim``, chosen by number: rows of a table."""
    return TAKE(x, index, dim=normalize_dim("take", dim, x.ndim))


def _take_add_type(g: TensorType, index: TensorType, *, dim: int, size: int) -> TensorType:
    return TensorType((*g.shape[:dim], size, *g.shape[dim + len(index.shape) :]), g.dtype)


def _take_add(g: Array, index: Array, *, dim: int, size: int) -> Array:
    check_range("indexing", index, size)
    out = np.zeros((*g.shape[:dim], size, *g.shape[dim + index.ndim :]), g.dtype)
    places: Any = (slice(None),) * dim + (index,)
    np.add.at(out, places, g)
    return out


TAKE_ADD = register(
    Op(
        "take_add",
        _take_add_type,
        _take_add,
        (lambda g, y, x, index, *, dim, size: take(g, index, dim), None),
        Notation("sum_at({0}, {1})", r"\operatorname{{sum\_at}}({0}, {1})"),
        arity=2,
    )
)


def take_add(g: Node, index: Node, dim: int, size: int) -> Node:
    """The transpose of :func:`take`: each slice added to the row it was taken from."""
    return TAKE_ADD(g, index, dim=dim, size=size)


def _along(index: Array, dim: int) -> tuple[Array, ...]:
    """Index arrays that address, for each entry of ``index``, its own row but for axis ``dim``."""
    grid = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    grid[dim] = index
    return tuple(grid)


def _gather(x: Array, index: Array, *, dim: int) -> Array:
    check_range("gather", index, x.shape[dim])
    return x[_along(index, dim)]


def _gather_type(x: TensorType, index: TensorType, *, dim: int) -> TensorType:
    fits = len(x.shape) == len(index.shape) and all(
        axis == dim or n <= x.shape[axis] for axis, n in enumerate(index.shape)
    )
    if not fits:
        raise ShapeError(
            op="gather",
            expected=f"an index with {len(x.shape)} axes, within {x.shape} but for axis {dim}",
            got=index.shape,
            mend="index.unsqueeze(dim) gives a missing axis",
        )
    return TensorType(index.shape, x.dtype)


GATHER = register(
    Op(
        "gather",
        _gather_type,
        _gather,
        (lambda g, y, x, index, *, dim: gather_add(g, index, dim, x.shape), None),
        Notation("{0}[{1}]", "{0}_{{{1}}}"),
        arity=2,
    )
)


def gather(x: Node, dim: int, index: Node) -> Node:
    """One entry per index, from the entry's own row: ``y[i, j] = x[i, index[i, j]]`` for dim 1."""
    return GATHER(x, index, dim=normalize_dim("gather", dim, x.ndim))


def _gather_add(g: Array, index: Array, *, dim: int, shape: Shape) -> Array:
    check_range("gather", index, shape[dim])
    out = np.zeros(shape, g.dtype)
    np.add.at(out, _along(index, dim), g)
    return out


GATHER_ADD = register(
    Op(
        "gather_add",
        lambda g, index, *, dim, shape: TensorType(shape, g.dtype),
        _gather_add,
        (lambda g, y, x, index, *, dim, shape: gather(g, dim, index), None),
        Notation("sum_at({0}, {1})", r"\operatorname{{sum\_at}}({0}, {1})"),
        arity=2,
    )
)


def gather_add(g: Node, index: Node, dim: int, shape: Shape) -> Node:
    """The transpose of :func:`gather`: each entry added to the place it was taken from."""
    return GATHER_ADD(g, index, dim=dim, shape=tuple(shape))


def _put(x: Array, index: Array, values: Array, *, dim: int) -> Array:
    check_range("at[...]", index, x.shape[dim])
    out = x.copy()
    out[(slice(None),) * dim + (index,)] = values
    return out


def _put_values_rule(g: Node, y: Node, x: Node, index: Node, values: Node, *, dim: int) -> Node:
    """Each value gets the cotangent of its place, but for those that a later one replaced."""
    from chainrule.core.ops.arithmetic import equal, where

    part = take(g, index, dim)
    if index.size == 1:
        return part
    order = reshape(iota(index.size), index.shape)
    last = take(put(full((x.shape[dim],), 0, int64), index, order), index)
    kept = reshape(equal(last, order), (*index.shape, *(1,) * (x.ndim - dim - 1)))
    return where(kept, part, 0.0)


PUT = register(
    Op(
        "put",
        lambda x, index, values, *, dim: x,
        _put,
        (
            lambda g, y, x, index, values, *, dim: put(g, index, values * 0, dim),
            None,
            _put_values_rule,
        ),
        Notation.call("put", inputs=3),
        arity=3,
    )
)


def put(x: Node, index: Node, values: Node, dim: int = 0) -> Node:
    """``x`` with whole slices along ``dim`` replaced; of equal indices the last one counts."""
    dim = normalize_dim("put", dim, x.ndim)
    slots = _take_type(x.tensor_type, index.tensor_type, dim=dim).shape
    return PUT(x, index, broadcast_to(values, slots), dim=dim)


IOTA = register(
    Op(
        "iota",
        lambda *, length, dtype: TensorType((length,), dtype),
        lambda *, length, dtype: np.arange(length, dtype=dtype),
        None,
        Notation("(0..{length})", r"(0 \ldots {length})"),
        arity=0,
    )
)


def iota(length: int, dtype: DType = int64) -> Node:
    """0, 1, 2 ... length - 1."""
    return IOTA(length=length, dtype=dtype)


def one_hot(index: Node, classes: int, dtype: DType) -> Node:
    """1 in the column of the class, 0 elsewhere; a new last axis."""
    from chainrule.core.ops.arithmetic import cast, equal

    return cast(equal(unsqueeze(index, -1), iota(classes, index.dtype)), dtype)
