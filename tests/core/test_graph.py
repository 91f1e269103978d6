"""Nodes, variables and graphs: what they hold, where they come from, in which order they stand."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from oracle import input_nodes

from chainrule.core.arrays import frozen
from chainrule.core.graph import (
    Graph,
    TensorType,
    Variable,
    derived_from,
    scope,
    walk,
)
from chainrule.core.op import Notation, Op, pick, register, results
from chainrule.core.ops.arithmetic import add, exp, sin
from chainrule.core.ops.reduction import SORT
from chainrule.errors import DTypeError, ShapeError

X = np.array([0.5, -1.0, 2.0])


# ------------------------------------------------------------------------------ provenance


def test_a_node_knows_the_users_line() -> None:
    (x,) = input_nodes([X])
    frame = inspect.currentframe()
    y = x + 1
    assert frame is not None
    assert y.source is not None
    assert (y.source.file, y.source.line) == (__file__, frame.f_lineno - 3)
    assert y.source.function == "test_a_node_knows_the_users_line"
    assert str(y.source) == f"test_graph.py:{y.source.line}"


def test_the_nodes_of_one_line_share_its_record() -> None:
    (x,) = input_nodes([X])
    made = [x * number for number in (2.0, 3.0)]
    assert made[0].source is made[1].source


def test_scopes_nest_and_close_after_an_error() -> None:
    (x,) = input_nodes([X])
    with scope("encoder"), scope("fc1"):
        inner = sin(x)
    with pytest.raises(ZeroDivisionError), scope("broken"):
        raise ZeroDivisionError
    assert inner.scope == ("encoder", "fc1")
    assert sin(x).scope == ()


def test_derived_nodes_share_layer_and_line() -> None:
    (x,) = input_nodes([X])
    with scope("fc1"):
        forward = sin(x)
    with derived_from(forward):
        part = exp(x)
    assert (part.origin, part.scope, part.source) == (forward, ("fc1",), forward.source)
    assert exp(x).origin is None


def test_an_error_names_the_layer_and_the_line() -> None:
    x, y = input_nodes([X, np.zeros(2)])
    with pytest.raises(ShapeError) as caught, scope("fc1"):
        add(x, y)
    message = str(caught.value)
    assert message.startswith("fc1, test_graph.py:")
    assert "(3,) and (2,)" in message


def test_each_call_is_a_node_of_its_own() -> None:
    """Explanations show both uses, so that building merges nothing."""
    (x,) = input_nodes([X])
    assert sin(x) is not sin(x)
    assert sin(x).serial < sin(x).serial


# ------------------------------------------------------------------------------ variables


def test_a_variable_holds_what_nobody_can_change() -> None:
    cell = Variable(X.copy(), "w")
    with pytest.raises(ValueError, match="read-only"):
        cell.value[0] = 1


def test_reads_before_and_after_a_commit() -> None:
    cell = Variable(X, "w", trainable=True)
    before = cell.read()
    assert cell.read() is before
    assert before.needs_grad
    cell.commit(X * 2)
    after = cell.read()
    assert after is not before
    assert before.value is not None
    assert before.value.tolist() == X.tolist()
    assert cell.value.tolist() == (X * 2).tolist()
    assert cell.version == 1


def test_a_read_that_nobody_keeps_is_let_go() -> None:
    cell = Variable(X, "w")
    serial = cell.read().serial
    assert cell.read().serial > serial


def test_frozen_arrays_are_contiguous() -> None:
    array = frozen(np.arange(6.0).reshape(2, 3).T)
    assert array.flags.c_contiguous
    assert not array.flags.writeable


def test_what_is_trained_needs_a_gradient() -> None:
    weight, count = Variable(X, "w", trainable=True), Variable(np.array(1), "n")
    (x,) = input_nodes([X])
    assert (weight.read() * x).needs_grad
    assert not (x * 2).needs_grad
    assert not (weight.read() < x).needs_grad  # a comparison passes no gradient
    assert not (count.read() + 1).needs_grad


# ------------------------------------------------------------------------------ graphs


def test_walk_lists_inputs_first_and_each_node_once() -> None:
    (x,) = input_nodes([X])
    a = sin(x)
    b, c = a + x, a * 2
    order = walk([b * c, c])
    assert len(order) == len(set(order))
    for position, node in enumerate(order):
        assert set(node.inputs) <= set(order[:position])


def test_walk_depends_on_the_graph_alone() -> None:
    def names() -> list[str]:
        (x,) = input_nodes([X])
        y = sin(x)
        z = exp(x)  # made before it is used, and after
        return [node.op.name for node in walk([z + y, y])]

    assert names() == names() == ["input", "exp", "sin", "add"]


def test_walk_is_not_recursive() -> None:
    (x,) = input_nodes([X])
    y = x
    for _ in range(5000):
        y = -y
    assert len(walk([y])) == 5001


def test_a_graph_lists_what_it_reads_and_writes() -> None:
    w, m = Variable(X, "w"), Variable(X, "m")
    (x,) = input_nodes([X])
    y = w.read() * x
    graph = Graph([x], [y], {m: y + 1, w: y})
    assert list(graph.reads) == [w]
    assert graph.results == (y, graph.writes[m], y)
    assert "write m = " in repr(graph)


# ------------------------------------------------------------------------------ records


def test_several_results_are_picked() -> None:
    (x,) = input_nodes([X])
    node = SORT(x, dim=0, descending=False)
    with pytest.raises(TypeError, match="sort has 2 results; pick one"):
        _ = node.shape
    values, order = results(node)
    assert values.type == TensorType((3,), np.dtype(np.float64))
    assert order.type == pick(node, 1).type == TensorType((3,), np.dtype(np.int64))
    assert results(x) == (x,)


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="an op named sin"):
        register(Op("sin", lambda x: x))


def test_arity_is_checked() -> None:
    (x,) = input_nodes([X])
    with pytest.raises(TypeError, match="sin takes 1 inputs, not 2"):
        sin(x, x)


def test_only_tensors_and_numbers_are_operands() -> None:
    (x,) = input_nodes([X])
    with pytest.raises(DTypeError, match="a tensor or a number, but got str"):
        add(x, "1")


def test_names_in_latex_templates_survive_being_filled() -> None:
    assert Notation.call("relu").latex.format("z") == r"\operatorname{relu}\left(z\right)"
    assert Notation.call("max", r"\max", 2).plain.format("a", "b") == "max(a, b)"
