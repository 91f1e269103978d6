"""Which name each node of a recording has: layers are counted, z, a, W, b, y, L are given out."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from chainrule.core.graph import Array, Node, Shape, Variable
from chainrule.core.simplify import node_key
from chainrule.explain.forward_names import ForwardNames, behind
from chainrule.explain.names import Name
from chainrule.explain.notation import Formula, Number, Symbol
from chainrule.explain.record import Recording

# Optimizer cells under the symbols of their papers.
_CELLS = {"lr": "eta", "momentum_buffer": "v", "exp_avg": "m", "exp_avg_sq": "s", "step": "t0"}


@dataclass
class Names:
    """Names of the nodes of a recording; also what formulas need to know of it.

    Attributes:
        forward: a name for every node with a step of its own, and for every leaf.
        cotangents: for each cotangent node the name it was met under first.
        local: names of derivatives like da/dz.
        override: names that hold for the moment, before all others.
    """

    recording: Recording
    forward: dict[Node, Name] = field(default_factory=dict)
    cotangents: dict[Node, Name] = field(default_factory=dict)
    local: dict[Node, Name] = field(default_factory=dict)
    override: dict[Node, Name] = field(default_factory=dict)
    _parts: dict[Hashable, Node] = field(default_factory=dict)

    # ------------------------------------------------------------------ context of entries

    def name(self, node: Node) -> Name | None:
        """The node's name, if it has one."""
        node = self._canonical(node)
        for names in (self.override, self.forward, self.cotangents, self.local):
            if node in names:
                return names[node]
        return None

    def _canonical(self, node: Node) -> Node:
        """The node of the forward part that stands for the same result."""
        if node.op.name == "pick":
            return self.recording.picks.get((node.inputs[0], node.attrs["index"]), node)
        return self._parts.get(node_key(node), node) if self._parts else node

    @contextmanager
    def results_of(self, call: Node, body: Sequence[Node]) -> Iterator[None]:
        """Inside, the parts of a function's body that are results of it go under their names."""
        before = self._parts
        picks = self.recording.picks
        self._parts = {
            node_key(part): picks[call, number]
            for number, part in enumerate(body)
            if (call, number) in picks
        }
        try:
            yield
        finally:
            self._parts = before

    def symbol(self, node: Node, index: Shape) -> Symbol | Number | None:
        """One entry as a symbol with its recorded value."""
        found = self.name(node)
        if found is None:
            return None
        if found.prefix and found.base == "L":
            return Number(1.0)  # dL/dL, the start of the chain, is not written on
        value = float(self.recording.value(node)[index])
        return Symbol(found.entry(index, node.shape), found.entry_latex(index, node.shape), value)

    def probability(self, node: Node, index: Shape) -> Symbol | None:
        """The entry of y-hat = softmax(z), where ``node`` computes the same once more."""
        y_hat = self.recording.probability
        if y_hat is None or node is y_hat or not _same_scores(node, y_hat):
            return None
        found = self.symbol(y_hat, index)
        return found if isinstance(found, Symbol) else None

    def truth(self, node: Node, index: Shape) -> Symbol | None:
        """The entry of one-hot y, where the node is the one-hot target of a cross-entropy."""
        if not _is_truth(node):
            return None
        name = Name("y", batch=node.ndim > 1)
        value = float(self.recording.value(node)[index])
        return Symbol(name.entry(index, node.shape), name.entry_latex(index, node.shape), value)

    def value(self, node: Node) -> Array:
        """The recorded array."""
        return self.recording.value(node)

    def whole(self, node: Node) -> Formula | None:
        """The node's name as a formula of a whole tensor."""
        found = self.name(node)
        y_hat = self.recording.probability
        if found is None and _is_truth(node):
            found = Name("y")
        elif found is None and y_hat is not None and _same_scores(node, y_hat):
            found = self.forward[y_hat]
        if found is None:
            return None
        if found.prefix and found.base == "L":
            return Number(1.0)
        return Symbol(found.plain, found.latex, float("nan"))

    # ------------------------------------------------------------------ leaves

    def leaves(self) -> Iterator[tuple[str, Node, Shape]]:
        """Every entry of the inputs, the target and the parameters: its plain name, node, place."""
        recording = self.recording
        nodes = [*recording.inputs, *([recording.target] if recording.target else [])]
        for node in (*nodes, *recording.parameters.values()):
            yield from self.entries(node)

    def entries(self, node: Node) -> Iterator[tuple[str, Node, Shape]]:
        """Every entry of one named node."""
        import numpy as np

        for index in np.ndindex(node.shape):
            yield self.forward[node].entry(index, node.shape), node, index


def _same_scores(node: Node, y_hat: Node) -> bool:
    """Whether a softmax (or its logarithm) is taken of the scores that y-hat is taken of."""
    return (
        node.op.name in ("softmax", "log_softmax")
        and node.inputs == y_hat.inputs
        and node.attrs == y_hat.attrs
    )


def _is_truth(node: Node) -> bool:
    """Whether the node is the one-hot target inside the gradient of a cross-entropy."""
    origin = node.origin
    if origin is None or origin.op.name != "cross_entropy":
        return False
    return node.op.name == "cast" and node.inputs[0].dtype.kind == "b"


def name_nodes(recording: Recording) -> Names:
    """Give out the names."""
    names = Names(recording)
    _name_inputs(names)
    ForwardNames(names).give()
    _name_cells(names)
    _name_gradients(names)
    return names


def _name_inputs(names: Names) -> None:
    recording = names.recording
    single = len(recording.inputs) == 1
    for number, node in enumerate(recording.inputs, 1):
        base = "x" if single else f"x{number}"
        names.forward[node] = Name(base, batch=node.ndim > 1)
    if recording.target is not None:
        target = recording.target
        batched = bool(recording.inputs) and recording.inputs[0].ndim > 1
        names.forward[target] = Name("y", batch=batched and target.ndim > 0)


def _name_cells(names: Names) -> None:
    """Variables that are left: further parameters, learning rate, moments."""
    recording = names.recording
    moments: dict[Variable, Name] = {}
    for variable, node in recording.parameters.items():
        if node not in names.forward:
            names.forward[node] = _cell_name(names, variable)
    if recording.optimizer is not None:
        for parameter, cells in recording.optimizer.moments().items():
            owner = names.forward[recording.graph.reads[parameter]]
            for cell, tensor in cells.items():
                base = f"{_CELLS.get(cell, cell)}_{owner.base}"
                moments[tensor.variable] = replace(owner, base=base)
    for variable, node in recording.graph.reads.items():
        if node not in names.forward:
            names.forward[node] = moments.get(variable) or _cell_name(names, variable)
    for variable, node in recording.writes.items():
        read = recording.graph.reads.get(variable)
        if read is None:
            continue
        names.forward[node] = names.forward[read]
        if variable not in recording.parameters:  # a new moment is used in the same step
            old = names.forward[read]
            names.forward[fresh_value(node)] = replace(old, base=_next(old.base))


def _next(base: str) -> str:
    """The symbol of a cell's new value: m' of m; the step's number counts from t - 1 to t."""
    return "t" if base == "t0" else f"{base}'"


def fresh_value(written: Node) -> Node:
    """The node that computes what a variable is given."""
    return behind(written.inputs[0])


def _cell_name(names: Names, variable: Variable) -> Name:
    *_, last = variable.name.split(".")
    base = _CELLS.get(last, last) or "p"
    taken = {name.base for name in names.forward.values()}
    if base not in taken:
        return Name(base)
    return next(Name(f"{base}{n}") for n in range(2, 10**6) if f"{base}{n}" not in taken)


def _name_gradients(names: Names) -> None:
    recording = names.recording
    # From the loss backwards: a node that only hands a cotangent on shows where it came from.
    for node in reversed(list(recording.cotangents)):
        if node in names.forward:
            names.cotangents.setdefault(recording.cotangents[node], names.forward[node].gradient())
    users: dict[Node, Node] = {}
    for node in recording.forward:
        for child in node.inputs:
            users[child] = node
    for node, local in recording.locals.items():
        if node in names.forward and users[node] in names.forward:
            top = names.forward[users[node]]
            names.local[local] = replace(
                names.forward[node], prefix=f"d{top.plain}/d", top=top.latex
            )
