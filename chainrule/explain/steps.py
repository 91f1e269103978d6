"""The derivation as data: a list of steps, each with its lines; renderers only lay it out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.core.graph import Array, Node, Shape, Variable
from chainrule.errors import Source
from chainrule.explain import entries
from chainrule.explain.forward_names import ACTIVATIONS, steps_of
from chainrule.explain.names import Name
from chainrule.explain.naming import Names, fresh_value
from chainrule.explain.notation import (
    Apply,
    Formula,
    Number,
    Sum,
    Symbol,
    apply,
    total,
    value,
)
from chainrule.explain.record import VIEWS, Checker

PHASES = ("forward", "loss", "backward", "update")


@dataclass(frozen=True)
class Line:
    """One entry of a step: what it is, by which formula, with which numbers.

    Attributes:
        symbol: the entry's name, in both notations.
        formula: in symbols.
        opened: a named function written out; the formula again for other ops.
        result: the recorded number.
        paths: where a value was used several times, the part that each use contributes.
        check: the central difference, for gradients.
    """

    symbol: Symbol
    formula: Formula
    opened: Formula
    result: float
    paths: tuple[Formula, ...] = ()
    check: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether the central difference confirms the gradient (as far as float32 can)."""
        if self.check is None:
            return True
        return abs(self.check - self.result) <= 1e-5 + 1e-3 * abs(self.check)

    @property
    def reads(self) -> tuple[str, ...]:
        """The plain names of the quantities it is computed from."""
        found: dict[str, None] = {}
        for symbol in _symbols(self.formula):
            found.setdefault(symbol.plain)
        return tuple(found)


@dataclass(frozen=True)
class Step:
    """One quantity of the network and how it came about.

    Attributes:
        phase: forward, loss, backward or update.
        rule: key of the word for what is done.
        function: key of the op's own word, or "".
        plain, latex: name of the whole tensor.
        formula: of the whole tensor, or None where an entry says it all.
        shape: its shape.
        scope: path of the layer.
        source: line of the user's program.
        notes: keys of hazards met.
        array: all its numbers.
        delta: the name of the error term, for dL/dz.
        shortcut: a shorter formula of the same gradient, a - y say, entry by entry.
    """

    phase: str
    rule: str
    function: str
    plain: str
    latex: str
    formula: Formula | None
    shape: Shape
    scope: tuple[str, ...]
    source: Source | None
    notes: tuple[str, ...]
    array: Array
    delta: str = ""
    _derivation: Derivation | None = field(default=None, repr=False, compare=False)
    _node: Node | None = field(default=None, repr=False, compare=False)

    def line(self, index: Shape) -> Line:
        """The line of one entry; any entry can be asked for."""
        assert self._derivation is not None
        assert self._node is not None
        return self._derivation.line(self, self._node, index)

    def shortcut(self, index: Shape) -> Formula | None:
        """A shorter formula of the same number, where the chain's factors cancel."""
        assert self._derivation is not None
        assert self._node is not None
        return self._derivation.shortcut(self, self._node, index)

    def find(self, name: str) -> Iterator[Shape]:
        """Where the entry with this printed name, or its gradient, stands in the step."""
        assert self._derivation is not None
        assert self._node is not None
        printed = self._derivation.printed(self, self._node)
        for index in np.ndindex(self.shape):
            if printed.entry(index, self.shape) in (name, f"dL/d{name}"):
                yield index
                return

    def indices(self, limit: int) -> Iterator[Shape]:
        """The first entries, at most ``limit``."""
        for position, index in enumerate(np.ndindex(self.shape)):
            if position == limit:
                return
            yield index


class Derivation:
    """Makes the steps of a recording's last run."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.recording = names.recording
        self._checker: Checker | None = None
        self.steps = list(self._steps())

    # ------------------------------------------------------------------ the list

    def _steps(self) -> Iterator[Step]:
        recording = self.recording
        for node in steps_of(recording):
            if node is not recording.loss:
                yield self._forward(node)
        if recording.loss is None:
            return
        if recording.probability is not None:
            yield self._step(recording.probability, "loss", "probabilities", "softmax")
        yield self._step(recording.loss, "loss", "loss", recording.loss.op.name)
        for node in _backward_order(recording.cotangents):
            if node in self.names.forward and node.op.name not in VIEWS:
                if node in recording.locals:
                    yield self._local(node)
                yield self._backward(node)
        yield from self._updates()

    def _forward(self, node: Node) -> Step:
        name = (node.inputs[0] if node.op.name == "pick" else node).op.name
        rule = "weighted_sum" if name in ("convolution", "linear", "matmul") else "value"
        if name in ACTIVATIONS:
            rule = "activation"
        elif name == "dropout":
            rule = "dropout"
        elif name == "add" and self.names.forward[node].base == "z":
            rule = "weighted_sum"
        return self._step(node, "forward", rule, name if rule == "activation" else "")

    def _step(self, node: Node, phase: str, rule: str, function: str, **more: Any) -> Step:
        found = self.names.name(node)
        assert found is not None
        values = np.asarray(self.recording.value(node))
        formula = None
        if not _says_it_all(found, node.shape):
            opened = node.inputs[0] if node.op.name == "written" else node
            formula = entries.whole(self.names, opened, top=True)
        return Step(
            phase=phase,
            rule=rule,
            function=function,
            plain=found.plain,
            latex=found.latex,
            formula=formula,
            shape=node.shape,
            scope=node.scope,
            source=node.source,
            notes=self._notes(node),
            array=values,
            _derivation=self,
            _node=node,
            **more,
        )

    def _notes(self, node: Node) -> tuple[str, ...]:
        if not node.op.hazards:
            return ()
        arrays = [np.asarray(self.recording.value(child)) for child in node.inputs]
        return tuple(
            hazard.word for hazard in node.op.hazards if np.any(hazard.where(*arrays, **node.attrs))
        )

    def _local(self, node: Node) -> Step:
        return self._step(self.recording.locals[node], "backward", "local_derivative", "")

    def _backward(self, node: Node) -> Step:
        recording = self.recording
        name = self.names.forward[node].gradient()
        cotangent = recording.cotangents[node]
        values = np.asarray(recording.value(cotangent))
        formula = None
        if not _says_it_all(name, node.shape):
            formula = self._chained(node) or self._other_name(node)
            formula = formula or entries.whole(self.names, cotangent, top=True)
        rule, delta = "gradient", ""
        if node is recording.loss:
            rule = "chain_start"
        elif self.names.forward[node].base == "z":
            rule = "error_term"
            delta = "delta" + name.plain.removeprefix("dL/dz")
        return Step(
            phase="backward",
            rule=rule,
            function="",
            plain=name.plain,
            latex=name.latex,
            formula=formula,
            shape=node.shape,
            scope=node.scope,
            source=node.source,
            notes=(),
            array=values,
            delta=delta,
            _derivation=self,
            _node=node,
        )

    def _updates(self) -> Iterator[Step]:
        recording = self.recording
        parameters = recording.parameters
        for variable, node in recording.writes.items():
            if variable not in recording.graph.reads or variable in parameters:
                continue
            if node.ndim and node.dtype.kind == "f":
                yield self._step(fresh_value(node), "update", "optimizer_state", "")
        for variable, read in parameters.items():
            if variable in recording.writes:
                node = recording.writes[variable]
                with self._gradient_named(variable, read):
                    yield self._step(node, "update", "parameter_update", "")

    # ------------------------------------------------------------------ one entry

    def printed(self, step: Step, node: Node) -> Name:
        """The name that the entries of a step are printed under."""
        if step.phase == "backward" and step.rule != "local_derivative":
            return self.names.forward[node].gradient()
        found = self.names.name(node)
        assert found is not None
        return found

    def line(self, step: Step, node: Node, index: Shape) -> Line:
        """The line of one entry of a step."""
        if step.phase == "backward" and step.rule != "local_derivative":
            return self._gradient_line(step, node, index)
        if step.rule == "parameter_update":
            variable = node.attrs["variable"]
            read = self.recording.parameters.get(variable)
            with self._gradient_named(variable, read):
                return self._plain_line(step, node, index)
        return self._plain_line(step, node, index)

    def _plain_line(self, step: Step, node: Node, index: Shape) -> Line:
        found = self.printed(step, node)
        result = float(self.recording.value(node)[index])
        symbol = Symbol(
            found.entry(index, node.shape), found.entry_latex(index, node.shape), result
        )
        if node.op.name == "written":
            node = node.inputs[0]
        formula = entries.entry(self.names, node, index, top=True)
        return Line(symbol, formula, entries.opened(self.names, node, index), result)

    def _gradient_line(self, step: Step, node: Node, index: Shape) -> Line:
        recording = self.recording
        name = self.printed(step, node)
        cotangent = recording.cotangents[node]
        result = float(recording.value(cotangent)[index])
        symbol = Symbol(name.entry(index, node.shape), name.entry_latex(index, node.shape), result)
        if node is recording.loss:
            return Line(symbol, Number(1.0), Number(1.0), result)
        paths: tuple[Formula, ...] = ()
        formula = self._chained_entry(node, index)
        if formula is None and self._other_name(node) is not None:
            formula = self.names.symbol(cotangent, index)
        if formula is None:
            parts = _parts(cotangent, node)
            made = [entries.entry(self.names, p, index, top=p is cotangent) for p in parts]
            paths = tuple(made) if len(made) > 1 else ()
            formula = total(made)
        return Line(symbol, formula, formula, result, paths, self._check(node, index))

    def _check(self, node: Node, index: Shape) -> float:
        if self._checker is None:
            self._checker = Checker(self.recording)
        return self._checker(node, index)

    def _chained(self, node: Node) -> Formula | None:
        """dL/da * da/dz for whole tensors, where da/dz has a line of its own."""
        local = self.recording.locals.get(node)
        if local is None:
            return None
        above, below = self.names.whole(self._user_cotangent(node)), self.names.whole(local)
        if above is None or below is None:
            return None
        return apply("mul", above, below)

    def _chained_entry(self, node: Node, index: Shape) -> Formula | None:
        local = self.recording.locals.get(node)
        if local is None:
            return None
        above = self.names.symbol(self._user_cotangent(node), index)
        below = self.names.symbol(local, index)
        if above is None or below is None:
            return None
        return apply("mul", above, below)

    def _user_cotangent(self, node: Node) -> Node:
        user = next(user for user in self.recording.forward if node in user.inputs)
        return self.recording.cotangents[user]

    def _other_name(self, node: Node) -> Formula | None:
        """The name of the same cotangent further up the chain: dL/db is dL/dz."""
        cotangent = self.recording.cotangents[node]
        found = self.names.cotangents.get(cotangent)
        if found is None or found == self.names.forward[node].gradient():
            return None
        return self.names.whole(cotangent)

    def _gradient_named(self, variable: Variable, read: Node | None) -> _Override:
        """While a parameter's update is written, its gradient goes under its own name."""
        given: dict[Node, Any] = {}
        if read is not None and read in self.recording.cotangents:
            given[self.recording.cotangents[read]] = self.names.forward[read].gradient()
        return _Override(self.names, given)

    def shortcut(self, step: Step, node: Node, index: Shape) -> Formula | None:
        """a - y: what sigmoid with binary cross-entropy comes to, if it does so here."""
        recording = self.recording
        loss = recording.loss
        if loss is None or step.rule != "error_term":
            return None
        if loss.op.name != "binary_cross_entropy" or loss.inputs[0].op.name != "sigmoid":
            return None
        a, y = loss.inputs
        if a.inputs[0] is not node:
            return None
        left = entries.entry(self.names, a, index)
        right = entries.entry(self.names, y, index)
        formula = apply("sub", left, right)
        if loss.attrs["reduction"] == "mean":
            formula = apply("div", formula, Number(float(a.size)))
        exact = float(recording.value(recording.cotangents[node])[index])
        return formula if abs(value(formula) - exact) <= 1e-5 * max(1.0, abs(exact)) else None


def _says_it_all(name: Name, shape: Shape) -> bool:
    """Whether the entries alone show the rule: one number, or the weights of a single neuron."""
    return math.prod(shape) == 1 or (
        not (name.layer or name.batch or name.time) and sum(length > 1 for length in shape) < 2
    )


class _Override:
    """Names that hold inside a ``with`` block."""

    def __init__(self, names: Names, given: dict[Node, Any]) -> None:
        self._names, self._given = names, given

    def __enter__(self) -> None:
        self._before, self._names.override = self._names.override, self._given

    def __exit__(self, *_: object) -> None:
        self._names.override = self._before


def _backward_order(nodes: Iterable[Node]) -> Iterator[Node]:
    """From the loss back; the parameters of one layer in the order they are used: W, then b."""
    waiting: list[Node] = []
    for node in reversed(list(nodes)):
        if node.op.name == "read":
            waiting.insert(0, node)
            continue
        yield from waiting
        waiting = []
        yield node
    yield from waiting


def _parts(cotangent: Node, node: Node) -> list[Node]:
    """The cotangents that were added up because a value was used several times."""
    if cotangent.op.name == "add" and cotangent.origin is node:
        left, right = cotangent.inputs
        return [*_parts(left, node), right]
    return [cotangent]


def _symbols(formula: Formula) -> Iterator[Symbol]:
    if isinstance(formula, Symbol):
        yield formula
    elif isinstance(formula, Sum):
        for term in formula.terms:
            yield from _symbols(term)
    elif isinstance(formula, Apply):
        for arg in formula.args:
            yield from _symbols(arg)
