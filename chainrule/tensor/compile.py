"""``cr.compile``: a training step traced once per shape and then run as one graph (decision 2).

Arrays and floats are dynamic; whole numbers, booleans, strings and None are part of the key.
Variables are read and written by the graph; the writes are committed together when a run ends.
"""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.dtype import default_dtype
from chainrule.core.graph import Array, Graph, Node, TensorType, Variable, walk
from chainrule.core.op import input
from chainrule.core.rewrite import expand
from chainrule.core.simplify import simplify
from chainrule.run import Plan, executor, prepare
from chainrule.tensor.state import Epoch, Trace, current, eager, generator, refuse_traced, tracing
from chainrule.tensor.tensor import Tensor, tensor, wrap

_PLANS_KEPT = 32
_MANY_SHAPES = 9


@dataclass
class Entry:
    """One traced shape of a compiled function."""

    graph: Graph
    plan: Plan
    captured: list[Array]
    outputs: int
    structure: Any
    graded: list[Variable]


class Compiled:
    """A function that is traced once per key; see :func:`compile`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._shapes: set[Hashable] = set()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if isinstance(current(), Trace):
            return self._function(*args, **kwargs)
        leaves: list[Any] = []
        structure = _flatten((args, kwargs), leaves)
        tensors = [leaf if isinstance(leaf, Tensor) else tensor(leaf, _float(leaf)) for leaf in leaves]
        eager.evaluate([leaf.node for leaf in tensors])
        shapes = tuple(leaf._node.type for leaf in tensors)
        graded = tuple(eager.grads)  # their order is the order of inputs
        key = (structure, shapes, Epoch.value, graded, executor(), default_dtype())
        entry = self._entries.get(key)
        if entry is None:
            self._warn_of_many((structure, shapes), shapes)
            entry = self._entries[key] = self._trace(args, kwargs, tensors)
            if len(self._entries) > _PLANS_KEPT:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return self._run(entry, [leaf._value("a compiled step") for leaf in tensors])

    # ------------------------------------------------------------------ tracing

    def _trace(self, args: Any, kwargs: Any, tensors: list[Tensor]) -> Entry:
        held_grads = dict(eager.grads)
        eager.evaluate(list(held_grads.values()))
        with tracing() as trace:
            holes = [input(x._node.tensor_type, f"argument {i}") for i, x in enumerate(tensors)]
            grads = {v: input(node.tensor_type, "grad") for v, node in held_grads.items()}
            trace.grads = dict(grads)
            filled = iter(holes)
            call_args, call_kwargs = _map((args, kwargs), lambda _: wrap(next(filled)))
            returned = self._function(*call_args, **call_kwargs)
            outputs: list[Any] = []
            structure = _flatten(returned, outputs)
            nodes = [x.node if isinstance(x, Tensor) else tensor(x).node for x in outputs]
            writes = trace.writes()
            left = dict(trace.grads)
        wanted = [*nodes, *left.values()]
        given = [*holes, *grads.values()]
        captured = self._captured(wanted, writes, given, trace)
        graph = Graph([*given, *captured], wanted, writes)
        graph = simplify(expand(graph, keep=_with_evaluation()))
        arrays = [node.value for node in captured if node.value is not None]
        return Entry(graph, prepare(graph), arrays, len(nodes), structure, list(left))

    def _captured(
        self, wanted: list[Node], writes: dict[Variable, Node], given: list[Node], trace: Trace
    ) -> list[Node]:
        """Tensors from outside that the function used; each is evaluated and becomes an input."""
        holes = set(given)

        def outside(node: Node) -> bool:
            return node in holes or (node.trace == 0 and node.op.name != "constant")

        nodes = walk((*wanted, *writes.values()), stop=outside)
        refuse_traced([node for node in nodes if node not in holes], trace.id)
        captured = [node for node in nodes if outside(node) and node not in holes]
        eager.evaluate(captured)
        return captured

    # ------------------------------------------------------------------ running

    def _run(self, entry: Entry, arrays: list[Array]) -> Any:
        held = [node.value for node in eager.grads.values()]
        inputs = [*arrays, *(array for array in held if array is not None), *entry.captured]
        results = entry.plan(inputs, [variable.value for variable in entry.graph.reads])
        graph = entry.graph
        for variable, array in zip(graph.writes, results[len(graph.outputs) :], strict=True):
            variable.commit(array)
        made = [
            wrap(input(TensorType(array.shape, array.dtype), value=_frozen(array)))
            for array in results[: len(graph.outputs)]
        ]
        eager.grads.clear()
        for variable, x in zip(entry.graded, made[entry.outputs :], strict=True):
            eager.grads[variable] = x.node
        filled = iter(made[: entry.outputs])
        return _fill(entry.structure, filled)

    def _warn_of_many(self, key: Hashable, shapes: tuple[Any, ...]) -> None:
        self._shapes.add(key)
        if len(self._shapes) == _MANY_SHAPES:
            name = getattr(self._function, "__name__", "step")
            warnings.warn(
                f"{name} was compiled for {_MANY_SHAPES} different shapes, lately "
                f"{', '.join(map(str, shapes))}; every new shape is a new plan. "
                "Pad or drop the last, smaller batch (drop_last=True).",
                stacklevel=3,
            )


def compile(function: Callable[..., Any]) -> Compiled:
    """Trace a function once per shape of its arguments; later calls run the graph alone.

    Inside, everything but the values behaves as outside: forward, ``loss.backward()``,
    ``optimizer.step()``. Python code in it (``print``, appends to lists) happens once, while
    tracing; asking for a value raises :class:`~chainrule.errors.TracedValueError`.

    Example:
        >>> import chainrule as cr
        >>> double = cr.compile(lambda x: x * 2)
        >>> double(cr.tensor([1.0, 2.0])).tolist()
        [2.0, 4.0]
    """
    return Compiled(function)


@functools.lru_cache(maxsize=1)
def _with_evaluation() -> frozenset[str]:
    """Named functions that are run as they stand, not through their bodies."""
    from chainrule.core.op import OPS

    return frozenset(name for name, op in OPS.items() if op.evaluate is not None)


def _float(leaf: Any) -> Any:
    return default_dtype() if isinstance(leaf, float) else None


def _frozen(array: Array) -> Array:
    if array.base is not None or array.flags.writeable:
        array = np.array(array)
    array.flags.writeable = False
    return array


# ------------------------------------------------------------------------ nested containers


class _Hole:
    """Stands for a dynamic value inside a structure."""

    def __repr__(self) -> str:
        return "*"


_HOLE = _Hole()


def _is_dynamic(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray | np.generic | float)


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same containers with every dynamic value changed."""
    if _is_dynamic(value):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(item, change) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_map(item, change) for item in value])
    if isinstance(value, list | tuple):
        return type(value)(_map(item, change) for item in value)
    return value


def _flatten(value: Any, leaves: list[Any]) -> Any:
    """The dynamic values, in order; returned: a hashable structure with holes."""
    if _is_dynamic(value):
        leaves.append(value)
        return _HOLE
    if isinstance(value, dict):
        return (dict, tuple((key, _flatten(item, leaves)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return (type(value), tuple(_flatten(item, leaves) for item in value))
    hash(value)
    return (None, (type(value), value))


def _fill(structure: Any, values: Any) -> Any:
    """The containers of a structure with values in its holes."""
    if structure is _HOLE:
        return next(values)
    kind, items = structure
    if kind is None:
        return items[1]
    if kind is dict:
        return {key: _fill(item, values) for key, item in items}
    filled = [_fill(item, values) for item in items]
    return kind(*filled) if hasattr(kind, "_fields") else kind(filled)
