"""Which name each node of a recording has: layers are counted, z, a, W, b, y, L are given out."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from chainrule.core.graph import Array, Node, Shape, TensorType, Variable
from chainrule.core.simplify import node_key
from chainrule.explain.names import Name
from chainrule.explain.notation import Formula, Number, Symbol
from chainrule.explain.record import VIEWS, Recording

# Functions that turn a pre-activation z into an activation a.
ACTIVATIONS = frozenset(
    {
        "elu",
        "gelu",
        "leaky_relu",
        "log_softmax",
        "relu",
        "sigmoid",
        "silu",
        "softmax",
        "softplus",
        "step",
        "tanh",
    }
)
# The results of functions that have several; "" goes on as if it were the only one.
_RESULTS: dict[str, tuple[str, ...]] = {
    "batch_norm": ("n", "mu", "var"),
    "group_norm": ("n", "mu", "var"),
    "gru_cell": ("h", "r", "z_g", "n_g"),
    "layer_norm": ("n", "mu", "var"),
    "lstm_cell": ("h", "c", "i", "f", "g", "o", "tanh_c"),
    "scaled_dot_product_attention": ("o", "A"),
}
# Parameters of functions that are no weighted sums, by the place among the inputs.
_ROLES: dict[str, dict[int, str]] = {
    "batch_norm": {1: "gamma", 2: "beta"},
    "batch_norm_inference": {3: "gamma", 4: "beta"},
    "group_norm": {1: "gamma", 2: "beta"},
    "layer_norm": {1: "gamma", 2: "beta"},
    "rms_norm": {1: "gamma"},
}
_PRODUCTS = ("convolution", "matmul")
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
    _name_layers(names)
    _name_cells(names)
    _name_gradients(names)
    return names


def steps_of(recording: Recording) -> list[Node]:
    """The forward nodes that compute something: each gets a step."""
    return [
        node
        for node in recording.forward
        if node.inputs
        and node not in recording.arrays
        and node.op.name not in VIEWS
        and isinstance(node.type, TensorType)
        and not node.op.name.startswith("random")
    ]


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


def _behind(node: Node) -> Node:
    """The node that views show."""
    while node.op.name in VIEWS and node.inputs:
        node = node.inputs[0]
    return node


def _is_parameter(node: Node) -> bool:
    return _behind(node).op.name == "read"


def _name_layers(names: Names) -> None:
    recording = names.recording
    steps = steps_of(recording)
    affine = [node for node in steps if node.op.name == "linear" or _weighs(node)]
    batched = bool(recording.inputs) and recording.inputs[0].ndim > 1
    layer = 0
    layer_of: dict[Node, int] = {}
    others = 0
    for node in steps:
        batch = batched and node.ndim > 0 and node.shape[0] == recording.inputs[0].shape[0]
        if node is recording.loss:
            names.forward[node] = Name("L")
            continue
        if node in affine:
            layer += 1
            number = layer if len(affine) > 1 else 0
            layer_of[node] = number
            _name_parameters(names, node, number)
            biased = node.op.name == "linear" or not _adds_bias(node, steps)
            names.forward[node] = Name("z" if biased else "s", number, batch)
            continue
        source = next((_behind(i) for i in node.inputs if _behind(i) in layer_of), None)
        if node.op.name == "add" and source is not None and any(map(_is_parameter, node.inputs)):
            layer_of[node] = layer_of[source]
            bias = next(_behind(i) for i in node.inputs if _is_parameter(i))
            names.forward.setdefault(bias, Name("b", layer_of[source]))
            names.forward[node] = Name("z", layer_of[source], batch)
        elif node.op.name in ACTIVATIONS and source is not None:
            taken = Name("a", layer_of[source], batch)
            if taken not in names.forward.values():
                names.forward[node] = taken
                layer_of[node] = layer_of[source]
        elif node.op.name == "dropout" and source is not None:
            taken = Name("d", layer_of[source], batch)
            if taken not in names.forward.values():
                names.forward[node] = taken
                layer_of[node] = layer_of[source]
        _name_roles(names, node, layer_of)
        if node.op.name == "pick":
            _name_result(names, node, layer_of, batch)
        if node not in names.forward:
            others += 1
            names.forward[node] = Name(f"u{others}", batch=batch)
    if recording.probability is not None:
        names.forward[recording.probability] = Name("y_hat", batch=recording.probability.ndim > 1)


def _name_roles(names: Names, node: Node, layer_of: dict[Node, int]) -> None:
    """gamma and beta of a normalisation."""
    call = node.inputs[0] if node.op.name == "pick" else node
    layer = next((layer_of[_behind(i)] for i in call.inputs if _behind(i) in layer_of), 0)
    for place, base in _ROLES.get(call.op.name, {}).items():
        parameter = _behind(call.inputs[place])
        if parameter.op.name == "read" and parameter not in names.forward:
            names.forward[parameter] = _untaken(names, Name(base, layer))


def _name_result(names: Names, node: Node, layer_of: dict[Node, int], batch: bool) -> None:
    """One result of a function with several, under the symbol that its paper gives it."""
    call, index = node.inputs[0], node.attrs["index"]
    base = _RESULTS.get(call.op.name, ())[index : index + 1]
    if not base or not base[0]:
        return
    layer = next((layer_of[_behind(i)] for i in call.inputs if _behind(i) in layer_of), 0)
    named = _untaken(names, Name(base[0], layer, batch))
    names.forward[node] = named
    if index == 0:
        layer_of[node] = layer


def _untaken(names: Names, name: Name) -> Name:
    """The name, its letter numbered if another node has it."""
    taken = set(names.forward.values())
    numbered = (replace(name, base=f"{name.base}{n}") for n in range(2, 10**6))
    return name if name not in taken else next(one for one in numbered if one not in taken)


def _weighs(node: Node) -> bool:
    """A matrix product, or a convolution, with a parameter."""
    return node.op.name in _PRODUCTS and any(map(_is_parameter, node.inputs))


def _adds_bias(node: Node, steps: list[Node]) -> bool:
    return any(
        user.op.name == "add"
        and any(_behind(i) is node for i in user.inputs)
        and any(map(_is_parameter, user.inputs))
        for user in steps
    )


def _name_parameters(names: Names, node: Node, layer: int) -> None:
    found = [_behind(child) for child in node.inputs if _is_parameter(child)]
    for parameter, base in zip(found, ("W", "b"), strict=False):
        names.forward.setdefault(parameter, Name(base, layer))


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
    return _behind(written.inputs[0])


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
