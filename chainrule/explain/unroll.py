"""A loop written out, so that every time step has lines of its own.

``scan`` is one node whose body is the same graph at every step. For an explanation its steps are
laid side by side: the same weights are then used once a step, and the gradient of a weight is a sum
over time. Longer loops stay one node.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.core.graph import Node, derived_from, walk
from chainrule.core.ops.arithmetic import stop_gradient
from chainrule.core.ops.scan import steps
from chainrule.core.ops.shape import reshape, slice_, stack
from chainrule.core.rewrite import rebuild
from chainrule.core.subgraph import copied

# A loop with more steps than this is not written out.
LONGEST = 12


def unrolled(outputs: Sequence[Node]) -> tuple[list[Node], dict[Node, int]]:
    """The outputs with every short loop written out, and the time step of each new node, from 1."""
    times: dict[Node, int] = {}
    written: dict[Node, list[Node]] = {}

    def replace(node: Node) -> Node:
        if node.op.name == "scan" and node.attrs["length"] <= LONGEST:
            with derived_from(node):
                written[node] = _written_out(node, times)
        elif node.op.name == "pick" and node.inputs[0] in written:
            index: int = node.attrs["index"]
            return written[node.inputs[0]][index]
        return node

    return rebuild(outputs, replace), times


def _written_out(node: Node, times: dict[Node, int]) -> list[Node]:
    """The results of a loop: the last carries, then the stacked slices."""
    attrs = node.attrs
    body, carries, scanned = attrs["body"], attrs["carries"], attrs["scanned"]
    carry = list(node.inputs[:carries])
    xs = node.inputs[carries : carries + scanned]
    constants = node.inputs[carries + scanned :]
    slices: dict[int, list[Node]] = {}
    for order, t in enumerate(steps(attrs["length"], attrs["reverse"])):
        if attrs["truncate"] and order and order % attrs["truncate"] == 0:
            carry = [stop_gradient(value) for value in carry]
        given = [*carry, *(_at(x, t) for x in xs), *constants]
        made = copied(body.outputs, dict(zip(body.inputs, given, strict=True)))
        known = set(given)
        for new in walk(made, stop=known.__contains__):
            if new not in known and new.inputs:
                times[new] = t + 1
        carry, slices[t] = made[:carries], made[carries:]
    stacked = [
        stack([slices[t][k] for t in sorted(slices)]) for k in range(len(body.outputs) - carries)
    ]
    return [*carry, *stacked]


def _at(x: Node, t: int) -> Node:
    """The slice of one time step."""
    low, high = (t, *(0,) * (x.ndim - 1)), (t + 1, *x.shape[1:])
    return reshape(slice_(x, low, high), x.shape[1:])
