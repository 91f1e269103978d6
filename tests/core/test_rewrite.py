"""Passes over graphs: opening named functions, simplifying, and the rules of a valid graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from oracle import input_nodes, run

from chainrule.core.check import verify
from chainrule.core.graph import Graph, Node, TensorType, Variable
from chainrule.core.op import Op, constant, results
from chainrule.core.ops import shape
from chainrule.core.ops.arithmetic import neg, sin, stop_gradient
from chainrule.core.ops.functions import cross_entropy, gelu, log_softmax, mean, sigmoid
from chainrule.core.ops.reduction import sort, sum
from chainrule.core.rewrite import expand, replaced, rewritten, substitute
from chainrule.core.simplify import simplify
from chainrule.errors import VerifierError
from chainrule.run import interpreter

F64 = np.dtype(np.float64)
X = np.array([[0.3, -1.2, 2.0], [1.0, 0.0, -0.5]])
LABELS = np.array([2, 0])


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph.nodes]


# ------------------------------------------------------------------------------ rebuild


def test_substitute_replaces_a_value_everywhere() -> None:
    x, other = input_nodes([X, X])
    y = sin(x) * x
    (swapped,) = substitute([y], {x: other})
    assert run([swapped], [other], [X])[0].tolist() == (np.sin(X) * X).tolist()
    assert run([y], [x], [X])[0].tolist() == (np.sin(X) * X).tolist()


def test_untouched_nodes_stay_themselves() -> None:
    (x,) = input_nodes([X])
    y = sin(x) * 2
    assert rewritten(Graph([x], [y]), lambda node: node).outputs == (y,)


def test_a_rule_sees_the_nodes_of_the_graph_itself() -> None:
    (x,) = input_nodes([X])
    inner = sin(x)
    outer = sin(inner)  # known by who it is: the other sine stays
    graph = Graph([x], [neg(outer), inner])

    def rule(node: Node, done: Mapping[Node, Node]) -> Node | None:
        return neg(done[inner]) if node is outer else None

    made = replaced(graph, rule)
    assert names(made) == ["input", "sin", "neg", "neg"]
    assert made.outputs[1] is inner
    assert run(made.outputs, [x], [X])[0].tolist() == np.sin(X).tolist()
    assert replaced(graph, lambda node, done: None).outputs == graph.outputs


def test_rebuilt_nodes_keep_their_place() -> None:
    x, other = input_nodes([X, X])
    y = sin(x)
    (swapped,) = substitute([y], {x: other})
    assert (swapped.source, swapped.scope) == (y.source, y.scope)
    assert swapped.source is not None
    assert swapped.source.file == __file__


# ------------------------------------------------------------------------------ expand


def test_expand_leaves_only_primitives() -> None:
    x, y = input_nodes([X, LABELS])
    graph = Graph([x, y], [cross_entropy(gelu(x, approximate="none"), y, reduction="mean")])
    opened = verify(expand(graph), "expand")
    assert all(node.op.is_primitive for node in opened.nodes)
    before, after = (interpreter.prepare(g)([X, LABELS], ()) for g in (graph, opened))
    np.testing.assert_allclose(after[0], before[0], rtol=1e-14)


def test_expand_keeps_what_it_is_told() -> None:
    x, y = input_nodes([X, LABELS])
    opened = expand(Graph([x, y], [cross_entropy(x, y, reduction="sum")]), keep=["log_softmax"])
    assert "log_softmax" in names(opened)
    assert "cross_entropy" not in names(opened)


def test_expand_says_where_the_parts_came_from() -> None:
    (x,) = input_nodes([X])
    call = sigmoid(x)
    opened = expand(Graph([x], [call]))
    made = [node for node in opened.nodes if node is not x]
    assert {node.origin for node in made} == {call}
    assert {node.source for node in made} == {call.source}


def test_expand_keeps_writes() -> None:
    cell = Variable(np.zeros(()), "cell")
    (x,) = input_nodes([X])
    graph = Graph([x], [sigmoid(x)], {cell: mean(x)})
    opened = verify(expand(graph))
    assert list(opened.writes) == [cell]
    np.testing.assert_allclose(interpreter.prepare(opened)([X], ())[1], X.mean())


@pytest.mark.parametrize("count", [1, 2])
def test_expand_of_several_results(count: int) -> None:
    """Also a tuple of one: its pick must go, too."""
    both = Op(
        "both_test",
        lambda x: (x,) * count,
        body=lambda x: tuple([sin(x), x * 2][:count]),
    )
    (x,) = input_nodes([X])
    total = x
    for part in results(both(x)):
        total = total + part
    opened = verify(expand(Graph([x], [total])))
    assert not {"both_test", "pick"} & set(names(opened))
    expected = X + np.sin(X) + (2 * X if count == 2 else 0)
    np.testing.assert_allclose(interpreter.prepare(opened)([X], ())[0], expected)


# ------------------------------------------------------------------------------ simplify


def simplified(build: Callable[[Node], Node]) -> list[str]:
    (x,) = input_nodes([X])
    return names(verify(simplify(Graph([x], [build(x)])), "simplify"))


def test_equal_nodes_become_one() -> None:
    assert simplified(lambda x: sin(x) + sin(x)) == ["input", "sin", "add"]
    assert simplified(lambda x: sum(x * 2, 0) - sum(x * 2, 0)).count("sum") == 1


def test_what_nobody_needs_is_gone() -> None:
    assert simplified(lambda x: neg(neg(x))) == ["input"]
    assert simplified(lambda x: stop_gradient(x) * 1) == ["input"]
    assert simplified(lambda x: 1 * x / 1) == ["input"]


def test_views_of_views_merge() -> None:
    assert simplified(lambda x: shape.reshape(shape.reshape(x, (6,)), (3, 2))) == [
        "input",
        "reshape",
    ]
    assert simplified(lambda x: shape.reshape(shape.reshape(x, (6,)), (2, 3))) == ["input"]
    assert simplified(lambda x: shape.transpose(shape.transpose(x))) == ["input"]
    assert simplified(
        lambda x: shape.broadcast_to(shape.broadcast_to(x, (4, 2, 3)), (5, 4, 2, 3))
    ) == ["input", "broadcast_to"]


def test_what_would_change_a_bit_stays() -> None:
    assert "add" in simplified(lambda x: x + 0.0)  # -0.0 + 0.0 is 0.0
    assert "mul" in simplified(lambda x: x * 0.0)  # NaN * 0 is NaN
    assert "mul" in simplified(lambda x: x * -1.0)
    assert "sub" in simplified(lambda x: x - x)


def test_constants_that_compare_equal_are_not_the_same() -> None:
    kinds = simplified(lambda x: x * 0.0 + x * -0.0)
    assert kinds.count("constant") == 2
    nans = simplified(lambda x: x * float("nan") + x * float("nan"))
    assert nans.count("constant") == 1


def test_inputs_and_draws_are_never_merged() -> None:
    a, b = input_nodes([X, X])
    graph = simplify(Graph([a, b], [a - b]))
    assert names(graph) == ["input", "input", "sub"]


def test_simplify_keeps_writes_and_reads() -> None:
    cell = Variable(X, "cell")
    (x,) = input_nodes([X])
    graph = verify(simplify(Graph([x], [x * 1], {cell: cell.read() * 1 + neg(neg(x))})))
    assert list(graph.reads) == list(graph.writes) == [cell]
    assert interpreter.prepare(graph)([X], [X])[1].tolist() == (X + X).tolist()


# ------------------------------------------------------------------------------ verify


def broken(problem: str, graph: Graph) -> None:
    with pytest.raises(VerifierError, match=problem) as caught:
        verify(graph, "the test")
    assert "after the test" in str(caught.value)


def test_verify_gives_a_valid_graph_back() -> None:
    x, y = input_nodes([X, LABELS])
    values, order = sort(x)
    graph = Graph([x, y], [values, order, log_softmax(x)], {Variable(X): x})
    assert verify(graph) is graph


def test_input_twice() -> None:
    (x,) = input_nodes([X])
    broken("an input stands twice", Graph([x, x], [x]))


def test_input_from_nowhere() -> None:
    x, y = input_nodes([X, X])
    broken("an input that nobody hands in", Graph([x], [x + y]))


def test_two_reads_of_one_variable() -> None:
    cell = Variable(X, "cell")
    broken("read through two nodes", Graph([], [cell.fresh_read() + cell.fresh_read()]))


def test_order() -> None:
    (x,) = input_nodes([X])
    graph = Graph([x], [sin(x * 2)])
    graph.nodes.reverse()
    broken("stands before one of its inputs", graph)


def test_arity() -> None:
    (x,) = input_nodes([X])
    broken("has 2 inputs, not 1", Graph([x], [Node(sin(x).op, (x, x), {}, x.type)]))


def test_type() -> None:
    (x,) = input_nodes([X])
    wrong = Node(sin(x).op, (x,), {}, TensorType((3, 2), F64))
    broken(r"should be float64\[2, 3\]", Graph([x], [wrong]))


def test_an_inference_that_fails() -> None:
    (x,) = input_nodes([X])
    wrong = Node(gelu(x, approximate="none").op, (x,), {"approximate": "?"}, x.type)
    broken("approximate must be", Graph([x], [wrong]))


def test_write_of_another_type() -> None:
    (x,) = input_nodes([X])
    broken("would be given a value of type", Graph([x], [x], {Variable(X[0]): x}))


def test_output_of_several_results() -> None:
    (x,) = input_nodes([X])
    broken("has several results", Graph([x], [sort(x)[0].inputs[0]]))


def test_numbers_in_a_program_have_the_exact_value() -> None:
    assert constant(0.1, np.dtype(np.float32)).attrs["value"] == float(np.float32(0.1))
