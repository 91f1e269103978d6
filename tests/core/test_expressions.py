"""Random programs: executors agree, gradients pass central differences, simplifying keeps bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_equal, central_differences, cotangents_of, derived, input_nodes, run
from samples import SPECIAL, between, normal

from chainrule.core.check import verify
from chainrule.core.dtype import int64
from chainrule.core.graph import Array, Graph, Node
from chainrule.core.ops import arithmetic as a
from chainrule.core.ops import functions as f
from chainrule.core.ops import linear, reduction, shape
from chainrule.core.rewrite import expand
from chainrule.core.simplify import simplify
from chainrule.run import interpreter

Build = Callable[[Node, Node], Node]

# All shapes stretch to one another, and every step keeps it so.
LEAVES = [(2, 3), (3,), (2, 1), ()]
STEPS = st.tuples(st.integers(0, 10**6), st.integers(0, 30), st.integers(0, 30))
PROGRAMS = st.lists(STEPS, min_size=1, max_size=12)
SEEDS = st.integers(0, 2**32 - 1)


def _both(x: Node, y: Node) -> tuple[Node, Node]:
    both = (2, 3)
    return shape.broadcast_to(x, both), shape.broadcast_to(y, both)


def _product(x: Node, y: Node) -> Node:
    left, right = _both(x, y)
    square = linear.matmul(a.tanh(left), shape.transpose(right))
    return reduction.sum(square, -1, keepdim=True) * 0.3


def _joined(x: Node, y: Node) -> Node:
    return shape.slice_(shape.concatenate(_both(x, y), 1), (0, 1), (2, 6), (1, 2))


def _padded(x: Node, y: Node) -> Node:
    low = shape.pad(_both(x, y)[0], (0, 1), (1, 0), (0, 1))
    return shape.slice_(low, (0, 1), (2, 6), (1, 2)) + y


def _taken(x: Node, y: Node) -> Node:
    order = 2 - shape.iota(3, int64)
    return shape.take(_both(x, y)[0], order, -1)


def _turned(x: Node, y: Node) -> Node:
    return shape.transpose(a.sin(shape.transpose(_both(x, y)[0])))


# Values stay small and curves tame, so that rounding is not blown up.
SMOOTH: list[Build] = [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: a.sin(x) * y,
    lambda x, y: x / (1 + y * y),
    lambda x, y: -x,
    lambda x, y: a.cos(x),
    lambda x, y: a.tanh(x),
    lambda x, y: a.erf(x),
    lambda x, y: a.exp(a.tanh(x)),
    lambda x, y: a.expm1(a.sin(x)),
    lambda x, y: a.log1p(x * x),
    lambda x, y: a.log(x * x + 0.5),
    lambda x, y: a.sqrt(x * x + 1),
    lambda x, y: a.pow(1 + f.sigmoid(x), a.tanh(y)),
    lambda x, y: f.sigmoid(x),
    lambda x, y: f.softplus(x),
    lambda x, y: f.silu(x),
    lambda x, y: f.gelu(x, approximate="none"),
    lambda x, y: f.gelu(x, approximate="tanh"),
    lambda x, y: f.softmax(_both(x, y)[0], 0),
    lambda x, y: f.log_softmax(_both(x, y)[0], -1),
    lambda x, y: f.square(a.sin(x)),
    lambda x, y: f.mean(x, -1, keepdim=True) if x.ndim else x,
    lambda x, y: f.var(_both(x, y)[0], 1, keepdim=True),
    lambda x, y: f.mse_loss(*_both(a.tanh(x), y), reduction="mean"),
    lambda x, y: f.binary_cross_entropy_with_logits(*_both(x, f.sigmoid(y)), reduction="none"),
    lambda x, y: shape.flip(_both(x, y)[0], -1),
    _product,
    _joined,
    _padded,
    _taken,
    _turned,
]

# Steps with kinks; the second operand is used where a jump would blow rounding up.
ROUGH: list[Build] = [
    *SMOOTH,
    lambda x, y: a.maximum(x, y),
    lambda x, y: a.minimum(x, y),
    lambda x, y: a.abs(x),
    lambda x, y: f.relu(x),
    lambda x, y: f.leaky_relu(x, slope=0.1),
    lambda x, y: f.elu(x, alpha=1.0),
    lambda x, y: f.l1_loss(*_both(x, y), reduction="mean"),
    lambda x, y: reduction.amax(_both(x, y)[0], 1, keepdim=True),
    lambda x, y: reduction.sort(_both(x, y)[0], 1, descending=True)[0],
]
# What simplifying looks for, and what it must leave alone.
TRICKS: list[Build] = [
    lambda x, y: x * 1,
    lambda x, y: 1.0 * x,
    lambda x, y: x / 1,
    lambda x, y: a.neg(a.neg(x)),
    lambda x, y: x + 0.0,
    lambda x, y: x + -0.0,
    lambda x, y: x * 0.0,
    lambda x, y: x * -0.0 + x * 0.0,
    lambda x, y: (x + y) - (x + y),
    lambda x, y: a.stop_gradient(x),
    lambda x, y: x / y,
    lambda x, y: a.exp(x),
    lambda x, y: a.log(x),
    lambda x, y: a.where(x < y, x, y),
    lambda x, y: a.where(a.isnan(x), y, a.sign(x)),
    lambda x, y: shape.reshape(shape.reshape(_both(x, y)[0], (6,)), (2, 3)),
    lambda x, y: shape.transpose(shape.transpose(_both(x, y)[0])),
    lambda x, y: shape.reshape(shape.broadcast_to(_both(x, y)[0], (1, 2, 3)), (2, 3)),
]


def program(
    steps: Sequence[tuple[int, int, int]], table: Sequence[Build], leaves: Sequence[Node]
) -> list[Node]:
    """Each step applies a row of the table to two of the values there are; all values."""
    values = list(leaves)
    for choice, left, right in steps:
        make = table[choice % len(table)]
        values.append(make(values[left % len(values)], values[right % len(values)]))
    return values


def leaves(seed: int) -> list[Array]:
    return [normal(*size, seed=seed + index) for index, size in enumerate(LEAVES)]


@settings(max_examples=300)
@given(PROGRAMS, SEEDS)
def test_executors_agree(steps: list[tuple[int, int, int]], seed: int) -> None:
    arrays = leaves(seed)
    xs = input_nodes(arrays)
    y = program(steps, ROUGH, xs)[-1]
    assert_equal(
        run([y], xs, arrays, "torch"), run([y], xs, arrays, "interpreter"), rtol=1e-10, atol=1e-12
    )


@settings(max_examples=300)
@given(PROGRAMS, SEEDS)
def test_gradients(steps: list[tuple[int, int, int]], seed: int) -> None:
    """Both executors agree, and central differences with the h^2 term taken out agree with them."""
    arrays = leaves(seed)
    xs = input_nodes(arrays)
    y = program(steps, SMOOTH, xs)[-1]
    weights = cotangents_of([y])
    seeds = input_nodes(weights)
    grads = derived([y], xs, seeds)
    ours, theirs = (
        run(grads, [*xs, *seeds], [*arrays, *weights], name) for name in ("interpreter", "torch")
    )
    assert_equal(theirs, ours, rtol=1e-9, atol=1e-11)
    wide, narrow = (central_differences([y], xs, arrays, step) for step in (2e-3, 1e-3))
    numeric = [(4 * fine - coarse) / 3 for coarse, fine in zip(wide, narrow, strict=True)]
    assert_equal(ours, numeric, rtol=1e-5, atol=1e-7)


@settings(max_examples=300)
@given(PROGRAMS, SEEDS)
def test_expanding_keeps_the_value(steps: list[tuple[int, int, int]], seed: int) -> None:
    arrays = leaves(seed)
    xs = input_nodes(arrays)
    graph = Graph(xs, [program(steps, ROUGH, xs)[-1]])
    opened = verify(expand(graph), "expand")
    found = interpreter.prepare(opened)(arrays, ())
    assert_equal(found, interpreter.prepare(graph)(arrays, ()), rtol=1e-10, atol=1e-12)


@settings(max_examples=300)
@given(PROGRAMS, SEEDS)
def test_simplify_keeps_every_bit(steps: list[tuple[int, int, int]], seed: int) -> None:
    """With NaN, infinities and both zeros among the leaves; every value, and the gradients."""
    rng = np.random.default_rng(seed)
    arrays = [
        np.where(between(0, 1, *size, seed=seed + i) < 0.5, rng.choice(SPECIAL, size), array)
        for i, (size, array) in enumerate(zip(LEAVES, leaves(seed), strict=True))
    ]
    xs = input_nodes(arrays)
    values = program(steps, [*ROUGH, *4 * TRICKS], xs)
    y = values[-1]
    graph = Graph(xs, [*values, *derived([y], xs, [shape.full(y.shape, 1, y.dtype)])])
    slim = verify(simplify(graph), "simplify")
    assert len(slim.nodes) <= len(graph.nodes)
    before, after = (interpreter.prepare(g)(arrays, ()) for g in (graph, slim))
    assert [x.tobytes() for x in before] == [x.tobytes() for x in after]
