"""Products computed in other ways: turned, and with what follows done in registers; same bits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from forced import TARGETS, forced, runs_here

from chainrule.core.graph import Graph, Node, TensorType, Variable
from chainrule.core.op import input
from chainrule.core.ops import linear, shape
from chainrule.core.ops.arithmetic import maximum
from chainrule.run.native.kernels.gemm import GemmSpec
from chainrule.run.native.plan import Plan
from chainrule.run.native.task import Task
from chainrule.run.native.team import team

# Rows of x, rows of w, k: each turned for some processors, or light, or by rows.
SHAPES = [
    (16, 128, 784), (15, 77, 385), (64, 130, 40), (61, 150, 3), (32, 65, 768), (7, 31, 401),
    (4, 9, 17), (3, 6, 1), (64, 10, 128), (33, 5, 400),
    (1, 2, 40), (1, 1, 5), (2, 3, 400), (100, 70, 200), (53, 97, 450), (41, 131, 129),
    (130, 520, 384), (64, 130, 100),
]  # fmt: skip


def graph(m: int, n: int, k: int, along_k: bool, along_n: bool) -> Graph:
    """A product and what follows it.

    Args:
        along_k: the weights lie as layers keep them.
        along_n: what is subtracted at last lies as the product does.
    """
    sizes = (m, k), (n, k) if along_k else (k, n), (n,), (m, 1), (m, n) if along_n else (n, m), ()
    given = [input(TensorType(each, np.dtype(np.float32))) for each in sizes]
    x, w, row, column, last, rate = given
    product: Node = linear.matmul(x, shape.transpose(w) if along_k else w)
    y = maximum(product + row, 0.0) * column - (last if along_n else shape.transpose(last)) * rate
    return Graph(given, [y])


def keys_of(plan: Plan) -> list[GemmSpec]:
    specs = [task.spec for task in plan.tasks if isinstance(task, Task)]
    return [key for kind, key in specs if kind == "gemm"]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", TARGETS)
def test_the_bits_are_the_same_in_whatever_way(name: str) -> None:
    """On one thread and on two, fused and not."""
    if not runs_here(TARGETS[name]):
        pytest.skip("another family of processors")
    ways = set()
    with forced(TARGETS[name]):
        for m, n, k in SHAPES:
            rng = np.random.default_rng(m)
            sizes = (m, k), (n, k), (n,), (m, 1), (m, n), ()
            x, w, row, column, last, rate = (
                np.asarray(rng.standard_normal(size), np.float32) for size in sizes
            )
            found = []
            for along_k, along_n in itertools.product((False, True), repeat=2):
                made = graph(m, n, k, along_k, along_n)
                arrays = [
                    x, w if along_k else w.T.copy(), row, column,
                    last if along_n else last.T.copy(), rate,
                ]  # fmt: skip
                for fused in (True, False):
                    plan = Plan(made, fused)
                    (key,) = keys_of(plan)
                    ways |= {(key.turned, key.light, key.asks, key.by_rows)}
                    assert not (key.turned and not along_k)
                    assert not (key.light and fused and not along_n)
                    for threads in (1, 2):
                        team.set_threads(threads)
                        found += plan(arrays, [])
            for y in found:
                assert y.tobytes() == found[0].tobytes(), (m, n, k)
    yes, no = True, False
    long = {(no, yes, yes, no), (no, no, yes, no), (no, no, yes, yes)}
    usual = {(no, no, no, no), (yes, no, no, no), (no, yes, no, no)}
    assert ways == (usual | long if name == "avx512" else usual)


def test_weights_that_stay_are_packed_themselves() -> None:
    """In inference, once; so they are the ones to pack."""
    w = Variable(np.ones((128, 784), np.float32), "w")
    x = input(TensorType((16, 784), np.dtype(np.float32)))
    plan = Plan(Graph([x], [linear.matmul(x, shape.transpose(w.read()))]))
    assert not any(key.turned for key in keys_of(plan))
    assert [task.spec[0] for task in plan.prologue if isinstance(task, Task)] == ["pack_b"]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", TARGETS)
def test_a_gathered_product_has_the_bits_of_the_plain_one(name: str) -> None:
    """Of what lies along m, as in a weight's gradient, tiles of several panels pack their part."""
    if not runs_here(TARGETS[name]):
        pytest.skip("another family of processors")
    with forced(TARGETS[name]):
        for m, n, k in (
            (37, 300, 800),
            (300, 37, 385),
            (64, 64, 769),
            (5, 70, 1200),
            (26, 513, 768),
        ):
            rng = np.random.default_rng(m)
            x, w = (rng.standard_normal(size).astype(np.float32) for size in ((k, m), (k, n)))
            x_in, w_in = (input(TensorType(each.shape, each.dtype)) for each in (x, w))
            gathered = Plan(Graph([x_in, w_in], [linear.matmul(shape.transpose(x_in), w_in)]))
            assert {key.a for key in keys_of(gathered)} == {"gathered"}
            rows_in = input(TensorType((m, k), x.dtype))
            plain = Plan(Graph([rows_in, w_in], [linear.matmul(rows_in, w_in)]))
            assert "gathered" not in {key.a for key in keys_of(plain)}
            (expected,) = plain([x.T.copy(), w], [])
            np.testing.assert_allclose(expected, x.T.astype(np.float64) @ w, rtol=1e-3, atol=1e-3)
            for threads in (1, 2):
                team.set_threads(threads)
                (found,) = gathered([x, w], [])
                assert found.tobytes() == expected.tobytes(), (m, n, k, threads)
