"""A graph as an attribute of a node: the body of a loop.

Equal structure means equal: two subgraphs that compute the same are one key of every table, though
their nodes differ. They are closed: a value from outside comes in as an input.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chainrule.core.graph import Graph, Node, TensorType, kinds, walk

if TYPE_CHECKING:
    from chainrule.core.op import Op

# A subgraph made ready to run, as evaluations get it: arrays in, the outputs' arrays out.
Step = Callable[[Sequence[Any]], list[Any]]


class Subgraph(Graph):
    """A closed graph without variables, hashable by its structure.

    Attributes:
        inputs: placeholders, in the order in which values are handed in.
        outputs: the nodes whose values are wanted; one may stand several times.
    """

    def __init__(self, inputs: Sequence[Node], outputs: Sequence[Node]) -> None:
        super().__init__(inputs, outputs)

    @cached_property
    def types(self) -> tuple[TensorType, ...]:
        """The types of the outputs."""
        return tuple([node.tensor_type for node in self.outputs])

    @cached_property
    def key(self) -> Hashable:
        """Equal for subgraphs that compute the same bits; provenance plays no part."""
        number = {node: index for index, node in enumerate(self.inputs)}
        rows: list[Hashable] = [node.type for node in self.inputs]
        for node in self.nodes:
            if node in number:
                continue
            number[node] = len(number)
            children = tuple(number[child] for child in node.inputs)
            rows.append((node.op.name, children, exact_attrs(node.attrs)))
        return (tuple(rows), tuple(number[node] for node in self.outputs))

    @cached_property
    def _hash(self) -> int:
        return hash(self.key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Subgraph) and hash(self) == hash(other) and self.key == other.key

    def __repr__(self) -> str:
        return f"<{sum(1 for node in self.nodes if node.inputs)} nodes>"

    def changed(self, change: Callable[[Graph], Graph]) -> Subgraph:
        """The subgraph after a pass over graphs."""
        made = change(self)
        return Subgraph(made.inputs, made.outputs)


_kinds: dict[Hashable, int] = {}
_KINDS_KEPT = 10_000


def kind_of(node: Node) -> int:
    """A number that is the same for nodes with the same op and attributes.

    Keys made of numbers are hashed and compared in a moment.
    """
    if not node.kind:
        node.kind = kind(node.op, node.attrs)
    return node.kind


def kind(op: Op, attrs: Mapping[str, Any]) -> int:
    """The kind of nodes with this op and these attributes."""
    key = (op, exact_attrs(attrs))
    found = _kinds.get(key)
    if found is None:
        if len(_kinds) == _KINDS_KEPT:  # the numbers go on: none comes again for another kind
            _kinds.clear()
        found = _kinds[key] = next(kinds)
    return found


def exact_attrs(attrs: Mapping[str, Any]) -> Hashable:
    """Attributes as a key; floats by their digits, so that 0.0 and -0.0 differ; True is not 1."""
    items = sorted(attrs.items()) if len(attrs) > 1 else attrs.items()
    return tuple([(name, _exact(value)) for name, value in items])


def _exact(value: Hashable) -> Hashable:
    return (type(value), value.hex()) if isinstance(value, float) else (type(value), value)


def subgraphs(node: Node) -> Iterator[Subgraph]:
    """The subgraphs among a node's attributes."""
    return (value for value in node.attrs.values() if isinstance(value, Subgraph))


def with_subgraphs(node: Node, change: Callable[[Graph], Graph]) -> Node:
    """The node with every subgraph among its attributes put through a pass."""
    for value in node.attrs.values():  # most nodes have none: this is asked all the time
        if isinstance(value, Subgraph):
            break
    else:
        return node
    attrs = {
        name: value.changed(change) if isinstance(value, Subgraph) else value
        for name, value in node.attrs.items()
    }
    return node.with_attrs(attrs)


def copied(outputs: Sequence[Node], known: Mapping[Node, Node]) -> list[Node]:
    """The outputs again, on other leaves; what needed no gradient needs none."""
    done = dict(known)
    for node in walk(outputs, stop=known.__contains__):
        if node not in done:
            done[node] = node
            if node.inputs:
                done[node] = node.with_inputs(tuple(done[child] for child in node.inputs))
                done[node].needs_grad = node.needs_grad
    return [done[output] for output in outputs]


def placeholder(type: TensorType, name: str, needs_grad: bool = True) -> Node:
    """A fresh input of a subgraph."""
    from chainrule.core.op import input

    made = input(type, name)
    made.needs_grad = needs_grad and type.dtype.kind == "f"
    return made
