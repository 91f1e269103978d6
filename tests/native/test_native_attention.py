"""Attention without its matrix of weights, against the same written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from chainrule.core.dtype import float32
from chainrule.core.grad import gradients
from chainrule.core.graph import Graph, Node, TensorType
from chainrule.core.op import input
from chainrule.core.ops.attention import attention
from chainrule.core.ops.linear import MATMUL
from chainrule.core.ops.shape import permute, reshape, slice_
from chainrule.run import interpreter
from chainrule.run.native.plan import Plan
from chainrule.run.native.task import Task
from chainrule.run.native.team import team

pytestmark = pytest.mark.usefixtures("threads")


def kernels(plan: Plan) -> list[str]:
    return [task.spec[0] for task in plan.tasks if isinstance(task, Task)]


def heads(x: Node) -> Node:
    """(batch, length, heads, width) to (batch, heads, length, width)."""
    return permute(x, (0, 2, 1, 3))


def graph_of(queries: int, keys: int, width: int, values: int, causal: bool) -> Graph:
    """y, dq, dk, dv for two samples of three heads."""
    shapes = [(2, queries, 3, width), (2, keys, 3, width), (2, keys, 3, values)]
    q, k, v = (input(TensorType(shape, float32), f"x{i}") for i, shape in enumerate(shapes))
    g = input(TensorType((2, 3, queries, values), float32), "g")
    for node in (q, k, v):
        node.needs_grad = True
    y, _ = attention(heads(q), heads(k), heads(v), causal=causal)
    found = gradients([y], [q, k, v], [g])
    return Graph([q, k, v, g], [y, *(node for node in found if node is not None)])


CASES = [
    (1, 2, 2, 1), (3, 5, 2, 4), (64, 64, 32, 32), (65, 63, 7, 33), (150, 97, 40, 24),
    (97, 150, 256, 64), (200, 200, 16, 5),
]  # fmt: skip


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", CASES)
def test_it_is_the_same(sizes: tuple[int, int, int, int], causal: bool) -> None:
    graph = graph_of(*sizes, causal)
    plan = Plan(graph)
    made = kernels(plan)
    assert made.count("attention") == made.count("attention_gradient") == 1
    assert "gemm" not in made
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(node.shape).astype(np.float32) for node in graph.inputs]
    expected = interpreter.prepare(graph)(arrays, [])
    for found, wanted in zip(plan(arrays, []), expected, strict=True):
        # Sums of some 200 terms of size 1 are rounded 200 times.
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)


def test_forward_alone() -> None:
    graph = graph_of(70, 70, 8, 8, True)
    graph = Graph(graph.inputs, graph.outputs[:1])
    plan = Plan(graph)
    assert kernels(plan) == ["attention"]
    arrays = [np.random.default_rng(1).random(n.shape).astype(np.float32) for n in graph.inputs]
    (expected,) = interpreter.prepare(graph)(arrays, [])
    np.testing.assert_allclose(plan(arrays, [])[0], expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))])
def test_results_in_any_order(order: tuple[int, ...]) -> None:
    """dv asks for neither v nor y, and may come by before them."""
    graph = graph_of(33, 33, 8, 8, True)
    graph = Graph(graph.inputs, [graph.outputs[index] for index in order])
    plan = Plan(graph)
    assert {"attention", "attention_gradient", "rows"}.issuperset(kernels(plan))
    arrays = [np.random.default_rng(1).random(n.shape).astype(np.float32) for n in graph.inputs]
    expected = interpreter.prepare(graph)(arrays, [])
    for found, wanted in zip(plan(arrays, []), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)


def test_no_matrix_of_weights_stands_in_memory() -> None:
    plan = Plan(graph_of(2048, 2048, 16, 16, True))
    assert plan.memory < 2048 * 2048


def test_bits_do_not_depend_on_threads() -> None:
    graph = graph_of(150, 97, 40, 24, False)
    arrays = [np.random.default_rng(1).random(n.shape).astype(np.float32) for n in graph.inputs]
    found = set()
    for count in (1, 2, 3):
        team.set_threads(count)
        found.add(b"".join(array.tobytes() for array in Plan(graph)(arrays, [])))
    assert len(found) == 1


def test_large_scores_nan_and_infinity() -> None:
    graph = graph_of(70, 70, 4, 4, False)
    graph = Graph(graph.inputs, graph.outputs[:1])
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal(n.shape).astype(np.float32) * 30 for n in graph.inputs]
    arrays[0][0, 3, 0, 0] = np.nan
    arrays[0][1, 5, 1, 2] = np.inf
    with np.errstate(invalid="ignore"):
        (expected,) = interpreter.prepare(graph)(arrays, [])
    (found,) = Plan(graph)(arrays, [])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_weights_that_somebody_reads_are_made() -> None:
    x = input(TensorType((2, 3, 4), float32), "x")
    y, weights = attention(x, x, x)
    plan = Plan(Graph([x], [y, weights]))
    assert "attention" not in kernels(plan)


def test_another_use_of_the_weights() -> None:
    """The pattern of the gradient, but for a product more."""
    x = input(TensorType((2, 3, 4), float32), "x")
    y, weights = attention(x, x, x)
    graph = Graph([x], [y, MATMUL(weights, x) * 2.0, weights * weights])
    array = np.random.default_rng(3).standard_normal((2, 3, 4)).astype(np.float32)
    for found, wanted in zip(
        Plan(graph)([array], []), interpreter.prepare(graph)([array], []), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_gradients_of_slices_are_set_side_by_side() -> None:
    """As of queries, keys and values in one product; -0 becomes 0, as in the sum with zeros."""
    x = input(TensorType((2, 6, 70), float32), "x")
    x.needs_grad = True
    bounds = [(0, 1), (1, 4), (4, 6)]
    parts = [slice_(x, (0, low, 0), (2, high, 70)) for low, high in bounds]
    seeds = [input(part.tensor_type, "g") for part in parts]
    (found,) = gradients(parts, [x], seeds)
    assert found is not None
    graph = Graph(seeds, [found])
    arrays = [np.full(seed.shape, -0.0, np.float32) for seed in seeds]
    arrays[1][0] = np.arange(210).reshape(3, 70)
    plan = Plan(graph)
    assert len(plan.tasks) <= len(parts)
    (wanted,) = interpreter.prepare(graph)(arrays, [])
    assert plan(arrays, [])[0].tobytes() == wanted.tobytes()


def test_gradients_are_made_side_by_side() -> None:
    """Queries, keys and values are slices of one array: their gradients are parts of its own."""
    x = input(TensorType((2, 70, 3 * 3 * 8), float32), "x")
    g = input(TensorType((2, 3, 70, 8), float32), "g")
    x.needs_grad = True
    parts = [slice_(x, (0, 0, i * 24), (2, 70, (i + 1) * 24)) for i in range(3)]
    y, _ = attention(*(heads(reshape(part, (2, 70, 3, 8))) for part in parts), causal=True)
    (found,) = gradients([y], [x], [g])
    assert found is not None
    plan = Plan(Graph([x, g], [y, found]))
    assert kernels(plan) == ["attention", "attention_gradient"]
    rng = np.random.default_rng(4)
    arrays = [rng.standard_normal(node.shape).astype(np.float32) for node in (x, g)]
    arrays[1][0] = -0.0
    _, wanted = interpreter.prepare(plan.graph)(arrays, [])
    _, made = plan(arrays, [])
    np.testing.assert_allclose(made, wanted, rtol=2e-5, atol=1e-5)
    assert not np.signbit(made[0]).any()
