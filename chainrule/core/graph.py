"""What a computation is: nodes, the graph they form, and the variables it reads and writes.

A :class:`Node` is one application of one op to the results of other nodes; it never changes. A
:class:`Variable` is the only thing that changes: a cell that holds an array. A :class:`Graph` is a
closed computation: *inputs* and variable *reads* go in, *outputs* and variable *writes* come out.
"""

from __future__ import annotations

import itertools
import math
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from chainrule.core.arrays import Array as Array
from chainrule.core.arrays import Shape as Shape
from chainrule.core.arrays import address, copied, frozen
from chainrule.core.dtype import DType
from chainrule.core.operators import Operators
from chainrule.errors import Source

if TYPE_CHECKING:
    from chainrule.core.op import Op


class TensorType(NamedTuple):
    """Shape and element type of one value."""

    shape: Shape
    dtype: DType

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def size(self) -> int:
        return math.prod(self.shape)


# An op with several results has a tuple of types; ``pick`` takes one of them.
ResultType = TensorType | tuple[TensorType, ...]


# ---------------------------------------------------------------------------------- provenance

_PACKAGE = str(Path(__file__).resolve().parents[1])
# Parts of the package that are programs in the user's style: their lines are worth naming.
_PROGRAMS = tuple(str(Path(_PACKAGE, name)) for name in ("recipes", "models", "explain/cases.py"))
# By names, not by code: code has no cheap hash.
_is_program: dict[str, bool] = {}
_sources: dict[tuple[str, int, str], Source] = {}
# By the place in the code: Python counts the lines from the top of a function to find the number.
# The code is kept beside, so that its identity stays its own.
_places: dict[tuple[int, int], tuple[Source, CodeType]] = {}
_PLACES_KEPT = 10_000


def is_program(code: CodeType) -> bool:
    """Whether it is the user's, or written as if it were."""
    file = code.co_filename
    found = _is_program.get(file)
    if found is None:
        found = not file.startswith((_PACKAGE, "<")) or file.startswith(_PROGRAMS)
        _is_program[file] = found
    return found


def caller() -> Source | None:
    """The innermost line of the user's program on the stack; the frame itself is not kept."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        outside = _is_program.get(code.co_filename)
        if outside or (outside is None and is_program(code)):
            at = (id(code), frame.f_lasti)
            found = _places.get(at) or _found(at, frame)
            return found[0]
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _found(at: tuple[int, int], frame: FrameType) -> tuple[Source, CodeType]:
    code = frame.f_code
    key = (code.co_filename, frame.f_lineno, code.co_qualname)
    if len(_places) == _PLACES_KEPT:
        _places.clear()
    _places[at] = _sources.setdefault(key, Source(*key)), code
    return _places[at]


class _Place(threading.local):
    """Where nodes are being made: the layer path, the forward node, the phase, the trace."""

    def __init__(self) -> None:
        self.scope: tuple[str, ...] = ()
        self.origin: Node | None = None
        self.source: Source | None = None
        self.phase = "forward"
        self.trace = 0
        self.gradients = True


place = _Place()


class _placed:
    """Nodes made inside have other values of :data:`place`."""

    __slots__ = ("_before", "_values")

    def __init__(self, **values: Any) -> None:
        self._values = values

    def __enter__(self) -> None:
        here = place.__dict__
        self._before = {name: here[name] for name in self._values}
        here.update(self._values)

    def __exit__(self, *_: object) -> None:
        place.__dict__.update(self._before)


def scope(name: str) -> _placed:
    """Nodes made inside belong to the layer ``name`` (within the layers already open)."""
    return _placed(scope=(*place.scope, name) if name else place.scope)


def needing_gradients(on: bool) -> _placed:
    """Nodes made inside need a gradient where their inputs do; or (``False``) never."""
    return _placed(gradients=on)


def derived_from(node: Node, **values: Any) -> _placed:
    """Nodes made inside come from ``node`` (a gradient, a body) and share its layer and line."""
    return _placed(
        scope=node.scope, origin=node, source=node.source, **{"phase": node.phase, **values}
    )


def phase(name: str) -> _placed:
    """Nodes made inside belong to this part of a step: ``forward``, ``backward``, ``update``."""
    return _placed(phase=name)


# ---------------------------------------------------------------------------------- nodes

_serials = itertools.count()
# Of what nodes do to their inputs: ``Node.kind``.
kinds = itertools.count(1)


class Node(Operators):
    """One application of an op. Immutable, but for the two cells named last.

    Attributes:
        op: the record of the operation (``chainrule.core.op.Op``).
        inputs: the nodes it reads.
        attrs: its static attributes, all hashable.
        type: shape and dtype of its result, or a tuple of them.
        scope: path of the layer that made it, for example ``("encoder", "fc1")``.
        origin: the forward node it was derived from, when it is part of a gradient or a body.
        source: the line of the user's program that made it; None for what nothing computes: data,
            values of variables.
        phase: the part of a step that it belongs to: ``forward``, ``backward`` or ``update``.
        serial: a number that grows in program order.
        trace: the trace it belongs to; 0 outside traces.
        kind: a number that is the same for nodes that do the same to their inputs; 0 until it is
            asked for (``subgraph.kind_of``).
        value: its array, once known. A leaf with data has it from the start.
        needs_grad: whether a trainable variable is among what it was computed from.
        holders: how many user-held tensors stand for it; such values are kept when evaluated.
    """

    OPS: ClassVar[dict[str, Op]]  # filled as there are ops

    __slots__ = (
        "__weakref__",
        "attrs",
        "holders",
        "inputs",
        "kind",
        "needs_grad",
        "op",
        "origin",
        "phase",
        "scope",
        "serial",
        "source",
        "trace",
        "type",
        "value",
    )

    def __init__(
        self,
        op: Op,
        inputs: tuple[Node, ...],
        attrs: Mapping[str, Any],
        type: ResultType,
        value: Array | None = None,
        source: Source | None = None,
    ) -> None:
        here = place.__dict__  # looked up once: it is this thread's
        self.op = op
        self.inputs = inputs
        self.attrs = attrs
        self.type = type
        self.scope = here["scope"]
        self.origin = here["origin"]
        self.source = source or here["source"] or (caller() if inputs else None)
        self.phase = here["phase"]
        self.serial = next(_serials)
        self.trace = here["trace"]
        self.value = value
        self.kind = 0 if attrs else op.kind
        self.holders = 0
        self.needs_grad = False
        if inputs and op.passes_gradient and here["gradients"]:
            for node in inputs:
                if node.needs_grad:
                    self.needs_grad = True
                    break

    def with_inputs(self, inputs: tuple[Node, ...]) -> Node:
        """The same application to other inputs, from the same place in the program."""
        return self._twin(inputs, self.attrs)

    def with_attrs(self, attrs: Mapping[str, Any]) -> Node:
        """The same application with other attributes, which give the same type."""
        return self._twin(self.inputs, attrs)

    def _twin(self, inputs: tuple[Node, ...], attrs: Mapping[str, Any]) -> Node:
        twin = Node(self.op, inputs, attrs, self.type, source=self.source)
        twin.scope, twin.origin, twin.source = self.scope, self.origin, self.source
        twin.phase = self.phase
        return twin

    @property
    def tensor_type(self) -> TensorType:
        """The type of a node with one result."""
        if not isinstance(self.type, TensorType):
            raise TypeError(f"{self.op.name} has {len(self.type)} results; pick one")
        return self.type

    # These two are asked for all the time: a type without them has several results.

    @property
    def shape(self) -> Shape:
        type = self.type
        return type.shape if isinstance(type, TensorType) else self.tensor_type.shape

    @property
    def dtype(self) -> DType:
        type = self.type
        return type.dtype if isinstance(type, TensorType) else self.tensor_type.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return self.tensor_type.size

    def _apply(self, name: str, *operands: Any) -> Node:
        return self.OPS[name](*operands)

    def __repr__(self) -> str:
        inputs = ", ".join(f"%{node.serial}" for node in self.inputs)
        attrs = "".join(f", {key}={value!r}" for key, value in self.attrs.items())
        layer = f"  # {'.'.join(self.scope)}" if self.scope else ""
        return f"%{self.serial} = {self.op.name}({inputs}{attrs}) : {self.type}{layer}"


class Variable:
    """A cell that holds an array: a parameter, a buffer, an optimizer moment, a counter.

    An array that was seen in ``value`` is never written to: :meth:`commit` replaces it, and a plan
    that updates in place asks for :meth:`own`. A graph sees the value through the node that
    :meth:`read` gives; nodes that read an older value keep that array.
    """

    __slots__ = (
        "__weakref__",
        "_array",
        "_read",
        "_seen",
        "address",
        "name",
        "trainable",
        "type",
        "version",
    )
    address: int  # of the array
    READ: ClassVar[Op]  # known when there are ops

    def __init__(self, value: Array, name: str = "", trainable: bool = False) -> None:
        self._keep(value)
        self.type = TensorType(self._array.shape, self._array.dtype)
        self._seen = True
        self.name = name
        self.trainable = trainable
        self.version = 0
        self._read: weakref.ref[Node] | None = None

    def _keep(self, value: Array) -> None:
        self._array = frozen(value)
        self.address = address(self._array)

    @property
    def value(self) -> Array:
        """The array; whoever has it may keep it."""
        self._seen = True
        return self._array

    def peek(self) -> Array:
        """The array, for one who does not keep it."""
        return self._array

    def own(self) -> Array:
        """The value in a buffer that nobody else has: 64-byte aligned, for a plan to write into.

        It is copied there first if the present array was seen by others, who keep that one.
        """
        if self._read or self._seen:
            self._part()
            if self._seen:
                self._keep(copied(self._array))
                self._seen = False
        return self._array

    def _part(self) -> None:
        """Leave the present array to the node that reads it, if there is one."""
        node = self._read() if self._read else None
        if node is not None:
            node.value = self.value
        self._read = None

    def read(self) -> Node:
        """The node for the present value; the same node until the next commit."""
        node = self._read() if self._read else None
        if node is None:
            node = self.fresh_read()
            node.trace = 0
            self._read = weakref.ref(node)
        return node

    def fresh_read(self) -> Node:
        """A node of its own that reads whatever the value is when the graph runs."""
        node = Node(self.READ, (), {"variable": self}, self.type)
        node.needs_grad = self.trainable
        return node

    def commit(self, value: Array) -> None:
        """Replace the value; nodes that read the old one keep it."""
        self._part()
        self._keep(value)
        array = self._array
        if array.dtype != self.type.dtype or array.shape != self.type.shape:
            self.type = TensorType(array.shape, array.dtype)
        self._seen = True
        self.version += 1

    def is_private(self) -> bool:
        """Whether nobody else has the array, so that a plan may write into it."""
        return not self._seen and (self._read is None or self._read() is None)

    def take(self, array: Array) -> None:
        """Replace the value by an array of its type that nobody else has."""
        self._part()
        self._keep(array)
        self._seen = False
        self.version += 1

    def __reduce__(self) -> tuple[Any, ...]:
        return (Variable, (self.value, self.name, self.trainable))

    def __repr__(self) -> str:
        return f"Variable({self.name or '?'}: {self.type})"


# ---------------------------------------------------------------------------------- graphs


program_order = attrgetter("serial")


def unknown(outputs: Iterable[Node]) -> list[Node]:
    """What is still to be computed for the outputs, after the values and leaves that it needs.

    A shorter way than :func:`walk`, for what is done at every step of an uncompiled program. What
    is computed stands in program order; leaves don't, since a variable's may be older than a step.
    """
    found = list(dict.fromkeys(outputs))
    seen = set(found)
    leaves, computed = [], []
    for node in found:
        if node.value is not None or not node.inputs:
            leaves.append(node)
            continue
        computed.append(node)
        for child in node.inputs:
            if child not in seen:
                seen.add(child)
                found.append(child)
    computed.sort(key=program_order)  # a node comes after its inputs there, too
    return leaves + computed


def walk(outputs: Iterable[Node], stop: Callable[[Node], bool] | None = None) -> list[Node]:
    """Every node the outputs depend on, each after its inputs; not beyond nodes where ``stop``.

    The order depends on the graph alone: it is a depth-first post-order.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    for output in outputs:
        if output in seen:
            continue
        seen.add(output)
        if not output.inputs or (stop is not None and stop(output)):
            order.append(output)
            continue
        path = [(output, iter(output.inputs))]
        while path:
            node, children = path[-1]
            for child in children:
                if child in seen:
                    continue
                seen.add(child)
                if not child.inputs or (stop is not None and stop(child)):
                    order.append(child)
                    continue
                path.append((child, iter(child.inputs)))
                break
            else:
                order.append(node)
                path.pop()
    return order


class Graph:
    """A closed computation.

    Attributes:
        inputs: leaf nodes whose arrays are handed in, in this order.
        reads: one leaf node per variable that is read.
        outputs: the nodes whose values are wanted.
        writes: at most one node per variable: its value after the run.
        nodes: all nodes, each after its inputs.
    """

    def __init__(
        self,
        inputs: Sequence[Node],
        outputs: Sequence[Node],
        writes: Mapping[Variable, Node] | None = None,
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.writes = dict(writes or {})
        given = set(self.inputs)
        self.nodes = walk((*self.outputs, *self.writes.values()), stop=given.__contains__)
        self.reads: dict[Variable, Node] = {
            node.attrs["variable"]: node
            for node in self.nodes
            if node.op.name == "read" and node not in given
        }

    @property
    def results(self) -> tuple[Node, ...]:
        """Everything a run computes: the outputs, then the values written."""
        return (*self.outputs, *self.writes.values())

    def __repr__(self) -> str:
        lines = [repr(node) for node in self.nodes]
        lines.append("outputs " + ", ".join(f"%{node.serial}" for node in self.outputs))
        lines += [
            f"write {variable.name} = %{node.serial}" for variable, node in self.writes.items()
        ]
        return "\n".join(lines)
