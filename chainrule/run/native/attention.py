"""Attention found in a graph of primitives, and computed without its matrix of weights.

softmax(scale q k^T) v and its gradient are written in products, exponentials and sums, by the named
function or by a user. Where nobody else reads the weights, two kernels take their place. They keep
a number per query, the logarithm of its sum of exponentials, and make weights again a block at a
time. Source: Dao et al., "FlashAttention", 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chainrule.core.dtype import float32
from chainrule.core.graph import Graph, Node, TensorType, derived_from
from chainrule.core.op import Notation, Op, pick
from chainrule.core.ops.shape import transpose
from chainrule.core.rewrite import replaced
from chainrule.run.native.kernels.attention_parts import BLOCK, WIDEST, AttentionSpec
from chainrule.run.native.tandem import same_tiles, sliced
from chainrule.run.native.task import task
from chainrule.run.native.views import View, merged

if TYPE_CHECKING:
    from chainrule.run.native.lower import Lowering


def _forward_type(
    q: TensorType, k: TensorType, v: TensorType, **attrs: object
) -> tuple[TensorType, ...]:
    output = TensorType((*q.shape[:-1], v.shape[-1]), q.dtype)
    return output, TensorType(q.shape[:-1], q.dtype)


def _backward_type(
    q: TensorType, k: TensorType, v: TensorType, *rest: TensorType, **attrs: object
) -> tuple[TensorType, ...]:
    return q, k, v


# (q, k, v) to (y, log of the sum of exponentials); (q, k, v, y, that, dy) to (dq, dk, dv).
FORWARD = Op("attention", _forward_type, None, None, Notation.call("attention", "", 3), arity=3)
BACKWARD = Op(
    "attention_gradient", _backward_type, None, None,
    Notation.call("attention_gradient", "", 6), arity=6,
)  # fmt: skip


@dataclass(frozen=True)
class _Found:
    """One attention: what it is made of, and the nodes that are replaced.

    Attributes:
        k: the keys, turned.
        output: y.
        gradient: dy, if there is a backward part.
        results: the gradients of q, k and v.
    """

    q: Node
    k: Node
    v: Node
    scale: float
    causal: bool
    output: Node
    gradient: Node | None = None
    results: tuple[Node, ...] = ()


def attended(graph: Graph) -> Graph:
    """The graph with every attention as a node, and its gradient as another."""
    users: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        for child in dict.fromkeys(node.inputs):
            users.setdefault(child, []).append(node)
    for node in graph.results:
        users.setdefault(node, []).append(node)  # somebody outside
    found = [made for node in graph.nodes if (made := _match(node, users)) is not None]
    if not found:
        return graph
    parts: dict[Node, tuple[_Found, int]] = {}
    for each in found:
        parts[each.output] = each, -1
        parts |= {node: (each, index) for index, node in enumerate(each.results)}
    return _rebuilt(graph, parts)


def _rebuilt(graph: Graph, parts: Mapping[Node, tuple[_Found, int]]) -> Graph:
    forward: dict[Node, Node] = {}
    backward: dict[Node, Node] = {}

    def made(done: Mapping[Node, Node], each: _Found, index: int) -> Node:
        q, k, v = done[each.q], transpose(done[each.k]), done[each.v]
        if each.output not in forward:
            forward[each.output] = FORWARD(q, k, v, scale=each.scale, causal=each.causal)
        y = forward[each.output]
        if index < 0:
            return pick(y, 0)
        assert each.gradient is not None
        if each.output not in backward:
            inputs = q, k, v, pick(y, 0), pick(y, 1), done[each.gradient]
            backward[each.output] = BACKWARD(*inputs, scale=each.scale, causal=each.causal)
        return pick(backward[each.output], index)

    def rule(node: Node, done: Mapping[Node, Node]) -> Node | None:
        each, index = parts.get(node, (None, 0))
        if each is None or not done.keys() >= {each.q, each.k, each.v}:
            return None
        with derived_from(node):
            return made(done, each, index)

    # dV alone asks for none of them, and may come before what else does. Only where one attention's
    # operands follow from another's gradient may they still be missing: that one stays as it is.
    found = dict.fromkeys(each for each, _ in parts.values())
    return replaced(graph, rule, [x for each in found for x in (each.q, each.k, each.v)])


# ------------------------------------------------------------------------------ matching


def _match(node: Node, users: Mapping[Node, list[Node]]) -> _Found | None:
    """The attention whose result this is."""
    if node.op.name != "matmul" or node.dtype != float32 or 0 in node.shape:
        return None
    weights, v = node.inputs
    scores = _softmax_of(weights)
    if scores is None:
        return None
    causal = False
    if scores.op.name == "where":
        mask, inner, below = scores.inputs
        if not _is_causal(mask) or _number(below) != -math.inf:
            return None
        scores, causal = inner, True
    product, scale = _scaled(scores)
    if product.op.name != "matmul" or scale is None:
        return None
    q, k = product.inputs
    if max(q.shape[-1], v.shape[-1]) > WIDEST or 0 in q.shape:
        return None
    others = [user for user in users[weights] if user is not node]
    whole = _Found(q, k, v, scale, causal, node)
    return _with_gradient(whole, weights, others, users) if others else whole


def _with_gradient(
    found: _Found, weights: Node, others: list[Node], users: Mapping[Node, list[Node]]
) -> _Found | None:
    """The attention with its gradient; None where the weights are read in another way."""

    def only(node: Node) -> Node | None:
        return users[node][0] if len(users[node]) == 1 else None

    turned = [node for node in others if node.op.name == "permute" and _is_turned(node, weights)]
    products = [node for node in others if node.op.name == "mul"]
    if len(turned) != 1 or len(products) != 2 or len(others) != 3:
        return None
    dv = only(turned[0])
    if dv is None or dv.op.name != "matmul" or dv.inputs[0] is not turned[0]:
        return None
    gradient = dv.inputs[1]
    for dscores, term in (products, reversed(products)):
        if dscores.inputs[0] is not weights or dscores.inputs[1].op.name != "sub":
            continue
        dweights, row = dscores.inputs[1].inputs
        if term.inputs != (dweights, weights) or not _is_row_sum(row, term):
            continue
        raw = _without_zero(dweights)
        is_product = raw.op.name == "matmul" and raw.inputs[0] is gradient
        if not is_product or not _is_turned(raw.inputs[1], found.v):
            continue
        if len(users[term]) != 1 or len(users[dweights]) != 2:
            continue
        dq, dk = _from_scores(dscores, found, users)
        if dq is not None and dk is not None:
            return _Found(
                found.q, found.k, found.v, found.scale, found.causal, found.output, gradient,
                (dq, dk, dv),
            )  # fmt: skip
    return None


def _from_scores(
    dscores: Node, found: _Found, users: Mapping[Node, list[Node]]
) -> tuple[Node | None, Node | None]:
    """The gradients of queries and keys, from that of the scores."""
    dq = dk = None
    for user in users[dscores]:
        is_turned = user.op.name == "permute" and _is_turned(user, dscores)
        product = users[user][0] if is_turned and len(users[user]) == 1 else user
        if product.op.name != "matmul" or len(users[product]) != 1:
            return None, None
        result = users[product][0]
        inner, scale = _scaled(result)
        if inner is not product or scale != found.scale:
            return None, None
        left, right = product.inputs
        if left is dscores and _is_turned(right, found.k):
            dq = result
        elif left is user and right is found.q:
            dk = result
    return (dq, dk) if len(users[dscores]) == 2 else (None, None)


def _softmax_of(node: Node) -> Node | None:
    """x, if the node is exp(x - max) / sum along the last axis."""
    if node.op.name != "div":
        return None
    powers, row = node.inputs
    if powers.op.name != "exp" or not _is_row_sum(row, powers):
        return None
    (shifted,) = powers.inputs
    if shifted.op.name != "sub":
        return None
    x, highest = shifted.inputs
    return x if _is_row_sum(highest, x, "amax") else None


def _is_row_sum(node: Node, of: Node, op: str = "sum") -> bool:
    """Whether the node is the sum of each row, copied along the row."""
    if node.op.name != "broadcast_to" or node.inputs[0].op.name != op:
        return False
    fold = node.inputs[0]
    return fold.inputs[0] is of and fold.attrs["dims"] == (of.ndim - 1,) and fold.attrs["keepdim"]


def _number(node: Node) -> float | None:
    """The value of a constant, copied or not."""
    while node.op.name in ("broadcast_to", "reshape"):
        (node,) = node.inputs
    return float(node.attrs["value"]) if node.op.name == "constant" else None


def _scaled(node: Node) -> tuple[Node, float | None]:
    """x and c of x c; a node that is no such product is itself times 1."""
    if node.op.name != "mul":
        return node, 1.0
    return node.inputs[0], _number(node.inputs[1])


def _without_zero(node: Node) -> Node:
    """x of 0 + x."""
    is_sum = node.op.name == "add" and _number(node.inputs[0]) == 0
    return node.inputs[1] if is_sum else node


def _axes(node: Node) -> tuple[Node, tuple[int, ...]]:
    if node.op.name == "permute":
        return node.inputs[0], node.attrs["dims"]
    return node, tuple(range(node.ndim))


def _is_turned(a: Node, b: Node) -> bool:
    """Whether ``a`` shows ``b`` with its last two axes exchanged."""
    (base_a, dims_a), (base_b, dims_b) = _axes(a), _axes(b)
    return base_a is base_b and dims_a == (*dims_b[:-2], dims_b[-1], dims_b[-2])


def _is_causal(mask: Node) -> bool:
    """Whether it is true where the column is not larger than the row."""
    if mask.op.name == "broadcast_to":
        (mask,) = mask.inputs
    if mask.op.name != "less_equal" or mask.ndim != 2:
        return False
    columns, rows = (_counted(x) for x in mask.inputs)
    return columns == (1, mask.shape[1]) and rows == (mask.shape[0], 1)


def _counted(node: Node) -> tuple[int, ...]:
    """The shape of 0, 1, 2 ... before it was copied."""
    if node.op.name == "broadcast_to":
        (node,) = node.inputs
    inner = node.inputs[0] if node.op.name == "reshape" else node
    return node.shape if inner.op.name == "iota" else ()


# ------------------------------------------------------------------------------ lowering


def _forward(lowering: Lowering, node: Node) -> None:
    q, k, v = (_along_rows(lowering, child) for child in node.inputs)
    results = _places(lowering, node)
    high = -(-q.shape[-2] // BLOCK)
    _append(lowering, node, [q, k, v], results, high)


def _backward(lowering: Lowering, node: Node) -> None:
    q, k, v, y = (_along_rows(lowering, child) for child in node.inputs[:4])
    sums = lowering.packed(node.inputs[4])
    g = _along_rows(lowering, node.inputs[5])
    results = _places(lowering, node)
    _append(lowering, node, [q, k, v, y, sums, g], results, 1)


def _along_rows(lowering: Lowering, node: Node) -> View:
    """The operand, its last axis along memory."""
    view = lowering.view(node)
    return view if view.strides[-1] == 1 or view.shape[-1] == 1 else lowering.gathered(view)


def _places(lowering: Lowering, node: Node) -> list[View]:
    """Room for all results."""
    assert not isinstance(node.type, TensorType)
    picks = {each.attrs["index"]: each for each in lowering.fusion.picks.get(node, ())}
    return [
        _home(lowering, picks[index]) if index in picks else lowering.new(type)
        for index, type in enumerate(node.type)
    ]


def _home(lowering: Lowering, result: Node) -> View:
    """Where a result goes: so that it need not be moved for whoever reads it next.

    It is made in its place in a concatenation, or in the order of axes in which it is read: heads
    beside each other.
    """
    uses = lowering.fusion.uses.get(result, ())
    dims = {_order(use.child, result) for use in uses} - {None}
    if not lowering.has_place(result):
        if place := _in_whole(lowering, result):
            lowering.show(result, place)
        elif len(dims) == 1:
            (order,) = dims
            assert order is not None
            shape = tuple(result.shape[dim] for dim in order)
            if order[-1] == result.ndim - 1:
                back = [order.index(axis) for axis in range(result.ndim)]
                lowering.show(result, lowering.new(TensorType(shape, result.dtype)).permute(back))
    return lowering.home(result)


def _in_whole(lowering: Lowering, result: Node) -> View | None:
    """The place of a result in the concatenation that it is part of."""
    for use in lowering.fusion.uses.get(result, ()):
        whole, child = use.user, use.child
        if whole.op.name != "concatenate" or whole in lowering.states:
            continue
        place: View | None = lowering.slot(whole, whole.inputs.index(child))
        while place is not None and child is not result:  # as the result is before it is seen so
            (inner,) = child.inputs
            if child.op.name == "permute":
                dims: tuple[int, ...] = child.attrs["dims"]
                place = place.permute([dims.index(axis) for axis in range(len(dims))])
            else:
                place = place.reshape(inner.shape) if child.op.name == "reshape" else None
            child = inner
        if place is not None and place.strides[-1] == 1:
            return place
    return None


def _order(child: Node, result: Node) -> tuple[int, ...] | None:
    """How the axes of a result are exchanged on the way to a reader; None if it reads as it is."""
    while child is not result:
        if child.inputs[0] is result and child.op.name == "permute":
            dims: tuple[int, ...] = child.attrs["dims"]
            return dims
        (child,) = child.inputs
    return None


def _append(
    lowering: Lowering, node: Node, operands: list[View], results: list[View], high: int
) -> None:
    q, k, v = node.inputs[:3]
    target = lowering.target
    views = [*operands, *results]
    batch = q.shape[:-2]

    lengths, along = merged(batch, [view.strides[: len(batch)] for view in views])
    axes = max(len(lengths), 1)
    strides = [view.strides[-2] if len(view.shape) > len(batch) + 1 else 1 for view in views]
    numbers = [q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1], *lengths[1:]]
    for by_axis, stride in zip(along, strides, strict=True):
        numbers += [*(by_axis or (0,)), stride]
    lda = (strides[0], strides[5]) if len(operands) == 6 else (strides[1],)
    spec = AttentionSpec(
        node.attrs["scale"], node.attrs["causal"], lda, axes,
        target.lanes, target.panel, target.blocks,
    )  # fmt: skip
    tiles = math.prod(batch) * high
    made = task((node.op.name, spec), operands, results, numbers, tiles)
    if batch:
        sliced(made, views, batch[0], same_tiles(made))
    lowering.tasks.append(made)


ATTENTION: dict[str, Callable[[Lowering, Node], None]] = {
    "attention": _forward, "attention_gradient": _backward,
}  # fmt: skip
