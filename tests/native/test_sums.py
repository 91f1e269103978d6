"""Long sums: in parts, near float64, the same bits on any threads and however fused."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.core.graph import Array, Graph, Node, TensorType
from chainrule.core.op import input
from chainrule.core.ops import functions, reduction, shape
from chainrule.core.ops.arithmetic import exp
from chainrule.run.native.plan import Plan
from chainrule.run.native.team import team

pytestmark = pytest.mark.usefixtures("threads")

SHAPES = [
    (100_003,), (16_384,), (16_385,), (3, 40_000), (2, 3, 20_001), (5000, 7), (3072, 40), (2049, 1),
    (300, 300), (4, 3000, 5),
]  # fmt: skip


def results(x: Node) -> list[Node]:
    made = [reduction.sum(x), reduction.amax(x), functions.mean(functions.square(x - 1))]
    for dim in range(x.ndim):
        made += [reduction.sum(x, dim), reduction.amax(exp(x), dim, keepdim=True)]
    if x.ndim > 1:
        turned = shape.transpose(x)
        made += [reduction.sum(turned, -1), functions.softmax(x, -1)]
    return made


def expected(x: Array) -> list[Array]:
    wide = x.astype(np.float64)
    made = [wide.sum(), wide.max(), np.square(wide - 1).mean()]
    for dim in range(x.ndim):
        made += [wide.sum(dim), np.exp(wide).max(dim, keepdims=True)]
    if x.ndim > 1:
        e = np.exp(wide - wide.max(-1, keepdims=True))
        made += [wide.swapaxes(-1, -2).sum(-1), e / e.sum(-1, keepdims=True)]
    return [np.asarray(array) for array in made]


@pytest.mark.parametrize("size", SHAPES)
def test_sums(size: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).uniform(0, 1, size).astype(np.float32)
    x = input(TensorType(size, array.dtype))
    graph = Graph([x], results(x))
    found = Plan(graph)([array], [])
    for a, b in zip(found, expected(array), strict=True):
        # All terms have one sign: a few dozen roundings, far fewer than terms.
        np.testing.assert_allclose(a, b, rtol=2e-6)
    team.set_threads(2)
    for again in (Plan(graph)([array], []), Plan(graph, fused=False)([array], [])):
        for a, b in zip(again, found, strict=True):
            assert a.tobytes() == b.tobytes()


def test_rows_of_few_vectors_and_of_more_are_summed_alike() -> None:
    """The first in registers, the others in a loop: zeros behind them change no bit."""
    array = np.random.default_rng(5).standard_normal((3, 128)).astype(np.float32)

    def centred(cols: int) -> Array:
        padded = np.concatenate([array, np.zeros((3, cols - 128), np.float32)], 1)
        x = input(TensorType(padded.shape, padded.dtype))
        mean = reduction.sum(x, -1, keepdim=True) * (1 / 128)
        y = (x - mean) * reduction.sum(functions.square(x), -1, keepdim=True)
        (found,) = Plan(Graph([x], [y]))([padded], [])
        return found[:, :128]

    assert centred(128).tobytes() == centred(256).tobytes() == centred(136).tobytes()


def test_a_long_sum_has_many_tiles() -> None:
    x = input(TensorType((1_000_000,), np.dtype(np.float32)))
    plan = Plan(Graph([x], [reduction.sum(exp(x))]))
    assert next(task.tiles for task in plan.tasks) > 30


def test_moments_are_taken_in_one_pass_and_keep_small_spreads() -> None:
    array = np.random.default_rng(0).normal(1000, 1, (5, 3, 40, 33)).astype(np.float32)
    x = input(TensorType(array.shape, array.dtype))
    mean = functions.mean(x, (0, 2, 3), keepdim=True)
    spread = functions.mean(functions.square(x - mean), (0, 2, 3), keepdim=True)
    plan = Plan(Graph([x], [mean, spread]))
    slot = plan.tasks[0].reads[0].slot
    assert sum(slot in [buffer.slot for buffer in task.reads] for task in plan.tasks) == 1
    wide = array.astype(np.float64)
    found = plan([array], [])
    # The mean is known to half a unit of 2^-14, which the squares hardly see.
    np.testing.assert_allclose(found[0], wide.mean((0, 2, 3), keepdims=True), rtol=2e-7)
    np.testing.assert_allclose(found[1], wide.var((0, 2, 3), keepdims=True), rtol=2e-6)
