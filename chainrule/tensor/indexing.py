"""``x[...]`` and ``x.at[...]``: NumPy's indexing, lowered to slices, takes and puts.

Supported: whole numbers, slices (any step), ``...``, ``None``, one whole-number tensor or list on
any axis, several of equal shape on neighbouring axes, and boolean masks outside compiled steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.dtype import bool_, int64, is_float
from chainrule.core.graph import Node, Shape, caller, place
from chainrule.core.op import lift
from chainrule.core.ops import arithmetic, shape
from chainrule.errors import DTypeError, IndexRangeError, ShapeError
from chainrule.tensor.state import data, known_data
from chainrule.tensor.tensor import Tensor, operand_nodes, tensor, wrap


@dataclass
class Plan:
    """An index, sorted out.

    Attributes:
        starts, stops, steps, flips: the basic part, one entry per axis of the tensor.
        shape: the shape after the basic part: axes of single numbers dropped, ``None`` axes added.
        arrays: the index arrays, each with the axis it stands at after the basic part.
    """

    starts: list[int]
    stops: list[int]
    steps: list[int]
    flips: list[int]
    shape: list[int]
    arrays: list[tuple[int, Node]]


def getitem(x: Tensor, index: Any) -> Tensor:
    """``x[index]``; at once where it is a part of data, so that batches are not graphs."""
    array = known_data(x.node)
    known = _known_index(index) if array is not None else None
    if known is not None and array is not None:
        try:
            return wrap(data(np.asarray(array[known[0]])))
        except IndexError:  # worded below
            pass
    plan = _plan(x, index)
    node = _basic(x.node, plan)
    if plan.arrays:
        node, flat, dim = _merge(node, plan.arrays)
        node = shape.take(node, flat, dim)
    return wrap(node)


def _known_index(index: Any) -> tuple[Any] | None:
    """The index, if NumPy can do it now: whole numbers, slices, ... and None, or known numbers."""
    if isinstance(index, Tensor):
        array = known_data(index.node)
        return (array,) if array is not None and array.dtype.kind in "iu" and array.ndim else None
    if type(index) is list:
        return (index,) if index and all(type(part) is int for part in index) else None
    kinds = map(type, index) if type(index) is tuple else (type(index),)
    return (index,) if _BASIC.issuperset(kinds) else None


_BASIC = frozenset((int, np.int64, slice, type(None), type(Ellipsis)))


def _basic(node: Node, plan: Plan) -> Node:
    node = shape.slice_(node, tuple(plan.starts), tuple(plan.stops), tuple(plan.steps))
    if plan.flips:
        node = shape.flip(node, plan.flips)
    return shape.reshape(node, plan.shape)


def _merge(node: Node, arrays: list[tuple[int, Node]]) -> tuple[Node, Node, int]:
    """Several neighbouring indexed axes as one: the tensor, the joint index, the axis."""
    dims = [dim for dim, _ in arrays]
    first, last = dims[0], dims[-1]
    if dims != list(range(first, last + 1)):
        raise ShapeError(
            op="indexing",
            expected="index tensors on neighbouring axes",
            got=f"axes {dims}",
            mend="permute the axes first, or index in two steps",
        )
    flat = None
    for dim, index in arrays:
        size = node.shape[dim]
        wrapped = arithmetic.where(index < 0, index + size, index)
        flat = wrapped if flat is None else _checked(flat * size, wrapped, size)
    assert flat is not None
    joined = int(np.prod(node.shape[first : last + 1], dtype=np.int64))
    merged = shape.reshape(node, (*node.shape[:first], joined, *node.shape[last + 1 :]))
    return merged, flat, first


def _checked(high: Node, low: Node, size: int) -> Node:
    """``high + low``, made negative (so that it is refused) where ``low`` is outside its axis."""
    inside = (low < size) & (low >= 0)
    return arithmetic.where(inside, high + low, -1)


def _plan(x: Tensor, index: Any) -> Plan:
    parts = list(index) if isinstance(index, tuple) else [index]
    parts = [_mask_to_numbers(part) for part in parts]
    parts = [piece for part in parts for piece in (part if type(part) is tuple else (part,))]
    used = sum(part is not None and part is not Ellipsis for part in parts)
    if used > x.ndim:
        raise ShapeError(
            op="indexing", expected=f"at most {x.ndim} indices", got=used, mend="drop some"
        )
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    parts[at : at + 1] = [slice(None)] * (x.ndim - used)
    plan = Plan([], [], [], [], [], [])
    axis = 0
    for part in parts:
        if part is None:
            plan.shape.append(1)
            continue
        length = x.shape[axis]
        if isinstance(part, slice):
            _add_slice(plan, axis, range(*part.indices(length)))
        elif isinstance(part, _Chosen):
            if part.length not in (None, length):
                raise ShapeError(
                    op="indexing", expected="a mask as long as the axes it stands at",
                    got=f"{part.length} at axis {axis} of length {length}",
                    mend="compute the mask from the tensor itself",
                )  # fmt: skip
            _add_slice(plan, axis, range(length))
            plan.arrays.append((len(plan.shape) - 1, part.node))
        else:
            number = _number(part, length, axis)
            _add_slice(plan, axis, range(number, number + 1))
            plan.shape.pop()
        axis += 1
    return plan


def _add_slice(plan: Plan, axis: int, chosen: range) -> None:
    if chosen.step < 0:
        plan.flips.append(axis)
        chosen = chosen[::-1]
    plan.starts.append(chosen.start if len(chosen) else 0)
    plan.stops.append(chosen[-1] + 1 if len(chosen) else 0)
    plan.steps.append(chosen.step)
    plan.shape.append(len(chosen))


def _number(part: Any, length: int, axis: int) -> int:
    if isinstance(part, bool | np.bool_) or not hasattr(part, "__index__"):
        raise _not_an_index(type(part).__name__)
    number = part.__index__()
    if not -length <= number < length:
        raise IndexRangeError(
            op="indexing",
            got=number,
            position=f"axis {axis}",
            last=length - 1,
            size=length,
            what="entries",
            what_zh="元素",
            needed=number + 1,
        )
    return int(number % length)


class _Chosen(NamedTuple):
    """Positions along an axis; from a mask, with the length the axis must have."""

    node: Node
    length: int | None = None


def _mask_to_numbers(part: Any) -> Any:
    """Masks become index tensors; lists, arrays and tensors become nodes."""
    if isinstance(part, list | np.ndarray):
        part = tensor(part)
    if not isinstance(part, Tensor):
        return part
    if part.dtype == bool_:
        found = np.nonzero(part._value("a boolean mask (its count is a shape)"))
        pairs = zip(found, part.shape, strict=True)
        return tuple(_Chosen(tensor(axis).node, length) for axis, length in pairs)
    if is_float(part.dtype) and part.numel():
        raise _not_an_index(f"numbers of type {part.dtype}")
    if part.ndim == 0 and part._node.value is not None:
        return int(part)
    return _Chosen(arithmetic.cast(part.node, int64))


def _not_an_index(got: str) -> DTypeError:
    error = DTypeError(
        op="indexing",
        expected="whole numbers, slices, ..., None, masks, or tensors of whole numbers",
        got=got,
        mend="x.long() makes whole numbers",
    )
    return error.at(".".join(place.scope), caller())


class At:
    """``x.at[index]``: changed copies of an immutable tensor.

    Example:
        >>> import chainrule as cr
        >>> cr.zeros(3).at[1].set(5.0).tolist()
        [0.0, 5.0, 0.0]
    """

    def __init__(self, x: Tensor, index: Any = None) -> None:
        self._x = x
        self._index = index

    def __getitem__(self, index: Any) -> At:
        return At(self._x, index)

    def set(self, value: Any) -> Tensor:
        """The entries at the index replaced."""
        return self._changed(value, lambda old, new: new)

    def add(self, value: Any) -> Tensor:
        """The entries at the index plus a value; an index that stands twice is added to twice."""
        x, plan = self._x, _plan(self._x, self._index)
        if not plan.arrays:
            return self._changed(value, lambda old, new: old + new)
        return wrap(x.node + self._scatter(plan, self._value(value, getitem(x, self._index).shape)))

    def multiply(self, value: Any) -> Tensor:
        """The entries at the index times a value."""
        return self._changed(value, lambda old, new: old * new)

    def _value(self, value: Any, to: Shape) -> Node:
        node = operand_nodes(self._x, value)[1]
        return shape.broadcast_to(lift(node, self._x.dtype), to)

    def _changed(self, value: Any, change: Callable[[Node, Node], Node]) -> Tensor:
        x, plan = self._x, _plan(self._x, self._index)
        old = getitem(x, self._index).node
        new = change(old, self._value(value, old.shape))
        if plan.arrays:
            inner = _basic(x.node, plan)
            merged, flat, dim = _merge(inner, plan.arrays)
            new = shape.reshape(shape.put(merged, flat, new, dim), plan.shape)
        mask = self._placed(shape.full(plan.shape, True, bool_), plan)
        return wrap(arithmetic.where(mask, self._placed(new, plan), x.node))

    def _scatter(self, plan: Plan, value: Node) -> Node:
        dims = [dim for dim, _ in plan.arrays]
        zero = shape.full(plan.shape, 0, self._x.dtype)
        merged, flat, first = _merge(zero, plan.arrays)
        size = merged.shape[first]
        added = shape.take_add(value, flat, dims[0], size)
        return self._placed(shape.reshape(added, plan.shape), plan)

    def _placed(self, part: Node, plan: Plan) -> Node:
        """A part of the tensor put back where the basic index took it; zeros elsewhere."""
        lengths = tuple(
            len(range(*bounds)) for bounds in zip(plan.starts, plan.stops, plan.steps, strict=True)
        )
        part = shape.reshape(part, lengths)
        if plan.flips:
            part = shape.flip(part, plan.flips)
        high = tuple(
            n - start - ((count - 1) * step + 1 if count else 0)
            for n, start, step, count in zip(
                self._x.shape, plan.starts, plan.steps, lengths, strict=True
            )
        )
        return shape.pad(part, tuple(plan.starts), high, tuple(step - 1 for step in plan.steps))
