"""Max pooling whose windows fill the plane: its gradient is part of the chains that follow."""

from __future__ import annotations

import numpy as np
import pytest
from forced import TARGETS, forced, runs_here
from test_random_graphs import in_small_tandems

from chainrule.core.grad import gradients
from chainrule.core.graph import Array, Graph, Node, Shape, TensorType
from chainrule.core.op import input
from chainrule.core.ops import pooling
from chainrule.core.ops.arithmetic import where
from chainrule.core.ops.convolution import convolution
from chainrule.core.ops.reduction import sum
from chainrule.core.ops.shape import reshape
from chainrule.run import interpreter
from chainrule.run.native.plan import Plan
from chainrule.run.native.task import Task
from chainrule.run.native.winners import side_by_side

RNG = np.random.default_rng(0)


def given_by(*shapes: Shape) -> tuple[list[Node], list[Array]]:
    """Inputs with many ties."""
    arrays = [np.round(RNG.standard_normal(shape) * 4).astype(np.float32) / 4 for shape in shapes]
    nodes = [input(TensorType(a.shape, a.dtype), f"x{i}") for i, a in enumerate(arrays)]
    return nodes, arrays


def normalised(y: Node, scale: Node) -> Node:
    """As by batch normalisation, and a leaky ReLU."""
    mean = sum(y, (0, 2, 3), keepdim=True) / (y.size / y.shape[1])
    apart = y - mean
    z = apart * reshape(scale, (1, -1, 1, 1))
    return where(z > 0.0, z, z * 0.1)


def block(shape: Shape, kernel: Shape) -> tuple[Graph, list[Array]]:
    """A normalisation, max pooling, a convolution, and all gradients."""
    nodes, arrays = given_by(shape, shape[1:2], (4, shape[1], 1, 1))
    y, _ = pooling.max_pool(normalised(nodes[0], nodes[1]), kernel, rank=2)
    z = convolution(y, nodes[2])
    loss = sum(z * z)
    return Graph(nodes, [y, loss, *gradients([loss], nodes)]), arrays


def pooled(graph: Graph) -> int:
    return [node.op.name for node in side_by_side(graph).nodes].count("window_max")


SHAPES: list[tuple[Shape, Shape]] = [
    ((2, 3, 16, 16), (2, 2)),
    ((3, 2, 8, 48), (2, 2)),
    ((2, 2, 6, 32), (3, 1)),
    ((2, 3, 5, 32), (1, 2)),
    ((1, 2, 144, 128), (2, 2)),  # a plane is summed in parts
    ((1, 1, 256, 96), (2, 2)),  # one plane in tiles
    ((2, 2, 20, 16), (4, 1)),
    ((2, 3, 6, 24), (2, 2)),  # vectors in two rows
    ((3, 5, 4, 34), (2, 2)),
    ((2, 3, 9, 31), (3, 1)),
    ((1, 2, 144, 120), (2, 2)),
    ((8, 16, 64, 64), (2, 2)),  # in tandem
]


@pytest.mark.parametrize(("shape", "kernel"), SHAPES)
def test_a_block_of_a_network(shape: Shape, kernel: Shape) -> None:
    graph, arrays = block(shape, kernel)
    assert pooled(graph) == 1
    found, apart = Plan(graph)(arrays, []), Plan(graph, fused=False)(arrays, [])
    expected = interpreter.prepare(graph)(arrays, [])
    for a, b, c in zip(found, apart, expected, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))
        np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-5 * np.abs(c).max())


@pytest.mark.parametrize("name", ["avx2", "sse2"])
def test_with_shorter_vectors(name: str) -> None:
    if not runs_here(TARGETS[name]):
        pytest.skip("another processor")
    with forced(TARGETS[name]):
        test_a_block_of_a_network((2, 3, 10, 24), (2, 2))


def test_neither_activations_nor_their_gradient_stand_in_memory() -> None:
    graph, arrays = block((8, 16, 64, 64), (2, 2))
    plan = Plan(graph)
    assert plan.memory < 1.5 * arrays[0].nbytes
    assert Plan(graph, fused=False).memory > 3 * arrays[0].nbytes


def test_what_is_pooled_may_be_stored_as_well() -> None:
    nodes, arrays = given_by((2, 3, 16, 32), (3,))
    z = normalised(nodes[0], nodes[1])
    y, _ = pooling.max_pool(z, 2, rank=2)
    graph = Graph(nodes, [z, y, *gradients([sum(y * y) + sum(z * z)], nodes)])
    found, apart = Plan(graph)(arrays, []), Plan(graph, fused=False)(arrays, [])
    for a, b, c in zip(found, apart, interpreter.prepare(graph)(arrays, []), strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))
        np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-5 * np.abs(c).max())


def test_what_is_no_number_wins() -> None:
    (x, g), arrays = given_by((1, 1, 6, 32), (1, 1, 3, 16))
    arrays[0][0, 0, 2, 3] = np.nan
    arrays[0][0, 0, 0, 4:6] = arrays[0][0, 0, 1, 4:6] = np.nan
    arrays[0][0, 0, 0, 10:14] = arrays[0][0, 0, 1, 10:14] = -np.inf
    y, _ = pooling.max_pool(x, 2, rank=2)
    graph = Graph([x, g], [y, *gradients([sum(y * g)], [x])])
    assert pooled(graph) == 1
    for a, b in zip(Plan(graph)(arrays, []), interpreter.prepare(graph)(arrays, []), strict=True):
        np.testing.assert_array_equal(a, b)


def test_places_that_somebody_asks_for() -> None:
    (x,), arrays = given_by((2, 3, 16, 16))
    y, place = pooling.max_pool(x, 2, rank=2)
    (dx,) = gradients([sum(y * y)], [x])
    graph = Graph([x], [y, place, dx])
    assert pooled(graph) == 0
    for a, b in zip(Plan(graph)(arrays, []), interpreter.prepare(graph)(arrays, []), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_joins_a_product_is_dense() -> None:
    """The gradient of pooling added to a convolution's result, whose kernel sees no windows."""
    nodes, arrays = given_by((2, 3, 16, 16), (3, 3, 1, 1), (2, 3, 8, 8))
    x, w, g = nodes
    y, _ = pooling.max_pool(x, 2, rank=2)
    (dx,) = gradients([sum(y * g)], [x])
    graph = Graph(nodes, [convolution(x, w) + dx])
    found, apart = Plan(graph)(arrays, []), Plan(graph, fused=False)(arrays, [])
    np.testing.assert_array_equal(found[0].view(np.uint32), apart[0].view(np.uint32))
    np.testing.assert_allclose(
        found[0], interpreter.prepare(graph)(arrays, [])[0], rtol=1e-5, atol=1e-5
    )


def test_stretched_neighbours() -> None:
    """Beside numbers per row or per column of a plane, and summed along both."""
    nodes, arrays = given_by((2, 3, 8, 32), (1, 1, 8, 1), (1, 1, 1, 32), (2, 3, 4, 16))
    x, rows, columns, g = nodes
    y, _ = pooling.max_pool(x, 2, rank=2)
    (dx,) = gradients([sum(y * g)], [x])
    graph = Graph(nodes, [sum(dx * rows, (2, 3)), sum(dx * columns, (2, 3)), dx * rows * columns])
    found, apart = Plan(graph)(arrays, []), Plan(graph, fused=False)(arrays, [])
    for a, b, c in zip(found, apart, interpreter.prepare(graph)(arrays, []), strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [2, 8, 9, 10, 16])
def test_gradients_of_weights_go_in_tandem_without_a_difference(batch: int) -> None:
    """A tile of theirs is some images; slices of a tandem are as many, or they stay apart."""
    nodes, arrays = given_by((batch, 5, 8, 16), (5,), (5, 5, 3, 3))
    z = normalised(convolution(nodes[0], nodes[2], padding=1), nodes[1])
    graph = Graph(nodes, gradients([sum(z * z * z)], nodes[1:]))
    found, apart = in_small_tandems(graph)(arrays, []), Plan(graph, fused=False)(arrays, [])
    for a, b in zip(found, apart, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


def test_the_gradient_of_a_weight_joins_what_makes_the_gradient_of_its_result() -> None:
    nodes, _ = given_by((16, 8, 32, 32), (16,), (16, 8, 3, 3))
    x, scale, w = nodes
    z = normalised(convolution(x, w, padding=1), scale)
    plan = Plan(Graph(nodes, gradients([sum(z * z)], nodes)))
    tandems = [
        [part.task.spec[0] for part in task.parts] for task in plan.tasks if isinstance(task, Task)
    ]
    assert any("wide_convolution" in names for names in tandems)
