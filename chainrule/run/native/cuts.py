"""Convolutions with long rows, above all of sounds and series, cut into pieces that fit the cache.

A kernel copies some rows of the input into the thread's memory, and keeps its sums there. Where one
row is too long for that, the windows are cut into runs side by side; each run is a convolution of
the part of the input that it reaches. No sum changes its order.
"""

from __future__ import annotations

from chainrule.core.dtype import float32
from chainrule.core.graph import Graph, Node, derived_from
from chainrule.core.ops.convolution import CONVOLUTION, spread_length
from chainrule.core.ops.shape import concatenate, slice_
from chainrule.core.rewrite import rewritten
from chainrule.run.native.convolutions import COPY, axes, cut, is_wide
from chainrule.run.native.kernels.convolution import ROOM, ConvolutionSpec
from chainrule.run.native.program import Program
from chainrule.run.native.target import Target, host

_NOTHING = Program((), (), ())


def in_pieces(graph: Graph) -> Graph:
    """The same results; no convolution needs more of the thread's memory than there is."""
    given = frozenset(graph.inputs)
    target = host()

    def replace(node: Node) -> Node:
        is_direct = (
            node not in given and node.op.name == "convolution" and node.dtype == float32
            and node.size and node.inputs[0].size and node.inputs[1].size and not is_wide(node)
        )  # fmt: skip
        if not is_direct or _spec(node, target).room <= ROOM:
            return node
        with derived_from(node):
            return _pieces(node, target)

    return rewritten(graph, replace)


def _spec(node: Node, target: Target) -> ConvolutionSpec:
    """The kernel that the convolution would take."""
    w = node.inputs[1]
    outputs, channels = w.shape[0] // node.attrs["groups"], w.shape[1]
    rows, columns = axes(node)
    strip, depth = cut(node, channels, rows, columns, target.lanes)
    return ConvolutionSpec(
        channels, outputs, rows, columns, strip, depth, True, _NOTHING, target.lanes, target.panel,
        target.window_blocks,
    )  # fmt: skip


def _pieces(node: Node, target: Target) -> Node:
    """Runs of windows, as long as go into the second cache, and their results side by side."""
    total = node.shape[3]
    width = total
    while width > target.lanes:
        width = max(target.lanes, width // 2 // target.lanes * target.lanes)
        spec = _spec(_run(node, 0, width), target)
        if spec.sums <= COPY and spec.depth * spec.slab.size <= COPY:
            break
    runs = [_run(node, start, min(width, total - start)) for start in range(0, total, width)]
    return concatenate(runs, 3)


def _run(node: Node, start: int, count: int) -> Node:
    """``count`` windows of each row, from window ``start`` on."""
    x, w = node.inputs
    stride, low, dilation, spread = (
        node.attrs[name][1] for name in ("stride", "low", "dilation", "spread")
    )
    first = start * stride - low  # in the spread input
    last = first + (count - 1) * stride + (w.shape[3] - 1) * dilation
    length = x.shape[3]
    left = min(max(-(-first // spread), 0), length - 1)
    right = min(max(last // spread + 1, left + 1), length)
    part = slice_(x, (0, 0, 0, left), (*x.shape[:3], right))
    before = left * spread - first
    after = last + 1 - first - before - spread_length(right - left, spread)
    attrs = {
        **node.attrs,
        "low": (node.attrs["low"][0], before),
        "high": (node.attrs["high"][0], after),
    }
    return CONVOLUTION(part, w, **attrs)
