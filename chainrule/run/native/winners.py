"""Max pooling whose windows stand side by side: which entry of a window won, instead of where.

Such windows fill the plane. So the gradient of max pooling is no scatter: each place of the plane
looks at the one window it is in, and has that window's cotangent if it won it, else 0. What looks
is an op on single entries, and joins the chain that follows; the gradient need not stand in memory.
Pooling itself is the last step of the chain before it, whose values need not stand there either.

    dx[r, c] = dy[r // h, c // w]  if  winner[r // h, c // w] = (r % h) w + c % w,  else 0
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from chainrule.core.dtype import bool_, float32, uint8
from chainrule.core.graph import Graph, Node, Shape, TensorType, derived_from
from chainrule.core.op import Notation, Op, pick
from chainrule.core.ops.arithmetic import where
from chainrule.core.ops.shape import reshape
from chainrule.core.rewrite import replaced
from chainrule.run.native.target import host

# The code of a window looks at each of its entries; so many at most.
_MOST = 16


def _max_type(x: TensorType, *, kernel: Shape, **_: Shape) -> tuple[TensorType, TensorType]:
    shape = (*x.shape[:2], *(n // k for n, k in zip(x.shape[2:], kernel, strict=True)))
    return TensorType(shape, x.dtype), TensorType(shape, uint8)


def _dense_type(x: TensorType, *, kernel: Shape) -> TensorType:
    shape = (*x.shape[:2], *(n * k for n, k in zip(x.shape[2:], kernel, strict=True)))
    return TensorType(shape, bool_ if x.dtype == uint8 else x.dtype)


# Of every window the largest entry, and which one that is.
WINDOW_MAX = Op("window_max", _max_type, None, None, Notation.call("window_max"))
# At every place of the plane: the number of its window, and whether the place won the window.
AT_WINDOWS = Op("at_windows", _dense_type, None, None, Notation.call("at_windows"))
WON = Op("won", _dense_type, None, None, Notation.call("won"))
SPREAD = (AT_WINDOWS.name, WON.name)


def sees_windows(node: Node) -> bool:
    """Whether it reads what stands once per window; chains alone can do that."""
    return any(child.op.name in SPREAD for child in node.inputs)


def side_by_side(graph: Graph) -> Graph:
    """The graph with such pooling, where nobody asks for places but its own gradient."""
    users: dict[Node, list[Node]] = {node: [node] for node in graph.results}  # somebody outside
    for node in graph.nodes:
        for child in node.inputs:
            users.setdefault(child, []).append(node)
    pools = {node for node in graph.nodes if _has_windows(node) and _is_private(node, users)}
    if not pools:
        return graph

    def rule(node: Node, done: Mapping[Node, Node]) -> Node | None:
        with derived_from(node):
            if node in pools:
                return WINDOW_MAX(done[node.inputs[0]], **node.attrs)
            if node.op.name == "pick" and node.inputs[0] in pools:
                return pick(done[node.inputs[0]], node.attrs["index"])
            if node.op.name == "gather_add" and _pool_of(node.inputs[1]) in pools:
                return _gradient(node, done)
        return None

    return replaced(graph, rule)


def _has_windows(node: Node) -> bool:
    """Whether it is a max pooling whose windows fill planes, a row being a vector at least."""
    if node.op.name != "max_pool" or node.inputs[0].ndim != 4 or node.inputs[0].dtype != float32:
        return False
    kernel, lanes = node.attrs["kernel"], host().lanes
    *_, height, width = node.inputs[0].shape
    return (
        kernel == node.attrs["stride"]
        and math.prod(kernel) <= _MOST
        and kernel[1] <= 2
        and not any((*node.attrs["low"], *node.attrs["high"]))
        and set(node.attrs["dilation"]) == {1}
        and height % kernel[0] == width % kernel[1] == 0
        and width >= lanes
        and node.inputs[0].size > 0
    )


def _pool_of(index: Node) -> Node | None:
    """The pooling whose places these are."""
    while index.op.name == "reshape":
        (index,) = index.inputs
    is_place = index.op.name == "pick" and index.attrs["index"] == 1
    return index.inputs[0] if is_place else None


def _is_private(pool: Node, users: Mapping[Node, Sequence[Node]]) -> bool:
    """Whether its places are read by its own gradients alone."""
    (x,) = pool.inputs
    plane = (*x.shape[:2], math.prod(x.shape[2:]))

    def is_read_by_gradients(place: Node) -> bool:
        return all(
            is_read_by_gradients(user)
            if user.op.name == "reshape" and user is not place
            else user.op.name == "gather_add"
            and user.inputs[1] is place
            and user.attrs["dim"] == 2
            and user.shape == plane
            and place.shape[:2] == plane[:2]
            for user in users.get(place, ())
        )

    picks = [user for user in users.get(pool, ()) if user.op.name == "pick"]
    return all(each.attrs["index"] == 0 or is_read_by_gradients(each) for each in picks)


def _gradient(node: Node, done: Mapping[Node, Node]) -> Node:
    """The cotangents of the windows, at the places that won."""
    g, index = node.inputs
    pool = _pool_of(index)
    assert pool is not None
    kernel: Shape = pool.attrs["kernel"]
    winners = pick(done[pool], 1)
    dense = AT_WINDOWS(reshape(done[g], winners.shape), kernel=kernel)
    return reshape(where(WON(winners, kernel=kernel), dense, 0.0), node.shape)
