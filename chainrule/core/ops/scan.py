"""A loop as one node: the same small graph at every step (decision 13).

``c[t+1], y[t] = body(c[t], x[t], k)``: ``c`` is carried from step to step, ``x`` is read and ``y``
is written one slice a step, ``k`` are constants of the loop. The graph does not grow with the
number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.graph import Array, Node, ResultType, TensorType
from chainrule.core.op import Joint, Notation, Op, register, results
from chainrule.core.subgraph import Step, Subgraph
from chainrule.errors import ShapeError


def _type(
    *types: TensorType, body: Subgraph, carries: int, scanned: int, length: int, **_: Any
) -> ResultType:
    if length < 1:
        raise ShapeError(op="scan", expected="at least one step", got=length)
    per_step = [
        TensorType((length, *node.shape), node.dtype) if carries <= i < carries + scanned
        else node.tensor_type
        for i, node in enumerate(body.inputs)
    ]  # fmt: skip
    if list(types) != per_step:
        raise ShapeError(
            op="scan", expected=" ".join(map(str, per_step)), got=" ".join(map(str, types))
        )
    for node, hole in zip(body.outputs, body.inputs[:carries], strict=False):
        if node.type != hole.type:
            raise ShapeError(op="scan", expected=f"the carry to stay {hole.type}", got=node.type)
    return (
        *(node.tensor_type for node in body.outputs[:carries]),
        *(TensorType((length, *node.shape), node.dtype) for node in body.outputs[carries:]),
    )


def steps(length: int, reverse: bool) -> range:
    """The slices in the order in which the loop meets them."""
    return range(length)[::-1] if reverse else range(length)


def _evaluate(
    *arrays: Array,
    body: Step,
    carries: int,
    scanned: int,
    length: int,
    reverse: bool,
    truncate: int | None,
) -> tuple[Array, ...]:
    carry = list(arrays[:carries])
    xs, constants = arrays[carries : carries + scanned], arrays[carries + scanned :]
    ys: list[Array] = []
    for t in steps(length, reverse):
        made = body([*carry, *[x[t] for x in xs], *constants])
        carry, slices = made[:carries], made[carries:]
        ys = ys or [np.empty((length, *part.shape), part.dtype) for part in slices]
        for y, part in zip(ys, slices, strict=True):
            y[t] = part
    return (*carry, *ys)


def _rule(g: Sequence[Node], y: Sequence[Node], *inputs: Node, **attrs: Any) -> list[Node | None]:
    from chainrule.core.scan_gradient import cotangents

    return cotangents(g, y, inputs, **attrs)


SCAN = register(
    Op(
        "scan",
        _type,
        _evaluate,
        Joint(_rule),
        Notation("scan({body})", r"\operatorname{{scan}}({body})"),
        arity=None,
    )
)


def scan(
    body: Subgraph,
    init: Sequence[Node],
    xs: Sequence[Node],
    constants: Sequence[Node],
    *,
    length: int,
    reverse: bool = False,
    truncate: int | None = None,
) -> tuple[Node, ...]:
    """The carry after the last step, then every ``y`` with its slices stacked.

    Args:
        body: its inputs are the carries, a slice of each of ``xs``, the constants; its outputs the
            next carries, then a slice of each ``y``.
        init: the carries before the first step.
        xs: arrays with ``length`` slices along their first axis.
        constants: the same at every step.
        length: number of steps.
        reverse: from the last slice to the first; ``y`` stays in the order of ``xs``.
        truncate: the carry's cotangent stops at every so many steps: each group of steps is
            differentiated as if the carry it starts from were data.
    """
    made = SCAN(
        *init,
        *xs,
        *constants,
        body=body,
        carries=len(init),
        scanned=len(xs),
        length=length,
        reverse=reverse,
        truncate=truncate,
    )
    return results(made)
