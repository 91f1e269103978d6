"""Back-propagation: what flows where, at every order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from oracle import assert_equal, input_nodes, run

from chainrule.core.grad import gradients
from chainrule.core.graph import Node, TensorType, Variable, walk
from chainrule.core.op import Joint, Notation, Op, results
from chainrule.core.ops import functions, reduction, shape
from chainrule.core.ops.arithmetic import cast, exp, sin, stop_gradient
from chainrule.core.ops.functions import relu, sigmoid, softmax
from chainrule.core.ops.reduction import sum

X = np.array([0.3, -1.2, 2.0])
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def grad(y: Node, *wrt: Node) -> list[Node]:
    found = gradients([y], wrt)
    assert None not in found
    return [node for node in found if node is not None]


def test_a_value_used_twice_sums_its_gradients() -> None:
    (x,) = input_nodes([X])
    (g,) = grad(sum(x * x + sin(x) * x), x)
    assert_equal(run([g], [x], [X]), [2 * X + np.sin(X) + X * np.cos(X)], **TIGHT)


def test_an_operand_that_stands_twice() -> None:
    (x,) = input_nodes([X])
    (g,) = grad(sum(functions.mse_loss(x, x * 3, reduction="none")), x)
    assert_equal(run([g], [x], [X]), [8 * X], **TIGHT)


def test_a_twin_operand_through_a_body() -> None:
    """A function without a rule of its own, both of its operands being the same node."""
    product = Op("product", lambda a, b: a, body=lambda a, b: a * sin(b), arity=2)
    (x,) = input_nodes([X])
    (g,) = grad(sum(product(x, x)), x)
    assert_equal(run([g], [x], [X]), [np.sin(X) + X * np.cos(X)], **TIGHT)


def test_no_dependence_is_none() -> None:
    x, y = input_nodes([X, X])
    found = gradients([sum(x * 2)], [x, y])
    assert found[0] is not None
    assert found[1] is None


def test_whole_numbers_get_no_gradient() -> None:
    index = np.array([2, 0])
    x, i = input_nodes([X, index])
    found = gradients([sum(shape.take(x, i) * cast(i, "float64"))], [x, i])
    assert found[1] is None
    assert_equal(run([found[0]], [x, i], [X, index]), [np.array([0.0, 0.0, 2.0])], **TIGHT)


def test_with_respect_to_a_value_on_the_way() -> None:
    (x,) = input_nodes([X])
    z = x * 2
    y = sum(z * z)
    to_z, to_x = grad(y, z, x)
    assert_equal(run([to_z, to_x], [x], [X]), [4 * X, 8 * X], **TIGHT)


def test_with_respect_to_the_output_itself() -> None:
    (x,) = input_nodes([X])
    y = sum(x)
    assert_equal(run(grad(y, y), [x], [X]), [np.array(1.0)], **TIGHT)


def test_several_outputs_and_cotangents() -> None:
    weights = np.array([1.0, -2.0, 0.5])
    x, w = input_nodes([X, weights])
    found = gradients([x * x, sin(x)], [x], [w, w])
    assert_equal(run([found[0]], [x, w], [X, weights]), [weights * (2 * X + np.cos(X))], **TIGHT)


def test_stop_gradient() -> None:
    (x,) = input_nodes([X])
    (g,) = grad(sum(x * stop_gradient(x * x)), x)
    assert_equal(run([g], [x], [X]), [X * X], **TIGHT)
    assert gradients([sum(stop_gradient(x))], [x]) == [None]


def test_stop_gradient_holds_at_second_order() -> None:
    (x,) = input_nodes([X])
    (first,) = grad(sum(x * x * stop_gradient(x)), x)
    (second,) = grad(sum(first), x)
    assert_equal(run([second], [x], [X]), [2 * X], **TIGHT)


def test_variables_are_leaves_like_inputs() -> None:
    weight = Variable(X, "w", trainable=True)
    (x,) = input_nodes([X])
    y = sum(weight.read() * x * x)
    assert y.needs_grad
    (g,) = grad(y, weight.read())
    assert_equal(run([g], [x], [X]), [X * X], **TIGHT)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_high_orders(order: int) -> None:
    """d^n/dx^n of exp(x) sin(x) is 2^(n/2) exp(x) sin(x + n pi/4)."""
    (x,) = input_nodes([X])
    y = exp(x) * sin(x)
    for _ in range(order):
        (y,) = grad(sum(y), x)
    expected = 2 ** (order / 2) * np.exp(X) * np.sin(X + order * math.pi / 4)
    assert_equal(run([y], [x], [X]), [expected], rtol=1e-12, atol=1e-12)


def test_third_order_through_named_functions() -> None:
    (x,) = input_nodes([X])
    y, t = sum(softmax(sigmoid(x) * x) * x), torch.tensor(X, requires_grad=True)
    expected = (torch.softmax(torch.sigmoid(t) * t, -1) * t).sum()
    for _ in range(3):
        (first,) = grad(y, x)
        y = sum(first * first)
        (slope,) = torch.autograd.grad(expected, t, create_graph=True)
        expected = (slope * slope).sum()
    assert_equal(run([y], [x], [X]), [expected.numpy(force=True)], rtol=1e-10, atol=1e-12)


def _split(x: Node) -> tuple[Node, Node]:
    return x * 2, sin(x)


def _split_rule(g: Any, y: Any, x: Node) -> tuple[Node]:
    return (g[0] * 2 + g[1] * (1 - y[1] * y[1]) ** 0.5,)


SPLIT = Op(
    "split_test",
    lambda x: (x, x),
    derivative=Joint(_split_rule),
    notation=Notation.call("split"),
    body=_split,
)


@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("derivative", [SPLIT.derivative, None])
def test_a_function_with_several_results(wanted: tuple[int, ...], derivative: Any) -> None:
    """Each used alone and both together, with a rule of its own and through the body."""
    op = Op("split_test", SPLIT.infer, derivative=derivative, body=_split)
    small = X / 2  # where the cosine is positive, as the rule takes it
    (x,) = input_nodes([small])
    parts = results(op(x))
    y = sum(parts[wanted[0]])
    for index in wanted[1:]:
        y = y + sum(parts[index])
    (g,) = grad(y, x)
    slopes = (np.full(3, 2.0), np.cos(small))
    expected = np.sum([slopes[index] for index in wanted], axis=0)
    assert_equal(run([g], [x], [small]), [expected], **TIGHT)


def test_sorting_sends_each_gradient_back() -> None:
    (x,) = input_nodes([X])
    values, order = reduction.sort(x, descending=True)
    (g,) = grad(sum(values * cast(shape.iota(3), "float64")), x)
    assert_equal(run([g], [x], [X]), [np.array([1.0, 2.0, 0.0])], **TIGHT)
    assert gradients([sum(cast(order, "float64"))], [x]) == [None]


def test_gradient_nodes_remember_their_origin() -> None:
    """Each node of a gradient comes from the forward node whose rule made it."""
    (x,) = input_nodes([X])
    a = relu(x)
    y = sum(a)
    forward = set(walk([y]))
    (g,) = grad(y, x)
    made = [node for node in walk([g]) if node not in forward]
    origins = {node.op.name: node.origin for node in made}
    assert origins["where"] is a
    assert all(node.source == a.source for node in made if node.origin is a)


def test_long_chains_need_no_recursion() -> None:
    (x,) = input_nodes([X])
    y = x
    for _ in range(3000):
        y = y + 0.001
    (g,) = grad(sum(y), x)
    assert_equal(run([g], [x], [X]), [np.ones(3)], **TIGHT)


def test_types_of_gradients() -> None:
    half = X.astype(np.float32)
    (x,) = input_nodes([half])
    (g,) = grad(sum(sigmoid(x) ** 2), x)
    assert g.type == TensorType((3,), np.dtype(np.float32))
