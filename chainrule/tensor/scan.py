"""``cr.scan``: a loop over time as one node of the graph (decision 13)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from chainrule.core.dtype import default_dtype, int64
from chainrule.core.graph import Node, TensorType, Variable, place, walk
from chainrule.core.op import located
from chainrule.core.ops import scan as core
from chainrule.core.ops.shape import iota
from chainrule.core.subgraph import Subgraph, copied, placeholder
from chainrule.errors import OptionError, ShapeError
from chainrule.tensor.backward import is_variable
from chainrule.tensor.state import Epoch, Gradients, Trace, current, tracing
from chainrule.tensor.tensor import Tensor, need_node, wrap

# A batch of another size is traced anew.
_TRACED_KEPT = 32


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    *,
    length: int | None = None,
    reverse: bool = False,
    truncate: int | None = None,
) -> tuple[Any, Any]:
    """A loop that hands a carry from step to step, as one node whatever the number of steps.

    As this Python loop, but traced once::

        ys = []
        for x in xs:                    # slices along the first axis
            carry, y = body(carry, x)
            ys.append(y)
        return carry, stack(ys)

    Args:
        body: ``(carry, x) -> (carry, y)``. Tensors and parameters that it uses from outside are
            constants of the loop; random numbers, as in dropout, differ from step to step.
        init: the first carry: a tensor, or tensors in tuples, lists and dicts. The carry keeps its
            structure, shapes and types.
        xs: tensors of one length along their first axis; None where there are none.
        length: the number of steps, where ``xs`` is None.
        reverse: from the last slice to the first; ``ys`` is in the order of ``xs``.
        truncate: truncated back-propagation through time: every so many steps the carry is treated
            as data, as if it had been detached there. The numbers are the same.

    Returns:
        The last carry, and the ``y`` of all steps stacked along a new first axis.

    Raises:
        ShapeError: lengths that differ, no step at all, or a carry that changes its type.
        OptionError: a body that returns something else, writes a parameter or calls backward().
        TracedValueError: a body that asks for a value (``item``, ``if h > 0``).

    Example:
        >>> import chainrule as cr
        >>> add = lambda total, x: (total + x, total + x)
        >>> total, sums = cr.scan(add, cr.tensor(0), cr.tensor([1, 2, 3]))
        >>> total.item(), sums.tolist()
        (6, [1, 3, 6])

    Source of truncation: Williams and Peng, "An efficient gradient-based algorithm for on-line
    training of recurrent network trajectories", 1990.
    """
    if truncate is not None and truncate < 1:
        raise OptionError(name="truncate", expected="None or at least 1", got=truncate)
    return loop(body, init, xs, length, reverse, truncate)


class Traced(NamedTuple):
    """What a loop does at each step.

    Attributes:
        body: takes the carry, the slices and what is the same at every step; gives the carry, y.
        y_tree: the containers of y.
        counts: whether the number of the step is the last of the slices.
        read: the variables that are the same at every step, where it is kept.
    """

    body: Subgraph
    y_tree: Any
    counts: bool
    read: Sequence[Variable] = ()


Memo = dict[Hashable, Traced]
_memos: weakref.WeakKeyDictionary[Any, dict[str, Memo]] = weakref.WeakKeyDictionary()


def memo_of(layer: Any, direction: str) -> Memo:
    """What the steps of a layer do in one direction; it goes with the layer."""
    return _memos.setdefault(layer, {}).setdefault(direction, {})


def loop(
    body: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any,
    length: int | None = None,
    reverse: bool = False,
    truncate: int | None = None,
    memo: Memo | None = None,
) -> tuple[Any, Any]:
    """As :func:`scan`.

    Args:
        memo: keeps what was traced outside ``compile``, for a body that always does the same with
            a carry and an x of the same types, and uses nothing else but parameters.
    """
    before: list[Node] = []
    data: list[Node] = []
    carry_tree, x_tree = _flatten(init, before), _flatten(xs, data)
    count = _length(data, length)
    key = (
        *[node.type for node in (*before, *data)],
        default_dtype(), Epoch.value, place.scope, place.source, place.gradients,
    )  # fmt: skip
    if place.trace:
        memo = None  # a trace is read by others, and built once
    steps = None if memo is None else memo.get(key)
    if steps is not None:
        constants = [current().read(variable) for variable in steps.read]
    else:
        steps, constants = _traced(body, before, data, carry_tree, x_tree, count)
        if memo is not None and not steps.counts and all(map(is_variable, constants)):
            if len(memo) == _TRACED_KEPT:
                memo.clear()
            memo[key] = steps._replace(read=[node.attrs["variable"] for node in constants])
    if steps.counts:
        data.append(iota(count))
    results = core.scan(
        steps.body, before, data, constants, length=count, reverse=reverse, truncate=truncate
    )
    tensors = map(wrap, results)
    return _fill(carry_tree, tensors), _fill(steps.y_tree, tensors)


def _traced(
    body: Callable[[Any, Any], tuple[Any, Any]],
    before: Sequence[Node],
    data: Sequence[Node],
    carry_tree: Any,
    x_tree: Any,
    count: int,
) -> tuple[Traced, list[Node]]:
    """The steps of a body, and the values from outside that its steps use."""
    trace = _Steps(count)
    with tracing(trace):
        carry = [placeholder(node.tensor_type, "carry") for node in before]
        slices = [placeholder(TensorType(x.shape[1:], x.dtype), "x") for x in data]
        made = body(_fill(carry_tree, map(wrap, carry)), _fill(x_tree, map(wrap, slices)))
        if not (isinstance(made, tuple) and len(made) == 2):
            raise OptionError(
                name="the body of a scan", expected="a function that returns (carry, y)",
                got=type(made).__name__, mend="return carry, None where there is nothing to stack",
            )  # fmt: skip
        after: list[Node] = []
        written: list[Node] = []
        after_tree, y_tree = _flatten(made[0], after), _flatten(made[1], written)
    _check_carry(carry_tree, after_tree, before, after)
    if trace.step is not None:
        slices.append(trace.step)
    holes = [*carry, *slices]
    constants = _closed_over([*after, *written], holes, trace)
    fixed = {node: placeholder(node.tensor_type, "constant", node.needs_grad) for node in constants}
    outputs = copied([*after, *written], {**{hole: hole for hole in holes}, **fixed})
    steps = Subgraph([*holes, *fixed.values()], outputs)
    return Traced(steps, y_tree, trace.step is not None), constants


def _length(data: Sequence[Node], length: int | None) -> int:
    """The number of steps, on which everything has to agree."""
    lengths = {node.shape[0] if node.ndim else None for node in data}
    if length is not None:
        lengths.add(length)
    if len(lengths) != 1 or None in lengths or lengths == {0}:
        shapes = ", ".join(str(node.shape) for node in data)
        error = ShapeError(
            op="scan", expected="xs of one length along their first axis, at least 1",
            got=f"shapes {shapes or 'of nothing'} and length={length}",
            mend="give xs, or length where there are none",
        )  # fmt: skip
        raise located(error)
    return lengths.pop() or 0


def _check_carry(
    before_tree: Any, after_tree: Any, before: Sequence[Node], after: Sequence[Node]
) -> None:
    types = [node.type for node in before], [node.type for node in after]
    if before_tree != after_tree or types[0] != types[1]:
        kinds = [[str(type) for type in each] for each in types]
        error = ShapeError(
            op="scan", expected=f"a carry that stays {_described(before_tree, kinds[0])}",
            got=_described(after_tree, kinds[1]),
            mend="start from a carry of the shape and type that the body returns",
        )  # fmt: skip
        raise located(error)


# ---------------------------------------------------------------------------------- the trace


class _Steps(Trace):
    """Reads and draws while a body is traced: it sees what is outside, and writes nothing.

    Attributes:
        step: the number of the step, once something random needs it.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.outer, self.outer_trace = current(), place.trace
        self.length = length
        self.grads = _NoGrads(self.outer.grads)
        self.step: Node | None = None

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Nodes made inside belong to what is around the loop."""
        place.trace = self.outer_trace
        try:
            yield
        finally:
            place.trace = self.id

    def fetch(self, variable: Variable) -> Node:
        with self.outside():
            return self.outer.read(variable)

    def write(self, variable: Variable, node: Node) -> None:
        _refuse(f"a write to {variable.name or 'a variable'}")

    def reserve(self, count: int) -> tuple[Node, Node, int]:
        """Draws of their own for every step (decision 12)."""
        with self.outside():
            seed, base, ordinal = self.outer.reserve(count * self.length)
        if self.step is None:
            self.step = placeholder(TensorType((), int64), "step")
        return seed, base + self.step * count, ordinal


class _NoGrads(Gradients):
    """Those around the loop, to be read."""

    def _look(self, variable: Variable) -> None:
        if variable not in self.incoming and variable in self._outside:
            self.incoming[variable] = self._now[variable] = self._outside[variable]

    def __setitem__(self, variable: Variable, node: Node) -> None:
        _refuse("backward()")


def _refuse(got: str) -> NoReturn:
    error = OptionError(
        name="the body of a scan", expected="a function of the carry and x", got=got,
        mend="hand it on in the carry and write it after the loop; "
        "call backward() on what the scan returns",
    )  # fmt: skip
    raise located(error)


def _closed_over(outputs: Sequence[Node], holes: Sequence[Node], trace: _Steps) -> list[Node]:
    """The values from outside that the steps use, and those that are the same at every step."""
    inside = set(holes)
    numbers: set[Node] = set()  # made of numbers of the program alone: made again at each step
    found: dict[Node, None] = {}

    def is_outside(node: Node) -> bool:
        return node.trace != trace.id or node.value is not None

    order = walk(outputs, stop=lambda node: node in inside or is_outside(node))
    for node in order:
        if node in inside or is_outside(node):
            continue
        if not inside.isdisjoint(node.inputs):
            inside.add(node)
        elif numbers.issuperset(node.inputs):
            numbers.add(node)
    for node in order:
        if node in inside:
            found |= dict.fromkeys(c for c in node.inputs if c not in inside and c not in numbers)
    found |= dict.fromkeys(c for c in outputs if c not in inside and c not in numbers)
    for node in walk(list(found), stop=is_outside):
        if node.trace == trace.id:
            node.trace = trace.outer_trace  # it is computed before the loop
    return list(found)


# ---------------------------------------------------------------------------------- containers

_LEAF = object()


def _flatten(tree: Any, leaves: list[Node]) -> Any:
    """The nodes in a fixed order; returned: the containers with marks in their places."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: _flatten(tree[key], leaves) for key in sorted(tree, key=str)}
    if isinstance(tree, list | tuple):
        return _rebuilt(type(tree), [_flatten(item, leaves) for item in tree])
    leaves.append(need_node(tree))
    return _LEAF


def _fill(structure: Any, tensors: Iterator[Tensor]) -> Any:
    """The containers with tensors in the places of the marks."""
    if structure is _LEAF:
        return next(tensors)
    if isinstance(structure, dict):
        return {key: _fill(item, tensors) for key, item in structure.items()}
    if isinstance(structure, list | tuple):
        return _rebuilt(type(structure), [_fill(item, tensors) for item in structure])
    return structure


def _rebuilt(kind: type, items: list[Any]) -> Any:
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def _described(structure: Any, kinds: Sequence[str]) -> str:
    """A carry in words: its containers with the types in them."""
    words = iter(kinds)

    def spell(part: Any) -> str:
        if part is _LEAF:
            return next(words)
        if isinstance(part, dict):
            return "{" + ", ".join(f"{key!r}: {spell(item)}" for key, item in part.items()) + "}"
        if isinstance(part, list | tuple):
            return "(" + ", ".join(map(spell, part)) + ")"
        return str(part)

    return spell(structure)
