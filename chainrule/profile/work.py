"""How many floating-point operations a node is: a fact of its op and shapes, whoever runs it.

A product and a sum are one each, so is a comparison and a function such as ``exp``. Moving data is
none. What a kernel computes again is not counted twice, what a mask throws away is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from chainrule.core.graph import Node, TensorType, walk
from chainrule.core.op import Op, input

# Ops that only move data, or make it without arithmetic.
_MOVES = frozenset({
    "argmax", "broadcast_to", "concatenate", "constant", "flip", "gather", "input", "iota",
    "pad", "permute", "pick", "put", "read", "reshape", "slice", "sort", "stop_gradient", "take",
    "written",
})  # fmt: skip


def flops(node: Node) -> float:
    """Operations of one node."""
    name = node.op.name
    if name in _MOVES:
        return 0.0
    sizes = [type.size for type in _types(node)]
    shapes = [child.shape for child in node.inputs if isinstance(child.type, TensorType)]
    if name == "matmul":
        return 2.0 * sizes[0] * shapes[0][-1]
    if name == "convolution":
        zeros: int = math.prod(node.attrs["spread"])  # products with the zeros between entries
        return 2.0 * sizes[0] * math.prod(shapes[1][1:]) / zeros
    if name in ("attention", "attention_gradient"):  # two products of matrices, or four
        products = 2 if name == "attention" else 4
        return products * 2.0 * math.prod(shapes[0]) * shapes[1][-2]
    if name in ("max_pool", "window_max", "adaptive_max_pool"):
        return float(math.prod(shapes[0]))
    if name in ("sum", "amax", "cumsum", "take_add", "gather_add"):
        return float(max(map(math.prod, shapes), default=0))
    if name == "scan":
        body: Any = node.attrs["body"]
        length: int = node.attrs["length"]
        return length * total_flops(body.nodes)
    if node.op.body is not None:
        types = tuple(child.type for child in node.inputs)
        if all(isinstance(type, TensorType) for type in types):
            return _body_flops(node.op, types, tuple(node.attrs.items()))
    return float(sum(sizes))


def total_flops(nodes: Iterable[Node]) -> float:
    """Operations of several nodes."""
    return sum(map(flops, nodes))


def nbytes(node: Node) -> float:
    """Bytes of a node's results."""
    return float(sum(type.size * type.dtype.itemsize for type in _types(node)))


def _types(node: Node) -> tuple[TensorType, ...]:
    return (node.type,) if isinstance(node.type, TensorType) else node.type


@lru_cache(maxsize=1024)
def _body_flops(op: Op, types: tuple[TensorType, ...], attrs: tuple[tuple[str, Any], ...]) -> float:
    """Operations of a named function: those of its body."""
    assert op.body is not None
    made = op.body(*[input(type, "x") for type in types], **dict(attrs))
    return total_flops(walk(made if isinstance(made, tuple) else (made,)))
