"""Convolutions of spread images, cut so that no inserted zero is multiplied.

An image whose entries are ``s`` apart, as in the gradient of a convolution with stride, meets only
every s-th entry of a kernel at any one place; which, depends on the place modulo s, its phase:

    y[r + s q] = sum over j of  w[k + s j] x[q + j + (r + k - low) / s],   k = (low - r) mod s

So each phase is a dense convolution with a part of the kernel, and the results take turns. Where
two such are added, as where a block's shortcut has the same stride, they are phase by phase.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from chainrule.core.graph import Graph, Node, derived_from
from chainrule.core.op import constant
from chainrule.core.ops.arithmetic import add
from chainrule.core.ops.convolution import CONVOLUTION
from chainrule.core.ops.shape import broadcast_to, concatenate, permute, reshape, slice_
from chainrule.core.rewrite import rewritten
from chainrule.core.subgraph import with_subgraphs

_SPREAD = 2


def dense(graph: Graph) -> Graph:
    """The graph with such convolutions cut into their phases; all have two spatial axes."""
    given = frozenset(graph.inputs)
    phases: dict[Node, list[Node]] = {}  # of what takes turns

    def replace(node: Node) -> Node:
        if node in given:
            return node
        if node.op.name == "convolution" and _has_phases(node):
            with derived_from(node):
                parts = _phases(node)
        elif node.op.name == "add" and all(child in phases for child in node.inputs):
            with derived_from(node):
                parts = list(map(add, *(phases[child] for child in node.inputs)))
        else:
            return with_subgraphs(node, dense)
        with derived_from(node):
            made = _in_turns(node, parts)
        phases[made] = parts
        return made

    return rewritten(graph, replace)


class _Phase(NamedTuple):
    """One axis at the places of a phase: the first entry of the kernel that counts, padding."""

    kernel: int
    low: int
    high: int


def _has_phases(node: Node) -> bool:
    at = node.attrs
    return (
        at["spread"] == (_SPREAD,) * 2 and at["stride"] == at["dilation"] == (1, 1)
        and not any(length % _SPREAD for length in node.shape[2:]) and node.size > 0
    )  # fmt: skip


def _phase(node: Node, axis: int, r: int) -> _Phase:
    x, w = node.inputs
    low = node.attrs["low"][axis]
    kernel = (low - r) % _SPREAD
    before = (low - r - kernel) // _SPREAD
    taps = -(-(w.shape[2 + axis] - kernel) // _SPREAD)
    count = node.shape[2 + axis] // _SPREAD
    return _Phase(kernel, before, count - 1 + taps - x.shape[2 + axis] - before)


def _phases(node: Node) -> list[Node]:
    """The results at the places of each phase."""
    counts = [length // _SPREAD for length in node.shape[2:]]
    axes = [[_phase(node, axis, r) for r in range(_SPREAD)] for axis in range(2)]
    return [_dense(node, counts, phases) for phases in itertools.product(*axes)]


def _in_turns(node: Node, parts: Sequence[Node]) -> Node:
    """The node's result, made of those of its phases."""
    batch, outputs, *_ = node.shape
    stacked = reshape(
        concatenate(parts, 1), (batch, _SPREAD, _SPREAD, outputs, *parts[0].shape[2:])
    )
    return reshape(permute(stacked, (0, 3, 4, 1, 5, 2)), node.shape)


def _dense(node: Node, counts: Sequence[int], phases: Sequence[_Phase]) -> Node:
    """The convolution at the places of one phase."""
    x, w = node.inputs
    kept = slice_(
        w, (0, 0, *(min(p.kernel, n) for p, n in zip(phases, w.shape[2:], strict=True))), w.shape,
        (1, 1, _SPREAD, _SPREAD),
    )  # fmt: skip
    if not kept.size:
        return broadcast_to(constant(0.0, x.dtype), (*node.shape[:2], *counts))
    attrs = {**node.attrs, "spread": (1, 1)}
    attrs |= {name: tuple(getattr(p, name) for p in phases) for name in ("low", "high")}
    return CONVOLUTION(x, kept, **attrs)
