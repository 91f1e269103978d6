"""What every executor promises of its plans, on each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from chainrule import run
from chainrule.core.graph import Graph, Node, TensorType, Variable, scope
from chainrule.core.op import Op, input
from chainrule.core.ops import shape
from chainrule.core.ops.arithmetic import add, cast, exp, sin
from chainrule.core.ops.functions import cross_entropy, dropout, sigmoid
from chainrule.core.ops.random import random_bits, random_uniform
from chainrule.core.ops.reduction import sort, sum
from chainrule.errors import ExecutorError, IndexRangeError, OptionError
from chainrule.run import interpreter
from chainrule.run import torch as torch_executor

F32, F64, I64 = (np.dtype(name) for name in ("float32", "float64", "int64"))
X = np.array([[0.5, -1.0, 2.0], [1.5, 0.0, -0.25]])

Prepare = Callable[..., Any]


@pytest.fixture(params=["interpreter", "torch"])
def prepare(request: pytest.FixtureRequest) -> Prepare:
    return {"interpreter": interpreter.prepare, "torch": torch_executor.prepare}[request.param]


def given(array: np.ndarray = X) -> Node:
    return input(TensorType(array.shape, array.dtype), "x")


def test_outputs_come_first_then_writes(prepare: Prepare) -> None:
    x, total, count = given(), Variable(np.zeros(3), "total"), Variable(np.array(7), "count")
    graph = Graph([x], [x * 2], {total: total.read() + sum(x, 0), count: count.read() + 1})
    assert list(graph.reads) == [total, count]
    doubled, new_total, new_count = prepare(graph)([X], [np.ones(3), np.array(7)])
    assert doubled.tolist() == (X * 2).tolist()
    assert new_total.tolist() == [3.0, 0.0, 2.75]
    assert (new_count, new_count.dtype) == (8, I64)


def test_running_changes_no_variable_and_no_input(prepare: Prepare) -> None:
    """The caller commits, all writes or none."""
    cell = Variable(X, "cell")
    kept = X.copy()
    plan = prepare(Graph([], [], {cell: cell.read() * 2}))
    assert plan([], [cell.value])[0].tolist() == (X * 2).tolist()
    assert cell.value.tolist() == kept.tolist()
    assert plan([], [cell.value])[0].tolist() == (X * 2).tolist()


def test_inputs_may_be_read_only_strided_or_unused(prepare: Prepare) -> None:
    frozen, strided = X.copy(), np.asfortranarray(X)[:, ::-1]
    frozen.flags.writeable = False
    a, b, unused = given(), given(), given()
    found = prepare(Graph([a, unused, b], [a + b]))([frozen, X, strided], [])
    assert found[0].tolist() == (X + X[:, ::-1]).tolist()


def test_an_input_may_be_an_output(prepare: Prepare) -> None:
    x = given()
    first, second = prepare(Graph([x], [x, x]))([X], [])
    assert first.tolist() == second.tolist() == X.tolist()


def test_a_plan_runs_again_with_other_data(prepare: Prepare) -> None:
    x = given()
    plan = prepare(Graph([x], [sin(x) + sin(x)]))
    assert plan([X], [])[0].tolist() == (2 * np.sin(X)).tolist()
    assert plan([X * 0], [])[0].tolist() == np.zeros((2, 3)).tolist()


def test_any_value_on_the_way_may_be_handed_in(prepare: Prepare) -> None:
    """A graph stops at its inputs, even where they have inputs of their own."""
    x = given()
    middle = exp(x)
    assert prepare(Graph([middle], [middle * 2]))([X], [])[0].tolist() == (X * 2).tolist()


def test_results_have_the_types_of_the_graph(prepare: Prepare) -> None:
    seed, base = (input(TensorType((), I64)) for _ in range(2))
    x = given(X.astype(np.float32))
    outputs = [
        x < 0,
        cast(x * 10, "uint8"),
        random_bits(seed, base, ordinal=0, shape=(2,)),
        random_uniform(seed, base, ordinal=0, shape=(), dtype=F32),
        *sort(x),
        shape.iota(2, np.dtype(np.int32)),
        shape.full((0, 2), 1, F64),
    ]
    arrays = [np.array(1), np.array(2), np.abs(X).astype(np.float32)]
    for found, node in zip(
        prepare(Graph([seed, base, x], outputs))(arrays, []), outputs, strict=True
    ):
        assert isinstance(found, np.ndarray)
        assert (found.shape, found.dtype) == node.type


def test_words_wrap_at_32_bits(prepare: Prepare) -> None:
    words = np.array([0, 1, 2**32 - 1], np.uint32)
    x = given(words)
    (found,) = prepare(Graph([x], [x * 3 + x - 7]))([words], [])
    assert found.tolist() == [(4 * word - 7) % 2**32 for word in words.tolist()]


def test_hook_sees_each_value(prepare: Prepare) -> None:
    x = given()
    y = exp(x) * 2
    seen: list[str] = []
    prepare(Graph([x], [y]), hook=lambda node, value: seen.append(node.op.name))([X], [])
    assert seen == ["input", "exp", "constant", "broadcast_to", "mul"]


@pytest.mark.parametrize("bad", [3, -1])
def test_an_index_out_of_range(prepare: Prepare, bad: int) -> None:
    index = np.array([0, bad])
    x, i = given(), given(index)
    with scope("embedding"):
        plan = prepare(Graph([x, i], [shape.take(x, i, 1)]))
    with pytest.raises(IndexRangeError) as caught:
        plan([X, index], [])
    message = str(caught.value)
    assert f"index {bad} at position 1 is outside 0..2" in message
    assert message.startswith("embedding, test_executors.py:")


def test_a_label_out_of_range_names_the_classes(prepare: Prepare) -> None:
    labels = np.array([0, 5])
    x, y = given(), given(labels)
    plan = prepare(Graph([x, y], [cross_entropy(x, y, reduction="mean")]))
    with pytest.raises(IndexRangeError, match=r"index 5 at position 1 .* 3 classes"):
        plan([X, labels], [])


def test_executors_agree_on_a_step_of_training() -> None:
    """A linear layer, dropout, a loss, its gradient, and the written variables."""
    from chainrule.core.grad import gradients

    labels = np.array([2, 0])
    weight, moment = Variable(np.eye(3), "weight", trainable=True), Variable(np.zeros((3, 3)), "m")
    seed, step = Variable(np.array(5), "seed"), Variable(np.array(0), "step")
    x, y = given(), given(labels)
    u = random_uniform(seed.read(), step.read(), ordinal=0, shape=(2, 3), dtype=F64)
    scores = dropout(sigmoid(x) @ weight.read(), u, p=0.3)
    loss = cross_entropy(scores, y, reduction="mean")
    (grad,) = gradients([loss], [weight.read()])
    assert grad is not None
    after = moment.read() * 0.9 + grad
    writes = {weight: weight.read() - 0.1 * after, moment: after, step: step.read() + 1}
    graph = Graph([x, y], [loss], writes)
    values = [variable.value for variable in graph.reads]
    ours = interpreter.prepare(graph)([X, labels], values)
    theirs = torch_executor.prepare(graph)([X, labels], values)
    assert len(ours) == 4
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-12)


# ------------------------------------------------------------------------------ the choice


def test_choosing_an_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    for named, expected in ((None, "native"), ("interpreter", "interpreter")):
        monkeypatch.delenv("CHAINRULE_EXECUTOR", raising=False)
        if named:
            monkeypatch.setenv("CHAINRULE_EXECUTOR", named)
        monkeypatch.setattr(run, "_chosen", "")
        assert run.executor() == expected
    monkeypatch.setattr(run, "_chosen", "")
    monkeypatch.setenv("CHAINRULE_EXECUTOR", "interpeter")
    with pytest.raises(OptionError, match="did you mean 'interpreter'"):
        run.executor()
    run.set_executor("torch")
    assert isinstance(run.prepare(Graph([], [shape.full((), 1, F64)])), torch_executor.Plan)
    with pytest.raises(OptionError, match="did you mean 'torch'"):
        run.set_executor("trch")
    assert run.executor() == "torch"


# ------------------------------------------------------------------------------ torch alone


def test_a_function_without_a_row_runs_through_its_body() -> None:
    twice = Op("twice_test", lambda x: x, body=lambda x: x + sin(x))
    x = given()
    found = torch_executor.prepare(Graph([x], [twice(x) * 2]))([X], [])
    np.testing.assert_allclose(found[0], 2 * (X + np.sin(X)), rtol=1e-14)


def test_a_gap_in_the_table_names_the_op(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found when the plan is made, not in the middle of a run."""
    monkeypatch.delitem(torch_executor.ROWS, "exp")
    x = given()
    with scope("layer1"):
        graph = Graph([x], [sigmoid(x) + exp(x)])
    with pytest.raises(ExecutorError, match="can't run exp") as caught:
        torch_executor.prepare(graph)
    message = str(caught.value)
    assert message.startswith("layer1, test_executors.py:")
    assert 'set_executor("interpreter")' in message
    assert isinstance(caught.value, NotImplementedError)


def test_a_gap_inside_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(torch_executor.ROWS, "exp")
    monkeypatch.delitem(torch_executor.ROWS, "sigmoid")
    x = given()
    with pytest.raises(ExecutorError, match="can't run exp"):
        torch_executor.prepare(Graph([x], [sigmoid(x)]))


def test_float32_graph_computed_in_float64() -> None:
    narrow = X.astype(np.float32)
    weight = Variable(narrow, "w")
    x = given(narrow)
    y = sigmoid(exp(x) * 0.1 + weight.read())
    (exact,) = torch_executor.prepare(Graph([x], [y]), float_type=F64)([narrow], [narrow])
    (rounded,) = torch_executor.prepare(Graph([x], [y]))([narrow], [narrow])
    wide = narrow.astype(np.float64)
    expected = 1 / (1 + np.exp(-(np.exp(wide) * float(np.float32(0.1)) + wide)))
    assert (exact.dtype, rounded.dtype) == (F64, F32)
    np.testing.assert_allclose(exact, expected, rtol=1e-14)
    np.testing.assert_allclose(rounded, expected, rtol=1e-6)


def test_the_device_is_handed_to_pytorch() -> None:
    """The device "meta" has shapes but no numbers: everything arrives there, constants included."""
    x, seen = given(), []
    plan = torch_executor.prepare(
        Graph([x], [add(x * 2, shape.iota(3))]),
        device="meta",
        hook=lambda node, value: seen.append(value.device.type),
    )
    with pytest.raises(NotImplementedError):
        plan([X], [])
    assert set(seen) == {"meta"}
    with pytest.raises(RuntimeError, match="no_such_device"):
        torch_executor.prepare(Graph([x], [x]), device="no_such_device")


def test_puts_with_equal_indices_keep_the_last() -> None:
    """Many of them, so that PyTorch would write them in parallel."""
    rng = np.random.default_rng(0)
    index, values = rng.integers(0, 50, 20_000), rng.standard_normal((20_000, 3))
    start = np.zeros((50, 3))
    x, i, v = given(start), given(index), given(values)
    graph = Graph([x, i, v], [shape.put(x, i, v)])
    arrays = [start, index, values]
    expected = interpreter.prepare(graph)(arrays, [])[0]
    assert torch_executor.prepare(graph)(arrays, [])[0].tolist() == expected.tolist()


def test_an_opened_graph_gives_the_same_bits() -> None:
    """Bodies are opened, constants computed once; variables come in as the graph reads them."""
    x, total, scale = given(), Variable(np.zeros((), F64)), Variable(np.array(0.3), "scale")
    with scope("layer"):
        z = sigmoid(x * scale.read()) + 1 / (1 + x * x)
    graph = Graph([x], [z, shape.full((2, 3), 0.5, F64)], {total: sum(z), scale: scale.read() * 2})
    variables = [variable.value for variable in graph.reads]
    wanted = interpreter.prepare(graph)([X], variables)
    opened = interpreter.prepare_opened(graph)
    assert len(opened._steps) < len(opened.graph.nodes)
    for _ in range(2):
        for a, b in zip(opened([X], variables), wanted, strict=True):
            assert a.tobytes() == b.tobytes()
