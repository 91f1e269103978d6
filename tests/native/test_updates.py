"""Variables that are updated where they stand get the values that separate memory would give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_random_graphs import Builder

from chainrule.core.graph import Array, Graph, Node, TensorType, Variable
from chainrule.core.op import input
from chainrule.core.ops import linear, reduction, shape
from chainrule.core.ops.arithmetic import tanh
from chainrule.core.ops.functions import softmax
from chainrule.errors import IndexRangeError
from chainrule.run import interpreter
from chainrule.run.native.plan import Plan
from chainrule.run.native.team import team

F32 = np.dtype(np.float32)


def run_both(graph: Graph, arrays: list[Array]) -> None:
    """In separate memory, then in place: the same bits; the interpreter is near."""
    plan = Plan(graph)
    before = [variable.value.copy() for variable in graph.reads]
    expected = plan(arrays, before)
    near = interpreter.prepare(graph)(arrays, before)
    for a, b in zip(expected, near, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    found = plan.update(arrays) + [variable.value for variable in graph.writes]
    for a, b in zip(found, expected, strict=True):
        assert a.tobytes() == b.tobytes()


class UpdateBuilder(Builder):
    """Random graphs whose first nodes read variables, and that write them."""

    def __init__(self, draw: Any) -> None:
        super().__init__(draw)
        like = self.inputs[0]
        self.variables = [
            Variable(np.full(like.shape, 0.25 * (i + 1), F32), f"v{i}")
            for i in range(draw(st.integers(1, 3)))
        ]
        self.nodes += [variable.read() for variable in self.variables]

    def writes(self) -> dict[Variable, Node]:
        found = {}
        for variable in self.variables:
            fits = [n for n in self.nodes if n.shape == variable.type.shape]
            if fits and self.draw(st.booleans()):
                found[variable] = self.draw(st.sampled_from(fits))
        return found


@st.composite
def updates(draw: Any) -> tuple[Graph, list[Array]]:
    builder = UpdateBuilder(draw)
    for _ in range(draw(st.integers(2, 12))):
        builder.grow()
    outputs = draw(st.lists(st.sampled_from(builder.nodes), max_size=2))
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(-1.5, 1.5, node.shape).astype(F32) for node in builder.inputs]
    return Graph(builder.inputs, outputs, builder.writes()), arrays


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.usefixtures("threads")
def test_in_place_is_apart(count: int) -> None:
    team.set_threads(count)

    @given(updates())
    @settings(max_examples=100)
    def check(case: tuple[Graph, list[Array]]) -> None:
        run_both(*case)

    check()


def cells(*shapes: tuple[int, ...]) -> list[Variable]:
    rng = np.random.default_rng(1)
    return [
        Variable(rng.standard_normal(each).astype(F32), f"v{i}") for i, each in enumerate(shapes)
    ]


def test_two_variables_change_places() -> None:
    a, b = cells((3, 4), (3, 4))
    run_both(Graph([], [a.read()], {a: b.read(), b: a.read()}), [])


def test_a_variable_becomes_a_view_of_itself() -> None:
    (a,) = cells((4, 4))
    run_both(Graph([], [], {a: shape.transpose(a.read())}), [])
    run_both(Graph([], [], {a: shape.flip(a.read() * 2, 0)}), [])


def test_a_variable_is_needed_elsewhere_after_it_is_written() -> None:
    a, b = cells((4, 4), (4, 4))
    new = a.read() * 2
    run_both(Graph([], [], {a: new, b: linear.matmul(new, a.read())}), [])
    new = a.read() * 2
    run_both(Graph([], [linear.matmul(new, shape.transpose(a.read()))], {a: new}), [])


def test_a_variable_is_its_own_softmax() -> None:
    """Each row is read in several passes while it is written."""
    (a,) = cells((5, 40))
    run_both(Graph([], [], {a: softmax(a.read())}), [])
    run_both(Graph([], [], {a: a.read() - reduction.sum(a.read(), 1, keepdim=True)}), [])
    run_both(Graph([], [], {a: a.read() - reduction.sum(a.read(), 0, keepdim=True)}), [])


def test_a_product_with_itself() -> None:
    (a,) = cells((20, 20))
    run_both(Graph([], [], {a: tanh(linear.matmul(a.read(), a.read()))}), [])


def test_one_value_goes_to_two_variables_and_out() -> None:
    a, b = cells((6,), (6,))
    new = a.read() + b.read()
    run_both(Graph([], [new, new], {a: new, b: new}), [])


def test_a_check_after_a_write_still_comes_first() -> None:
    """The index depends on the value written: no variable changes when it is out of range."""
    a, index = Variable(np.array([0.0, 0.0], F32), "a"), Variable(np.array(1), "index")
    new = index.read() + 1
    taken = shape.take(a.read(), shape.reshape(new, (1,)))
    graph = Graph([], [taken], {index: new, a: a.read() + 1})
    plan = Plan(graph)
    with pytest.raises(IndexRangeError, match="index 2"):
        plan.update([])
    assert a.value.tolist() == [0, 0]
    assert index.value == 1


def test_inputs_may_be_strided_and_read_only() -> None:
    x = input(TensorType((3, 4), F32), "x")
    array = np.asfortranarray(np.arange(12, dtype=F32).reshape(3, 4))
    array.flags.writeable = False
    assert Plan(Graph([x], [x * 2])).update([array])[0].tolist() == (array * 2).tolist()


@pytest.mark.parametrize("name", ["take", "take_add", "put"])
def test_an_index_into_nothing_is_refused(name: str) -> None:
    """A tensor without entries has no place that an index could count as."""
    index = np.zeros(3, np.int64)
    table, parts = np.ones((0, 40), F32), np.ones((3, 40), F32)
    x, g = (input(TensorType(array.shape, F32)) for array in (table, parts))
    i = input(TensorType((3,), np.dtype(np.int64)))
    y = {
        "take": lambda: shape.take(x, i),
        "take_add": lambda: shape.take_add(g, i, 0, 0),
        "put": lambda: shape.put(x, i, g),
    }[name]()
    with pytest.raises(IndexRangeError, match="index 0 at position 0"):
        Plan(Graph([x, g, i], [y]))([table, parts, index], [])
