"""Convolutions with long rows, above all of sounds and series, cut into pieces that fit the cache.

A kernel copies some rows of the input into the thread's memory, and keeps its sums there. Where one
row is too long for that, the windows are cut into runs side by side; each run is a convolution of
the part of the input that it reaches. No sum changes its order.
"""

from __future__ import annotations

import functools

from chainrule.core.dtype import float32
from chainrule.core.graph import Graph, Node, derived_from
from chainrule.core.ops.arithmetic import add
from chainrule.core.ops.convolution import CONVOLUTION, spread_length
from chainrule.core.ops.shape import concatenate, slice_
from chainrule.core.rewrite import rewritten
from chainrule.run.native.convolutions import COPY, axes, cut, is_wide
from chainrule.run.native.kernels.shapes import ROOM, ConvolutionSpec
from chainrule.run.native.program import Program
from chainrule.run.native.target import Target, host

_NOTHING = Program((), (), ())
# Entries of a row of a window, at most.
_TAPS = 1 << 14


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
    strip, depth = cut(node, channels, rows, columns, target)
    return ConvolutionSpec(
        channels, outputs, rows, columns, strip, depth, True, _NOTHING, target.lanes, target.panel,
        target.window_blocks,
    )  # fmt: skip


def _pieces(node: Node, target: Target) -> Node:
    """Runs of windows, as long as go into the second cache, and their results side by side.

    Windows that are too long themselves are cut first, and the results of their parts added.
    """
    taps = node.inputs[1].shape[3]
    if taps > _TAPS:
        parts = [
            _part(node, (0, node.shape[3]), (start, min(_TAPS, taps - start)))
            for start in range(0, taps, _TAPS)
        ]
        return functools.reduce(add, [_pieces(part, target) for part in parts])
    total = width = node.shape[3]
    while width > target.lanes:
        width = max(target.lanes, width // 2 // target.lanes * target.lanes)
        spec = _spec(_part(node, (0, width), (0, taps)), target)
        if spec.sums <= COPY and spec.depth * spec.slab.size <= COPY:
            break
    runs = [
        _part(node, (start, min(width, total - start)), (0, taps))
        for start in range(0, total, width)
    ]
    return concatenate(runs, 3)


def _part(node: Node, windows: tuple[int, int], taps: tuple[int, int]) -> Node:
    """Some windows of each row, and some entries of each: (first, how many)."""
    x, w = node.inputs
    stride, low, dilation, spread = (
        node.attrs[name][1] for name in ("stride", "low", "dilation", "spread")
    )
    if taps[1] < w.shape[3]:
        w = slice_(w, (0, 0, 0, taps[0]), (*w.shape[:3], sum(taps)))
    first = windows[0] * stride + taps[0] * dilation - low  # in the spread input
    last = first + (windows[1] - 1) * stride + (taps[1] - 1) * dilation
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
