"""Uncompiled programs: computations of one structure share a plan; little ones are interpreted."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Hashable, Iterator

import numpy as np
import pytest
from steps import batches

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.graph import Graph, Node, TensorType, Variable, scope, walk
from chainrule.core.op import input
from chainrule.core.ops import functions, linear, shape
from chainrule.core.ops.arithmetic import exp
from chainrule.errors import IndexRangeError, NoNativeWarning
from chainrule.run import interpreter, shared
from chainrule.run import native as engine
from chainrule.run.native import eager, jit
from chainrule.run.native.plan import Plan
from chainrule.run.shared import Work

F32 = np.dtype(np.float32)
SHAPE = (1000, 500)


@pytest.fixture(autouse=True)
def native() -> Iterator[None]:
    cr.set_executor("native")
    shared._plans.clear()
    yield
    shared._plans.clear()


def data(value: float = 1.0) -> Node:
    return input(TensorType(SHAPE, F32), "x", np.full(SHAPE, value, F32))


def work(outputs: list[Node], writes: dict[Variable, Node] | None = None) -> Work:
    nodes = walk((*outputs, *(writes or {}).values()), stop=lambda node: node.value is not None)
    return Work(nodes, outputs, writes or {}, [])


def made(factor: float = 2.0, name: str = "v", value: float = 1.0) -> Work:
    x, cell = data(value), Variable(np.full(SHAPE, value, F32), name)
    return work([exp(x) * factor], {cell: cell.read() + x})


def key(work: Work) -> Hashable:
    return shared.structure(work)[0]


def test_structure_looks_at_all_but_data_and_names() -> None:
    keys = [key(made()), key(made(name="w", value=3.0)), key(made(3.0))]
    assert keys[0] == keys[1] != keys[2]
    assert key(made(0.0)) != key(made(-0.0))


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations(["ab", "ba", "aa", "a0"], 2))
)  # fmt: skip
def test_structure_tells_the_operands_apart(one: str, other: str) -> None:
    def graph(word: str) -> Work:
        named = {"a": data(), "b": data(), "0": shape.full(SHAPE, 0, F32)}
        return work([named["a"] + named["b"], named[word[0]] - named[word[1]]])

    assert key(graph(one)) != key(graph(other))
    assert key(graph(one)) == key(graph(one))


def test_computations_of_one_structure_share_a_plan() -> None:
    first, second = made(), made(value=0.5)
    shared.run(first)
    (cell,) = second.writes
    (output,) = shared.run(second)
    assert len(shared._plans) == 1
    (plan,) = shared._plans.values()
    assert isinstance(plan.plan, Plan)
    np.testing.assert_allclose(output, np.full(SHAPE, 2 * np.exp(0.5)), rtol=1e-6)
    np.testing.assert_array_equal(cell.value, np.ones(SHAPE))


def test_a_plan_keeps_no_data() -> None:
    x = data()
    kept = weakref.ref(x)
    shared.run(work([exp(x)]))
    del x
    gc.collect()
    assert kept() is None
    assert len(shared._plans) == 1


def test_plans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_PLANS_KEPT", 3)
    for factor in range(5):
        shared.run(made(factor))
    assert len(shared._plans) == 3


def test_little_work_stays_on_the_interpreter() -> None:
    x, y = (input(TensorType((8, 16), F32)) for _ in range(2))
    assert isinstance(engine.prepare_once(Graph([x], [exp(x)])), interpreter.Plan)
    big = linear.matmul(x, shape.transpose(y))
    assert eager.work(Graph([x, y], [big])) == 16 * 8 + 8 * 8 * 16


def test_a_training_step_is_never_little() -> None:
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.weight.tolist()
    shared._plans.clear()  # of the initial values
    optimizer.step(nn.functional.mse_loss(model(cr.ones(1, 2)), cr.ones(1, 1)))
    model.weight.tolist()
    kinds = {type(each.plan) for each in shared._plans.values() if len(each.writes) > 1}
    assert kinds == {Plan}


def test_the_update_does_not_make_a_step_too_large() -> None:
    """One of many parameters is native, a loop written out is not."""

    def step(layers: int) -> Plan | interpreter.Plan:
        model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(layers)])
        loss = model(cr.ones(2, 3)).sum()
        optimizer = optim.Adam(model.parameters())
        loss.backward()
        optimizer.step()
        loss.item()
        made: Plan | interpreter.Plan = next(reversed(shared._plans.values())).plan
        return made

    small, large = step(8), step(60)
    assert len(small.graph.nodes) > 2 * eager.WRITTEN_OUT
    assert isinstance(small, Plan)
    assert isinstance(large, interpreter.Plan)


def test_without_native_code_the_interpreter_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "obstacle", lambda: "no LLVM")
    monkeypatch.setattr(engine, "_said", set())
    x = cr.ones(*SHAPE)
    with pytest.warns(NoNativeWarning, match=r"no native code can be made here \(no LLVM\)"):
        assert cr.compile(lambda x: x.exp() * 2)(x).numpy()[0, 0] == pytest.approx(2 * np.e)
    assert (x.exp() * 2).numpy()[0, 0] == pytest.approx(2 * np.e)  # one notice is enough


def test_an_error_names_the_line_of_its_own_graph() -> None:
    for layer in ("first", "second"):
        labels = input(TensorType((1000,), np.dtype(np.int64)), "y", np.full(1000, 500))
        with scope(layer):
            bad = work([functions.cross_entropy(data(), labels, reduction="mean")])
        with pytest.raises(IndexRangeError, match=f"^{layer}, test_eager.py"):
            shared.run(bad)


def test_memory_that_nobody_has_is_written_where_it_stands() -> None:
    cell = Variable(np.zeros(SHAPE, F32))
    arrays = []
    for _ in range(3):
        shared.run(work([], {cell: cell.read() + data()}))
        arrays.append(cell.peek())
    assert arrays[0] is not arrays[1]  # the read was held by the nodes
    seen = cell.value
    shared.run(work([], {cell: cell.read() + data()}))
    np.testing.assert_array_equal(seen, 3)
    np.testing.assert_array_equal(cell.value, 4)


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
    assert shared._plans
    np.testing.assert_allclose(losses["native"], losses["interpreter"], atol=1e-4)
