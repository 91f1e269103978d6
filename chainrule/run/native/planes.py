"""Convolutions brought to two spatial axes, and sums cut so that they fuse.

No sum changes its order here: a sum over several runs of axes was always taken run by run.
"""

from __future__ import annotations

from chainrule.core.graph import Graph, Node, derived_from
from chainrule.core.ops.convolution import CONVOLUTION, spread_length, window_count
from chainrule.core.ops.reduction import SUM
from chainrule.core.ops.shape import concatenate, pad, permute, reshape, slice_
from chainrule.core.rewrite import rewritten
from chainrule.core.subgraph import with_subgraphs
from chainrule.run.native.cuts import in_pieces


def planed(graph: Graph) -> Graph:
    """The same results; every convolution has two spatial axes, every sum one run of axes."""
    given = frozenset(graph.inputs)

    def replace(node: Node) -> Node:
        if node in given:
            return node
        if node.op.name == "convolution" and node.ndim != 4:
            with derived_from(node):
                return _raised(node) if node.ndim < 4 else _lowered(node)
        if node.op.name == "sum":
            with derived_from(node):
                return _in_runs(node)
        return with_subgraphs(node, planed)

    return in_pieces(rewritten(graph, replace))


def _raised(node: Node) -> Node:
    """Spatial axes of length 1 put before."""
    x, w = node.inputs
    more = 4 - node.ndim
    attrs = {
        name: (*(0 if name in ("low", "high") else 1,) * more, *value)
        for name, value in node.attrs.items() if name != "groups"
    }  # fmt: skip
    x, w = (reshape(each, (*each.shape[:2], *(1,) * more, *each.shape[2:])) for each in (x, w))
    return reshape(CONVOLUTION(x, w, groups=node.attrs["groups"], **attrs), node.shape)


def _lowered(node: Node) -> Node:
    """The first spatial axis made part of batch and channels."""
    x, w = node.inputs
    attrs = {name: value for name, value in node.attrs.items() if name != "groups"}
    stride, low, high, dilation, spread = (
        attrs[name][0] for name in ("stride", "low", "high", "dilation", "spread")
    )
    batch, channels, length, *rest = x.shape
    kernel = w.shape[2]
    lead, tail = (0, 0), (0,) * len(rest)
    before, after = max(low, 0), max(high, 0)
    if before or after or spread > 1:
        inside = (0, 0, spread - 1, *tail)
        x = pad(x, (*lead, before, *tail), (*lead, after, *tail), inside)
    first = max(-low, 0)
    total = spread_length(length, spread) + low + high
    count = window_count(total, spread_length(kernel, dilation), stride)
    slices = []
    for k in range(kernel):
        start = first + k * dilation
        starts = (0, 0, start, *tail)
        stops = (batch, channels, start + (count - 1) * stride + 1, *rest)
        part = slice_(x, starts, stops, (1, 1, stride, *(1,) * len(rest)))
        slices.append(reshape(part, (batch, channels, 1, count, *rest)))
    windows = permute(concatenate(slices, 2), (0, 3, 1, 2, *range(4, 4 + len(rest))))
    windows = reshape(windows, (batch * count, channels * kernel, *rest))
    weights = reshape(w, (w.shape[0], w.shape[1] * kernel, *w.shape[3:]))
    inner = {name: value[1:] for name, value in attrs.items()}
    y = CONVOLUTION(windows, weights, groups=node.attrs["groups"], **inner)
    if y.ndim > 4:
        y = _lowered(y)
    y = reshape(y, (batch, count, *y.shape[1:]))
    return permute(y, (0, 2, 1, *range(3, y.ndim)))


def _in_runs(node: Node) -> Node:
    """A sum over several runs of neighbouring axes, the last run first."""
    (x,) = node.inputs
    dims: tuple[int, ...] = node.attrs["dims"]
    runs: list[list[int]] = []
    for dim in dims:
        if runs and runs[-1][-1] == dim - 1:
            runs[-1].append(dim)
        else:
            runs.append([dim])
    if len(runs) < 2:
        return node
    for run in reversed(runs):
        x = SUM(x, dims=tuple(run), keepdim=True)
    return x if node.attrs["keepdim"] else reshape(x, node.shape)
