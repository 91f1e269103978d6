"""Sorting, running sums, whole powers, and maxima over windows of any shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from oracle import input_nodes

from chainrule.core.graph import Array, Graph, Node
from chainrule.core.ops.arithmetic import pow
from chainrule.core.ops.parts import cumsum
from chainrule.core.ops.pooling import adaptive_max_pool, max_pool
from chainrule.core.ops.reduction import sort
from chainrule.run import interpreter
from chainrule.run.native.plan import Plan
from chainrule.run.native.team import team

Build = Callable[..., Sequence[Node]]


def assert_same(build: Build, *arrays: Array) -> None:
    """The same bits as on the interpreter."""
    nodes = input_nodes(arrays)
    graph = Graph(nodes, list(build(*nodes)))
    with np.errstate(all="ignore"):
        expected = interpreter.prepare(graph)(arrays, [])
    for a, b in zip(Plan(graph)(arrays, []), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def numbers(dtype: str, *shape: int, seed: int = 0) -> Array:
    """Many ties; floats with NaN, infinities, both zeros and subnormal numbers among them."""
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, -1e-42, 3e38]
        usual = rng.standard_normal(shape).round(1)
        return np.where(rng.random(shape) < 0.4, rng.choice(odd, shape), usual).astype(dtype)
    info = np.iinfo(dtype)
    ends = rng.choice(np.array([info.min, info.max, 0, 1], dtype), shape)
    return np.where(rng.random(shape) < 0.2, ends, rng.integers(0, 50, shape).astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64", "uint8", "uint32"])
@pytest.mark.parametrize("descending", [False, True])
def test_sort(dtype: str, descending: bool) -> None:
    """Stable, at every length up to some merges and at some far from a power of 2."""
    for length in (*range(35), 100, 1000, 4097):
        x = numbers(dtype, 2, length, 3, seed=length)
        assert_same(lambda node: sort(node, 1, descending), x)


def test_sort_of_a_long_row_and_of_many_rows(threads: None) -> None:
    for shape in ((300_001,), (5000, 7)):
        x = numbers("float32", *shape)
        for count in (1, 3):
            team.set_threads(count)
            assert_same(lambda node: sort(node, -1), x)


@pytest.mark.parametrize("shape", [(1,), (1000,), (3, 50), (50, 3), (4, 50, 21), (2, 0), (0, 2)])
def test_cumsum(shape: tuple[int, ...]) -> None:
    """Each entry is rounded once, however long the row."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for dim in range(x.ndim):
        nodes = input_nodes([x])
        (found,) = Plan(Graph(nodes, [cumsum(nodes[0], dim)]))([x], [])
        exact = np.cumsum(x.astype(np.float64), dim)
        np.testing.assert_allclose(found, exact, rtol=6e-8, atol=1e-14)
    assert_same(lambda node: [cumsum(node, -1)], numbers("int64", *shape))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "uint32"])
def test_whole_powers(dtype: str) -> None:
    """In the type's own range."""
    base = numbers(dtype, 500)
    exponent = np.random.default_rng(1).integers(0, 70, 500).astype(dtype)
    assert_same(lambda a, b: [pow(a, b)], base, exponent)


def test_whole_powers_below_zero() -> None:
    """1 / a^n cut off, as in PyTorch."""
    base, exponent = np.array([2, 1, -1, -1, -3, 0]), np.array([-1, -5, -2, -3, -1, -1])
    nodes = input_nodes([base, exponent])
    (found,) = Plan(Graph(nodes, [pow(*nodes)]))([base, exponent], [])
    assert found.tolist() == [0, 1, 1, -1, 0, 0]


POOLS: list[tuple[tuple[int, ...], Any, Any, Any, Any, bool]] = [
    ((2, 3, 7, 9, 11), 3, 2, 1, 1, False),
    ((2, 3, 7, 9, 11), 2, 2, 0, 1, True),
    ((1, 2, 9, 9, 9), 3, 1, 1, 2, False),
    ((1, 1, 5, 5, 5), (2, 3, 1), (1, 2, 3), (1, 1, 0), (2, 1, 1), True),
    ((1, 2, 3, 4, 5, 6), 2, 1, 1, 1, False),
]


@pytest.mark.parametrize(("shape", "kernel", "stride", "padding", "dilation", "ceil"), POOLS)
def test_max_pool_along_three_axes_and_more(
    shape: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
) -> None:
    """Values and places; windows of nothing but -inf have their place inside."""
    x = numbers("float32", *shape)
    x = np.where(np.abs(x) < 1e-40, np.float32(0), x)  # subnormal numbers may flush

    def build(node: Node) -> Sequence[Node]:
        return max_pool(node, kernel, stride, padding, dilation, ceil, rank=len(shape) - 2)

    assert_same(build, x)
    assert_same(build, np.full(shape, -np.inf, np.float32))


@pytest.mark.parametrize(
    ("shape", "size"), [((2, 3, 7), 4), ((2, 3, 7, 5), (3, 4)), ((2, 1, 7, 5, 6), (3, 2, 4)),
                        ((1, 1, 3), 7), ((40, 50, 11, 13), (3, 3)), ((0, 2, 5), 3)],
)  # fmt: skip
def test_adaptive_max_pool(shape: tuple[int, ...], size: Any) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert_same(lambda node: adaptive_max_pool(node, size, rank=len(shape) - 2), x)
