"""``cr.compile``: a training step traced once per shape and then run as one graph (decision 2).

Arrays and floats are dynamic; whole numbers, booleans, strings and None are part of the key.
Variables are read and written by the graph; the writes are committed together when a run ends.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from types import MethodType
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.arrays import owned
from chainrule.core.dtype import DTYPES, default_dtype, float64
from chainrule.core.graph import (
    Array,
    Graph,
    Node,
    TensorType,
    Variable,
    caller,
    place,
    walk,
)
from chainrule.core.loops import tidy
from chainrule.core.op import input
from chainrule.core.rewrite import expand
from chainrule.core.simplify import simplify
from chainrule.errors import ManyPlansWarning, Source
from chainrule.run import Plan, Update, executor, prepare, updater
from chainrule.tensor.containers import TENSOR, collected, filled, flattened, mapped
from chainrule.tensor.state import Epoch, Trace, current, eager, refuse_traced, tracing
from chainrule.tensor.tensor import Number, Tensor, to_array, wrap

_PLANS_KEPT = 32
_TYPES = frozenset(DTYPES.values())
_PLAIN = frozenset((Tensor, np.ndarray))
_MANY_PLANS = 9


class Key(NamedTuple):
    """What a trace depends on besides the values: another key is another trace.

    Attributes:
        structure: the containers of the arguments, with the static values in them.
        types: shape and element type of each dynamic value.
        epoch: moves with train, eval, freeze and edits of modules.
        graded: which of the variables whose gradients the function looks at have one.
        setting: executor, default float type, whether gradients are on.
    """

    structure: Hashable
    types: tuple[TensorType, ...]
    epoch: Hashable
    graded: tuple[Variable, ...]
    setting: Hashable


class Last(NamedTuple):
    """A call that most calls are like: it had nothing but tensors and arrays, one after another.

    Attributes:
        types: theirs.
        around: the rest of its key.
        entry: what was run.
    """

    types: tuple[TensorType, ...]
    around: tuple[Any, ...]
    entry: Entry


@dataclass
class Entry:
    """One trace of a compiled function.

    Attributes:
        graph: inputs are the dynamic arguments, the gradients that come in, what was captured.
        plan: runs the graph.
        run: runs the plan on the variables as they are, and commits what it writes.
        captured: arrays of tensors from outside that the function used.
        structure: the containers that are returned.
        types: of what the run gives: the tensors that are returned, then new gradients.
        watched: the variables whose gradients the function looks at or changes.
        incoming: those that have a gradient before.
        cleared: those that have none afterwards.
        graded: those that have another one afterwards.
    """

    graph: Graph
    plan: Plan
    run: Update
    captured: list[Array]
    structure: Any
    types: list[TensorType]
    watched: list[Variable]
    incoming: list[Variable]
    cleared: list[Variable]
    graded: list[Variable]

    @functools.cached_property
    def is_single(self) -> bool:
        """Whether a tensor is returned, and that is all."""
        return self.structure is TENSOR and not self.graded and not self.cleared

    @functools.cached_property
    def may_alias(self) -> bool:
        """Whether the plan may hand an input on as its result."""
        return not hasattr(self.plan, "update")


class Compiled:
    """A function that is traced once per key; see :func:`compile`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._source = _first_line(function)
        self._entries: OrderedDict[tuple[Any, ...], Entry] = OrderedDict()
        self._last: Last | None = None
        self._watched: list[Variable] = []  # by any of the entries
        self._traces = 0

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_function"], name)  # a compiled module has its parameters

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if isinstance(current(), Trace):
            return self._function(*args, **kwargs)
        entry, arrays = self._found(args, kwargs)
        return self._run(entry, arrays)

    def prepared(self, args: Any, kwargs: Any) -> tuple[Entry, list[Array]]:
        """The trace for these arguments, and what its graph is to be run on: for a profile."""
        entry, arrays = self._found(args, kwargs)
        return entry, self._inputs(entry, arrays)

    def _found(self, args: Any, kwargs: Any) -> tuple[Entry, list[Array]]:
        """The trace for these arguments, made if need be, and their arrays."""
        last = self._last
        if last is not None and not kwargs and last.around == self._around():
            known = _values_of(args, last.types)
            if known is not None:
                return last.entry, known
        leaves: list[Any] = []
        structure = (flattened(args, leaves), flattened(kwargs, leaves) if kwargs else ())
        arrays = _arrays(leaves)
        types = tuple([TensorType(array.shape, array.dtype) for array in arrays])
        key = (structure, types, *self._around())
        entry = self._entries.get(key)
        if entry is None:
            entry = self._trace(args, kwargs, types)
            self._keep(entry, structure, types)
        else:
            self._entries.move_to_end(key)
        self._last = None
        if not kwargs and not entry.may_alias and _PLAIN.issuperset(map(type, args)):
            self._last = Last(types, self._around(), entry)  # more may be watched than before
        if entry.may_alias:
            arrays = [
                np.array(x) if x is leaf else x for x, leaf in zip(arrays, leaves, strict=True)
            ]
        return entry, arrays

    def _around(self) -> tuple[Any, ...]:
        """The fields of a :class:`Key` that do not depend on the arguments."""
        graded: tuple[Variable, ...] = ()
        if eager.grads:
            graded = tuple([v for v in self._watched if v in eager.grads])
        return (Epoch.value, graded, (executor(), default_dtype(), place.gradients))

    def _keep(self, entry: Entry, structure: Hashable, types: Hashable) -> None:
        """The entry is found from now on; the one used longest ago may not be."""
        entries = self._entries
        if len(entries) == _PLANS_KEPT:
            entries.popitem(last=False)
        watched = (v for each in (*entries.values(), entry) for v in each.watched)
        self._watched = list(dict.fromkeys(watched))
        entries[structure, types, *self._around()] = entry
        self._warn_of_many()

    # ------------------------------------------------------------------ tracing

    def _trace(self, args: Any, kwargs: Any, types: Sequence[TensorType]) -> Entry:
        with tracing() as trace:
            holes = [input(type, f"argument {i}") for i, type in enumerate(types)]
            fresh = iter(holes)
            call_args, call_kwargs = mapped((args, kwargs), lambda x: _hole(x, next(fresh)))
            returned = self._function(*call_args, **call_kwargs)
            outputs: list[Tensor] = []
            structure = collected(returned, outputs)
            nodes = [x.node for x in outputs]
            writes = trace.writes()
        incoming = {v: node for v, node in trace.grads.incoming.items() if node is not None}
        graded = {v: node for v, node in trace.grads.items() if node is not incoming.get(v)}
        wanted = [*nodes, *graded.values(), *trace.checks]
        given = [*holes, *incoming.values()]
        captured = self._captured(wanted, writes, given, trace)
        graph = Graph([*given, *captured], wanted, writes)
        graph = simplify(expand(tidy(graph), keep=_with_evaluation()))
        graph = _without_repeats(graph, len(nodes) + len(graded))
        plan = prepare(graph)
        return Entry(
            graph, plan, updater(plan, graph), [_array(node) for node in captured],
            structure, [node.tensor_type for node in (*nodes, *graded.values())],
            watched=list(trace.grads.incoming), incoming=list(incoming),
            cleared=[v for v in incoming if v not in trace.grads], graded=list(graded),
        )  # fmt: skip

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

    def _inputs(self, entry: Entry, arrays: list[Array]) -> list[Array]:
        """What the graph is run on: the arguments, gradients that come in, what was captured."""
        if entry.incoming:
            held = [eager.grads[variable] for variable in entry.incoming]
            eager.evaluate(held)
            arrays = [*arrays, *map(_array, held)]
        return arrays + entry.captured if entry.captured else arrays

    def _run(self, entry: Entry, arrays: list[Array]) -> Any:
        inputs = self._inputs(entry, arrays)
        if entry.is_single:
            with eager.lock:
                outputs = entry.run(inputs)
            return self._made(entry.types[0], outputs[0])
        grads = eager.grads
        versions = [variable.version for variable in entry.graph.writes] if entry.cleared else []
        try:
            with eager.lock:
                outputs = entry.run(inputs)
        except KeyboardInterrupt:  # the step may be done: then it has consumed its gradients
            if versions != [variable.version for variable in entry.graph.writes]:
                for variable in entry.cleared:
                    grads.pop(variable, None)
            raise
        made = [*map(self._made, entry.types, outputs)]  # after them come checks
        for variable in entry.cleared:
            grads.pop(variable, None)
        if entry.graded:
            for variable, x in zip(entry.graded, made[-len(entry.graded) :], strict=True):
                grads[variable] = x.node
        return filled(entry.structure, iter(made))

    def _made(self, type: TensorType, array: Array) -> Tensor:
        return Tensor(input(type, "", owned(array), self._source))

    def _warn_of_many(self) -> None:
        self._traces += 1
        if self._traces == _MANY_PLANS:
            name = getattr(self._function, "__name__", "the function")
            cause, mend = _variation([Key._make(key) for key in self._entries])
            warning = ManyPlansWarning(
                name=name, count=_MANY_PLANS,
                cause=cause[0], cause_zh=cause[1], mend=mend[0], mend_zh=mend[1],
            )  # fmt: skip
            warnings.warn(warning.at("", caller()), stacklevel=3)


Words = tuple[str, str]  # in English and in Chinese


def _variation(keys: Sequence[Key]) -> tuple[Words, Words]:
    """What varies most often from one key to the next, and what to do about it."""
    changes: Counter[tuple[str, int]] = Counter()
    for before, after in itertools.pairwise(keys):
        if before.structure != after.structure:
            changes["structure", 0] += 1
        elif before.types != after.types:
            for index, (a, b) in enumerate(zip(before.types, after.types, strict=True)):
                changes["type", index] += a != b
        elif before.epoch != after.epoch:
            changes["epoch", 0] += 1
    (kind, index), _ = changes.most_common(1)[0] if changes else (("other", 0), 0)
    if kind == "type":
        return _varying_axis([key.types[index] for key in keys if index < len(key.types)], index)
    if kind == "structure":
        return (
            (
                "a whole number, string or container among the arguments changes",
                "参数中的整数、字符串或容器在变化",
            ),
            (
                "pass a counter as a float or a tensor, which are values, not part of the plan",
                "计数之类的数用浮点数或张量传入:它们是数值,不属于计划",
            ),
        )  # fmt: skip
    if kind == "epoch":
        return (
            ("a module changes between the calls (train, eval, freeze, or an attribute)",
             "两次调用之间模块在变化(train、eval、freeze 或属性)"),
            ("call train() and eval() once per epoch, not once per batch",
             "train() 和 eval() 每轮调用一次,不要每批都调用"),
        )  # fmt: skip
    return (("settings change between the calls", "两次调用之间设置在变化"), ("", ""))


def _varying_axis(types: Sequence[TensorType], index: int) -> tuple[Words, Words]:
    shapes = [type.shape for type in types]
    names = f"argument {index}", f"参数 {index}"
    if len({len(shape) for shape in shapes}) > 1 or len(set(shapes)) == 1:
        return (f"the type of {names[0]}", f"{names[1]}的类型"), ("", "")
    axis = max(range(len(shapes[0])), key=lambda dim: len({shape[dim] for shape in shapes}))
    lengths = ", ".join(str(shape[axis]) for shape in shapes[:4]) + " ..."
    cause = (
        f"axis {axis} of {names[0]} has many lengths ({lengths})",
        f"{names[1]}的第 {axis} 轴有多种长度({lengths})",
    )
    return cause, (
        "drop the last, smaller batch (drop_last=True), or pad this axis to a few fixed lengths",
        "丢掉最后较小的一批(drop_last=True),或把这个轴补齐到少数几种固定长度",
    )


def compile(function: Callable[..., Any]) -> Compiled:
    """Trace a function once per shape of its arguments; later calls run the graph alone.

    Inside, everything but the values behaves as outside: forward, ``loss.backward()``,
    ``optimizer.step()``. The results agree with uncompiled ones to rounding, and have the same bits
    at every run. Python code in it (``print``, appends to lists, random numbers of other libraries)
    happens once, while tracing.

    Args:
        function: tensors, arrays and floats among its arguments, inside lists, tuples and dicts
            too, are values; whole numbers, booleans, strings and other objects are part of the
            plan, as are shapes, element types, and the mode of modules. The 32 plans used last are
            kept.

    Returns:
        The function. A tensor that goes in or comes out is data: no gradient flows through it, so
        ``backward()`` belongs inside. Parameters may be used, and passed, freely.

    Raises:
        TracedValueError: the function asks for a value (``item``, ``if x > 0``).
        ManyPlansWarning: at the ninth plan; it names what varies.

    Example:
        >>> import chainrule as cr
        >>> double = cr.compile(lambda x: x * 2)
        >>> double(cr.tensor([1.0, 2.0])).tolist()
        [2.0, 4.0]
    """
    return Compiled(function)


def _without_repeats(graph: Graph, count: int) -> Graph:
    """The graph without outputs that stand among the first ones: a loss is its own check."""
    first = graph.outputs[:count]
    rest = [node for node in graph.outputs[count:] if node not in first]
    return Graph(graph.inputs, [*first, *rest], graph.writes)


@functools.lru_cache(maxsize=1)
def _with_evaluation() -> frozenset[str]:
    """Named functions that are run as they stand, not through their bodies."""
    from chainrule.core.op import OPS

    return frozenset(name for name, op in OPS.items() if op.evaluate is not None)


def _first_line(function: Callable[..., Any]) -> Source | None:
    """Where the function is written: the place of what its runs return."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return Source(code.co_filename, code.co_firstlineno, code.co_qualname) if code else caller()


def _arrays(leaves: Sequence[Any]) -> list[Array]:
    """The arrays of dynamic values; what waits to be evaluated is, all of it at once."""
    lazy = [x.node for x in leaves if isinstance(x, Tensor) and x._node.value is None]
    if lazy or eager.pending or eager.updates or eager.draws:
        eager.evaluate(lazy)
    return [_data(x) for x in leaves]


def _values_of(args: Sequence[Any], types: Sequence[TensorType]) -> list[Array] | None:
    """The arrays of tensors and arrays, if they have these types and nothing is to be evaluated."""
    if len(args) != len(types) or eager.pending or eager.updates or eager.draws:
        return None
    arrays = []
    for x, (shape, dtype) in zip(args, types, strict=True):
        kind = type(x)
        array = x._node.value if kind is Tensor else x if kind is np.ndarray else None
        if array is None or array.shape != shape or array.dtype is not dtype:
            return None
        arrays.append(array)
    return arrays


def _data(leaf: Any) -> Array:
    """The array of a dynamic value; one of the library's types is not copied."""
    if type(leaf) is np.ndarray and leaf.dtype in _TYPES:
        return leaf
    if isinstance(leaf, Tensor):
        value: Array = leaf._value("a compiled step")
        return value
    return to_array(leaf, float64 if isinstance(leaf, float) else None)


def _array(node: Node) -> Array:
    """The array of an evaluated node."""
    if node.value is None:
        value: Array = node.attrs["variable"].value
        return value
    return node.value


def _hole(value: Any, node: Node) -> Tensor:
    """What the function is given in place of a dynamic value."""
    return Number(node) if isinstance(value, float) else wrap(node)
