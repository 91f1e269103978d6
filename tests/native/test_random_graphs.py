"""Random graphs: fused and unfused give the same bits, and come near the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.core.graph import Array, Graph, Node, TensorType
from chainrule.core.op import input
from chainrule.core.ops import arithmetic as ops
from chainrule.core.ops import functions, linear, parts, reduction, shape
from chainrule.run import interpreter
from chainrule.run.native import asking, products, tandem
from chainrule.run.native.plan import Plan

UNARY = (ops.neg, ops.tanh, ops.abs, ops.sin, functions.relu, functions.sigmoid, functions.square)
BINARY = (ops.add, ops.sub, ops.mul, ops.maximum, ops.minimum)
LENGTHS = (0, 1, 2, 3, 5, 16, 17, 33)


class Builder:
    """A graph that grows by ops drawn at random."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        dims = draw(st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=3))
        count = draw(st.integers(1, 3))
        self.inputs = [
            input(TensorType(tuple(dims), np.dtype(np.float32)), f"x{i}") for i in range(count)
        ]
        self.nodes: list[Node] = list(self.inputs)

    def pick(self) -> Node:
        return self.draw(st.sampled_from(self.nodes))

    def grow(self) -> None:
        kind = self.draw(st.sampled_from(("unary", "binary", "where", "fold", "softmax", "view",
                                          "matmul", "join", "order")))  # fmt: skip
        x = self.pick()
        made = getattr(self, f"_{kind}")(x)
        if made is not None:
            self.nodes.append(made)

    def _unary(self, x: Node) -> Node:
        return self.draw(st.sampled_from(UNARY))(x)

    def _like(self, x: Node) -> Node:
        """A node whose shape stretches to that of x, or x."""
        fits = [y for y in self.nodes if _stretches(y.shape, x.shape)]
        return self.draw(st.sampled_from(fits))

    def _binary(self, x: Node) -> Node:
        return self.draw(st.sampled_from(BINARY))(x, self._like(x))

    def _where(self, x: Node) -> Node:
        y = self._like(x)
        return ops.where(ops.less(x, y), x * 0.5, y)

    def _fold(self, x: Node) -> Node | None:
        if not x.ndim:
            return None
        dims = self.draw(st.sets(st.integers(0, x.ndim - 1), min_size=1))
        keep = self.draw(st.booleans())
        if self.draw(st.booleans()) and x.size:
            return reduction.amax(x, tuple(dims), keep)
        return functions.mean(x, tuple(dims), keep) if x.size else None

    def _softmax(self, x: Node) -> Node | None:
        if not x.ndim or not x.size:
            return None
        dim = self.draw(st.integers(0, x.ndim - 1))
        return self.draw(st.sampled_from((functions.softmax, functions.log_softmax)))(x, dim)

    def _view(self, x: Node) -> Node:
        kind = self.draw(st.sampled_from(("permute", "flat", "flip", "slice", "unsqueeze")))
        if kind == "permute" and x.ndim > 1:
            return shape.permute(x, self.draw(st.permutations(range(x.ndim))))
        if kind == "flat":
            return shape.reshape(x, (x.size,))
        if kind == "flip" and x.ndim:
            return shape.flip(x, self.draw(st.integers(0, x.ndim - 1)))
        if kind == "slice" and x.ndim and all(x.shape):
            starts = tuple(self.draw(st.integers(0, n - 1)) for n in x.shape)
            steps = tuple(self.draw(st.integers(1, 2)) for _ in x.shape)
            return shape.slice_(x, starts, x.shape, steps)
        return shape.unsqueeze(x, self.draw(st.integers(0, x.ndim)))

    def _matmul(self, x: Node) -> Node | None:
        if x.ndim < 2:
            return None
        fits = [y for y in self.nodes if y.shape == x.shape]
        y = self.draw(st.sampled_from(fits))
        product = linear.matmul(x, shape.transpose(y))
        return product / max(x.shape[-1], 1)  # so that sizes stay near 1

    def _join(self, x: Node) -> Node | None:
        if not x.ndim:
            return None
        dim = self.draw(st.integers(0, x.ndim - 1))
        return shape.concatenate([x, self.draw(st.sampled_from(
            [y for y in self.nodes if y.shape == x.shape]
        ))], dim)  # fmt: skip

    def _order(self, x: Node) -> Node | None:
        """Sorted entries, or means of all entries so far."""
        if not x.ndim or not x.size:
            return None
        dim = self.draw(st.integers(0, x.ndim - 1))
        if self.draw(st.booleans()):
            return reduction.sort(x, dim, self.draw(st.booleans()))[0]
        return parts.cumsum(x, dim) / x.shape[dim]


def _stretches(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    tail = large[len(large) - len(small) :]
    return len(small) <= len(large) and all(a in (1, b) for a, b in zip(small, tail, strict=True))


@st.composite
def graphs(draw: Any) -> tuple[Graph, list[Array]]:
    builder = Builder(draw)
    for _ in range(draw(st.integers(2, 12))):
        builder.grow()
    outputs = list(draw(st.lists(st.sampled_from(builder.nodes), min_size=1, max_size=3)))
    outputs.append(builder.nodes[-1])
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    arrays = [rng.uniform(-1.5, 1.5, node.shape).astype(np.float32) for node in builder.inputs]
    return Graph(builder.inputs, outputs), arrays


@given(graphs())
@settings(max_examples=120)
def test_fused_is_unfused_and_near_the_interpreter(case: tuple[Graph, list[Array]]) -> None:
    graph, arrays = case
    found = Plan(graph)(arrays, [])
    apart = Plan(graph, fused=False)(arrays, [])
    expected = interpreter.prepare(graph)(arrays, [])
    for a, b, c in zip(found, apart, expected, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))
        # Sums of a few dozen terms of size 1 to 10, a dozen ops deep.
        np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-4)


def in_small_tandems(graph: Graph) -> Plan:
    """A plan whose tasks go in tandem however little passes from one to the other."""
    with pytest.MonkeyPatch.context() as patch:
        for name, least in {"_LEAST_BYTES": 1, "_LEAST_SLICE": 1, "_LEAST_SLICES": 2}.items():
            patch.setattr(tandem, name, least)
        patch.setattr(products, "_SLICE_ROWS", 1)
        patch.setattr(asking, "_LEAST", 1)
        return Plan(graph)


@given(graphs())
@settings(max_examples=300)
def test_small_tensors_go_in_tandem_without_a_difference(case: tuple[Graph, list[Array]]) -> None:
    graph, arrays = case
    found = in_small_tandems(graph)(arrays, [])
    apart = Plan(graph, fused=False)(arrays, [])
    for a, b in zip(found, apart, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


def test_a_product_of_a_matrix_with_itself() -> None:
    """It reads the matrix as rows, which could come slice by slice, and as a whole."""
    x = np.random.default_rng(0).standard_normal((2, 1)).astype(np.float32)
    node = input(TensorType(x.shape, x.dtype), "x")
    gram = linear.matmul(node, shape.transpose(node))
    square = linear.matmul(gram, shape.transpose(gram)) / 2
    graph = Graph([node], [linear.matmul(gram, shape.transpose(square))])
    (found,), (apart,) = in_small_tandems(graph)([x], []), Plan(graph, fused=False)([x], [])
    np.testing.assert_array_equal(found, apart)
