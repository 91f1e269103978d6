"""Names of the quantities of the forward part: layers are counted, z, a, d, n, h ... given out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from chainrule.core.graph import Node, TensorType
from chainrule.explain.names import Name
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
RESULTS: dict[str, tuple[str, ...]] = {
    "batch_norm": ("n", "mu", "var"),
    "group_norm": ("n", "mu", "var"),
    "gru_cell": ("h", "r", "z_g", "n_g"),
    "layer_norm": ("n", "mu", "var"),
    "lstm_cell": ("h", "c", "i", "f", "g", "o", "tanh_c"),
    "scaled_dot_product_attention": ("o", "A"),
}
# Parameters of functions that are no weighted sums, by the place among the inputs.
ROLES: dict[str, dict[int, str]] = {
    "batch_norm": {1: "gamma", 2: "beta"},
    "batch_norm_inference": {3: "gamma", 4: "beta"},
    "group_norm": {1: "gamma", 2: "beta"},
    "layer_norm": {1: "gamma", 2: "beta"},
    "rms_norm": {1: "gamma"},
    "embedding": {1: "E"},
    "take": {0: "E"},
}
_PRODUCTS = ("convolution", "matmul")


class Names(Protocol):
    """Where the names are kept."""

    recording: Recording
    forward: dict[Node, Name]


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


def behind(node: Node) -> Node:
    """The node that views show."""
    while node.op.name in VIEWS and node.inputs:
        node = node.inputs[0]
    return node


def _is_parameter(node: Node) -> bool:
    return behind(node).op.name == "read"


class ForwardNames:
    """Gives a name to every node of the forward part that has a step, and to its parameters."""

    def __init__(self, names: Names) -> None:
        self._recording = names.recording
        self._names = names.forward
        self._taken = set(names.forward.values())
        self._steps = steps_of(names.recording)
        self._layer_of: dict[Node, int] = {}
        self._others = 0
        # One layer for each set of parameters, however often it is used, in the program's order.
        sets = [self._parameters(node) for node in self._steps if _is_affine(node)]
        sets.sort(key=lambda parameters: [node.serial for node in parameters])
        numbers = {key: number for number, key in enumerate(dict.fromkeys(sets), 1)}
        self._number = numbers if len(numbers) > 1 else dict.fromkeys(numbers, 0)

        # What attention calls its inputs.
        self._role_of = {
            behind(child): base
            for node in names.recording.forward
            if node.op.name == "scaled_dot_product_attention"
            for child, base in zip(node.inputs, "qkv", strict=False)
        }

    def give(self) -> None:
        """Go through the steps in order."""
        for node in self._steps:
            name = self._name(node)
            self._names[node] = name
            self._taken.add(name)
        y_hat = self._recording.probability
        if y_hat is not None:
            self._names[y_hat] = Name("y_hat", batch=y_hat.ndim > 1)

    def _name(self, node: Node) -> Name:
        if node is self._recording.loss:
            return Name("L")
        if _is_affine(node):
            return self._affine(node)
        self._roles(node)
        layers = [self._layer_of[b] for b in self._sources(node) if b in self._layer_of]
        base = self._base(node, layers)
        if base:
            # The sum of two weighted sums, as in a recurrence, belongs to neither of the layers.
            layer = layers[0] if len(set(layers)) == 1 else 0
            named = self._named(base, node, layer)
            if named not in self._taken or node.op.name == "pick":
                self._layer_of[node] = layer
                return self._untaken(named)
        self._others += 1
        return self._named(f"u{self._others}", node, 0)

    def _affine(self, node: Node) -> Name:
        """A weighted sum; its weights are W, its bias is b."""
        number = self._number[self._parameters(node)]
        self._layer_of[node] = number
        for parameter, base in zip(self._parameters(node), ("W", "b"), strict=False):
            self._names.setdefault(parameter, Name(base, number))
        base = self._role_of.get(node, "z")
        if base == "z" and node.op.name != "linear" and self._bias_follows(node):
            base = "s"
        return self._untaken(self._named(base, node, number))

    def _base(self, node: Node, layers: list[int]) -> str:
        """The letter of a function of a layer's values; "" where there is none."""
        if node.op.name == "pick":
            results = RESULTS.get(node.inputs[0].op.name, ())
            return results[node.attrs["index"]] if results else ""
        if not layers:
            return ""
        bias = next((behind(i) for i in node.inputs if _is_parameter(i)), None)
        if node.op.name == "add" and bias is not None:
            self._names.setdefault(bias, self._untaken(Name("b", layers[0])))
            return self._role_of.get(node, "z")
        if node in self._recording.times:
            return "z" if len(layers) > 1 else "h" if node.op.name in ACTIVATIONS else ""
        if node.op.name == "dropout":
            return "d"
        return "a" if node.op.name in ACTIVATIONS else ""

    def _named(self, base: str, node: Node, layer: int) -> Name:
        inputs = self._recording.inputs
        batched = bool(inputs) and inputs[0].ndim > 1 and node.ndim > 0
        batch = batched and node.shape[0] == inputs[0].shape[0]
        return Name(base, layer, batch, self._recording.times.get(node, 0))

    def _untaken(self, name: Name) -> Name:
        """The name, its letter numbered if another node has it."""
        number = 1
        named = name
        while named in self._taken:
            number += 1
            named = replace(name, base=f"{name.base}{number}")
        return named

    def _roles(self, node: Node) -> None:
        """Parameters that are no weights: gamma and beta of a normalisation."""
        call = node.inputs[0] if node.op.name == "pick" else node
        layer = next((self._layer_of[b] for b in self._sources(node) if b in self._layer_of), 0)
        for place, base in ROLES.get(call.op.name, {}).items():
            parameter = behind(call.inputs[place])
            if parameter.op.name == "read" and parameter not in self._names:
                self._names[parameter] = self._untaken(Name(base, layer))
                self._taken.add(self._names[parameter])

    def _parameters(self, node: Node) -> tuple[Node, ...]:
        return tuple(behind(child) for child in node.inputs if _is_parameter(child))

    def _sources(self, node: Node) -> Iterator[Node]:
        """The nodes that a node, or the function whose result it is, is computed from."""
        call = node.inputs[0] if node.op.name == "pick" else node
        return map(behind, call.inputs)

    def _bias_follows(self, node: Node) -> bool:
        return any(
            user.op.name == "add"
            and any(behind(i) is node for i in user.inputs)
            and any(map(_is_parameter, user.inputs))
            for user in self._steps
        )


def _is_affine(node: Node) -> bool:
    """A weighted sum with parameters: a linear map, a matrix product, a convolution."""
    if node.op.name == "linear":
        return True
    return node.op.name in _PRODUCTS and any(map(_is_parameter, node.inputs))
