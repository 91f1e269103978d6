"""Derivatives that are computed in the forward part."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.core.dtype import float32
from chainrule.core.graph import Graph, Node, TensorType
from chainrule.core.op import input
from chainrule.core.ops import arithmetic as ops
from chainrule.core.ops.linear import matmul
from chainrule.core.ops.shape import transpose
from chainrule.run.native.fuse import Fusion
from chainrule.run.native.plan import Plan


def derivative() -> tuple[list[Node], Node, Node, Node]:
    """Inputs; a product z, an activation of it, and a later product by a derivative."""
    x, w, u = (input(TensorType((40, 40), float32), name) for name in "xwu")
    z = matmul(x, w)
    slope = ops.erf(z)
    y = ops.mul(z, slope)
    later = matmul(matmul(y, u), u)
    back = ops.mul(later, ops.add(slope, ops.mul(z, ops.exp(ops.mul(z, z)))))
    return [x, w, u], z, y, back


def stored(graph: Graph) -> int:
    return len(Fusion(graph).stored)


def test_one_tensor_is_stored_for_a_derivative() -> None:
    """y and the derivative, not y, z and the slope; then two products and the result."""
    inputs, _, y, back = derivative()
    assert stored(Graph(inputs, [y, back])) == 4
    assert len(Fusion(Graph(inputs, [y, back])).groups) == 3


def test_what_is_a_result_is_stored_anyway() -> None:
    """Nothing would be saved."""
    inputs, z, y, back = derivative()
    assert stored(Graph(inputs, [y, z, back])) == 5


@pytest.mark.parametrize("with_z", [False, True])
def test_bits_are_those_of_single_nodes(with_z: bool) -> None:
    inputs, z, y, back = derivative()
    graph = Graph(inputs, [y, back, z] if with_z else [y, back])
    numbers = np.random.default_rng(0)
    given = [numbers.normal(size=(40, 40)).astype(np.float32) * 0.1 for _ in inputs]
    for fused, single in zip(
        Plan(graph)(given, []), Plan(graph, fused=False)(given, []), strict=True
    ):
        assert np.array_equal(fused, single)


def test_no_group_is_left_without_nodes() -> None:
    """A view between the activation and its product keeps them apart."""
    x, w = (input(TensorType((40, 40), float32), name) for name in "xw")
    z = matmul(x, w)
    slope = ops.erf(z)
    y = matmul(transpose(ops.mul(z, slope)), w)
    fusion = Fusion(Graph([x, w], [y, ops.mul(ops.exp(z), slope)]))
    assert all(group.nodes or group.product for group in fusion.groups)
