"""Uncompiled programs: graphs of one structure share a plan, small ones stay on the interpreter."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from steps import batches

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.graph import Graph, Node, TensorType, Variable, scope
from chainrule.core.op import input
from chainrule.core.ops import functions, linear, shape
from chainrule.core.ops.arithmetic import exp
from chainrule.errors import IndexRangeError
from chainrule.run import interpreter
from chainrule.run import native as engine
from chainrule.run.native import eager, jit

F32 = np.dtype(np.float32)
SHAPE = (300, 300)


@pytest.fixture(autouse=True)
def nothing_planned() -> Iterator[None]:
    eager._plans.clear()
    yield
    eager._plans.clear()


def made(factor: float = 2.0, name: str = "v") -> Graph:
    x = input(TensorType(SHAPE, F32), "x", np.ones(SHAPE, F32))
    cell = Variable(np.ones(SHAPE, F32), name)
    read = cell.read()
    return Graph([x], [exp(x) * factor], {cell: read + x})


def test_structure_looks_at_all_but_data_and_names() -> None:
    keys = [eager.structure(made()), eager.structure(made(name="w")), eager.structure(made(3.0))]
    assert keys[0] == keys[1] != keys[2]
    assert eager.structure(made(0.0)) != eager.structure(made(-0.0))


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations(["ab", "ba", "aa", "a0"], 2))
)  # fmt: skip
def test_structure_tells_the_operands_apart(one: str, other: str) -> None:
    def graph(word: str) -> Graph:
        x, y = (input(TensorType(SHAPE, F32), name) for name in "ab")
        named: dict[str, Node] = {"a": x, "b": y, "0": shape.full(SHAPE, 0, F32)}
        return Graph([x, y], [named[word[0]] - named[word[1]]])

    assert eager.structure(graph(one)) != eager.structure(graph(other))
    assert eager.structure(graph(one)) == eager.structure(graph(one))


def test_graphs_of_one_structure_share_a_plan() -> None:
    first, second = engine.prepare_once(made()), engine.prepare_once(made())
    assert isinstance(first, eager.SharedPlan)
    assert first.plan is second.plan
    x = np.full(SHAPE, 0.5, F32)
    outputs = second([x], [x])
    np.testing.assert_allclose(outputs[0], 2 * np.exp(x), rtol=1e-6)
    np.testing.assert_array_equal(outputs[1], 2 * x)


def test_a_plan_keeps_no_data() -> None:
    x = input(TensorType(SHAPE, F32), "x", np.ones(SHAPE, F32))
    data = weakref.ref(x)
    engine.prepare_once(Graph([x], [exp(x)]))
    del x
    gc.collect()
    assert data() is None
    assert len(eager._plans) == 1


def test_plans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "_PLANS_KEPT", 3)
    for factor in range(5):
        engine.prepare_once(made(factor))
    assert len(eager._plans) == 3


def test_little_work_stays_on_the_interpreter() -> None:
    x, y = (input(TensorType((8, 16), F32)) for _ in range(2))
    assert isinstance(engine.prepare_once(Graph([x], [exp(x)])), interpreter.Plan)
    big = linear.matmul(x, shape.transpose(y))
    assert eager.work(Graph([x, y], [big])) == 16 * 8 + 8 * 8 * 16


def test_an_error_names_the_line_of_its_own_graph() -> None:
    def plan(layer: str) -> object:
        z, y = input(TensorType(SHAPE, F32)), input(TensorType((300,), np.dtype(np.int64)))
        with scope(layer):
            graph = Graph([z, y], [functions.cross_entropy(z, y, reduction="mean")])
        return engine.prepare_once(graph)

    bad = [np.zeros(SHAPE, F32), np.full(300, 300)]
    for layer in ("first", "second"):
        with pytest.raises(IndexRangeError, match=f"^{layer}, test_eager.py"):
            plan(layer)(bad, [])  # type: ignore[operator]


def test_training_without_compile() -> None:
    """The same losses as on the interpreter; after the first step nothing is planned."""
    losses: dict[str, list[float]] = {}
    for executor in ("interpreter", "native"):
        cr.set_executor(executor)
        cr.manual_seed(0)
        model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
        losses[executor] = []
        for step, (images, labels) in enumerate(batches(64, 6)):
            before = jit.emitted
            loss = nn.functional.cross_entropy(model(cr.tensor(images)), cr.tensor(labels))
            loss.backward()
            optimizer.step()
            losses[executor].append(loss.item())
            if step > 2:
                assert jit.emitted == before
    assert eager._plans
    np.testing.assert_allclose(losses["native"], losses["interpreter"], atol=1e-4)
