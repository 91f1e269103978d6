"""What only graphs that write no variable allow: batch normalisation folded into what is before it.

Normalisation by running statistics, after a convolution or a linear layer, is one more linear map
per output channel. With weight W, bias b (0 if there is none), statistics mu and var, scale gamma
and shift beta,

    ((W x + b) - mu) / sqrt(var + eps) * gamma + beta = W' x + b'

    W' = W * (gamma / sqrt(var + eps))          for each output channel
    b' = (b - mu) * (gamma / sqrt(var + eps)) + beta

W' and b' follow from variables alone, so a plan computes them once per version of the variables.
The result differs from the unfolded one by rounding alone: every weight is rounded once more.

Source: Jacob et al., "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", 2018, section 3.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from chainrule.core.graph import Graph, Node, derived_from
from chainrule.core.ops.shape import broadcast_to, reshape
from chainrule.core.rewrite import replaced


def settled(graph: Graph) -> frozenset[Node]:
    """The nodes that follow from variables and constants alone."""
    given = frozenset(graph.inputs)
    found: set[Node] = set()
    for node in graph.nodes:
        if node not in given and node.op.name != "input" and found.issuperset(node.inputs):
            found.add(node)
    return frozenset(found)


def folded(graph: Graph) -> Graph:
    """The graph with each such normalisation folded, if nothing else reads what it normalises."""
    known = settled(graph)
    uses = Counter(graph.results)
    for node in graph.nodes:
        uses.update(node.inputs)

    def rule(node: Node, done: Mapping[Node, Node]) -> Node | None:
        found = _found(node, uses, known)
        if found is None:
            return None
        with derived_from(node):
            return _affine(found, done)

    return replaced(graph, rule)


class _Norm(NamedTuple):
    """A normalised product, in parts.

    Attributes:
        product: a convolution, or a product of two matrices.
        shift, scale, mean: beta, 1 / sqrt(var + eps), and mu.
        weight: gamma, or None for 1.
        bias: what is added to the product, or None.
    """

    product: Node
    shift: Node
    scale: Node
    mean: Node
    weight: Node | None
    bias: Node | None


def _found(node: Node, uses: Counter[Node], known: Collection[Node]) -> _Norm | None:
    """The parts of a normalisation that ends in this node; None if it is something else.

    It is ``(x - mean) * scale * weight + shift``, the last factor left out where it is 1.
    """

    def opened(x: Node, op: str) -> tuple[Node, Node] | None:
        """What an op does a number per channel to, and that number."""
        if x.op.name != op or x.ndim < 2 or not _is_per_channel(x.inputs[1], known):
            return None
        return (x.inputs[0], x.inputs[1]) if uses[x] == 1 or x is node else None

    shifted = opened(node, "add")
    scaled = shifted and opened(shifted[0], "mul")
    if not shifted or not scaled:
        return None
    before = opened(scaled[0], "mul")
    centred = opened((before or scaled)[0], "sub")
    if not centred or not _is_reciprocal_root((before or scaled)[1]):
        return None
    weight = scaled[1] if before else None
    product, bias = opened(centred[0], "add") or (centred[0], None)
    is_linear = product.op.name == "convolution" or (
        product.op.name == "matmul" and product.ndim == 2
    )
    if not is_linear or uses[product] != 1 or product.inputs[1] not in known or product in known:
        return None
    return _Norm(product, shifted[1], (before or scaled)[1], centred[1], weight, bias)


def _is_per_channel(number: Node, known: Collection[Node]) -> bool:
    """Whether it is settled, and the same along all axes but that of the channels, the second."""
    inner = _unstretched(number)
    lead = number.ndim - inner.ndim
    is_same = all(n == 1 for axis, n in enumerate(inner.shape, lead) if axis != 1)
    return is_same and number in known


def _unstretched(number: Node) -> Node:
    return number.inputs[0] if number.op.name == "broadcast_to" else number


def _is_reciprocal_root(number: Node) -> bool:
    """Whether it is 1 / sqrt(...), stretched."""
    while number.op.name in ("broadcast_to", "reshape"):
        (number,) = number.inputs
    return number.op.name == "div" and number.inputs[1].op.name == "sqrt"


def _affine(norm: _Norm, done: Mapping[Node, Node]) -> Node:
    """W' x + b', on the parts as they are in another graph."""
    product = done[norm.product]
    x, w = product.inputs
    channels = product.shape[1]

    def numbers(part: Node) -> Node:
        """One per channel."""
        inner = _unstretched(done[part])
        return broadcast_to(reshape(inner, (inner.size,)), (channels,))

    factor = numbers(norm.scale)
    if norm.weight is not None:
        factor = numbers(norm.weight) * factor
    offset = -numbers(norm.mean)
    if norm.bias is not None:
        offset = numbers(norm.bias) + offset
    offset = offset * factor + numbers(norm.shift)
    along = [1] * w.ndim
    along[0 if product.op.name == "convolution" else 1] = channels
    product = product.with_inputs((x, w * reshape(factor, tuple(along))))
    return product + reshape(offset, (1, channels, *[1] * (product.ndim - 2)))
