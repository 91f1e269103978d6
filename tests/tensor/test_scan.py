"""cr.scan: against PyTorch, against the unrolled graph, and what it promises of the graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import errors, nn, optim
from chainrule.core.check import verify
from chainrule.core.grad import gradients
from chainrule.core.graph import Graph, Node, walk
from chainrule.core.loops import tidy
from chainrule.core.rewrite import expand
from chainrule.core.simplify import simplify
from chainrule.run import interpreter

Array = np.ndarray[Any, Any]


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(size=shape)) * scale


def leaves(*arrays: Array) -> list[Any]:
    return [cr.tensor(array, requires_grad=True) for array in arrays]


def twins(*arrays: Array) -> list[torch.Tensor]:
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def assert_close(ours: Any, theirs: Any, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=rtol, atol=1e-12)


# ------------------------------------------------------------------------------ against PyTorch


def rnn(xs: Any, h: Any, w: Any, b: Any, **options: Any) -> tuple[Any, Any]:
    def body(h: Any, x: Any) -> Any:
        h = (x + h @ w + b).tanh()
        return h, h

    return cr.scan(body, h, xs, **options)


def torch_rnn(xs: Any, h: Any, w: Any, b: Any, truncate: int = 0) -> tuple[Any, Any]:
    ys = []
    for t, x in enumerate(xs):
        if truncate and t and t % truncate == 0:
            h = h.detach()
        h = torch.tanh(x + h @ w + b)
        ys.append(h)
    return h, torch.stack(ys)


@pytest.mark.parametrize("truncate", [None, 7, 50])
def test_a_thousand_steps(truncate: int | None) -> None:
    """Values and gradients; truncated back-propagation is PyTorch's detach by hand."""
    arrays = [normal(1000, 2, 4), normal(2, 4, seed=1), normal(4, 4, seed=2), normal(4, seed=3)]
    weight = normal(1000, 2, 4, seed=4)
    ours, theirs = leaves(*arrays), twins(*arrays)
    h, ys = rnn(*ours, truncate=truncate)
    xs, start, w, b = theirs
    torch_h, torch_ys = torch_rnn(xs, start, w, b, truncate or 0)
    assert_close(ys, torch_ys)
    ((ys * cr.tensor(weight)).sum() + h.sum()).backward()
    ((torch_ys * torch.tensor(weight)).sum() + torch_h.sum()).backward()
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a.grad, b.grad)


def test_truncation_cuts_the_first_group_off_the_last_loss() -> None:
    (h,) = leaves(np.array(1.0))
    for truncate, expected in [(None, 0.5**4), (2, 0.0), (4, 0.5**4)]:
        last, _ = cr.scan(lambda c, _: (c * 0.5, None), h, length=4, truncate=truncate)
        last.backward()
        assert (0.0 if h.grad is None else h.grad.item()) == expected
        h.grad = None


def test_gradient_of_a_gradient() -> None:
    arrays = [normal(6, 2, 3), normal(2, 3, seed=1), normal(3, 3, seed=2), normal(3, seed=3)]

    def loss(*tensors: Any) -> Any:
        h, ys = rnn(*tensors)
        return (ys * ys).sum() + h.sum()

    def slope(*tensors: Any) -> Any:
        found = cr.grad(loss, [0, 1, 2, 3])(*tensors)
        return sum(((g * g).sum() for g in found[1:]), (found[0] * found[0]).sum())

    ours = cr.grad(slope, [0, 1, 2, 3])(*map(cr.tensor, arrays))
    theirs = twins(*arrays)
    h, ys = torch_rnn(*theirs)
    first = torch.autograd.grad((ys * ys).sum() + h.sum(), theirs, create_graph=True)
    second = torch.autograd.grad(sum((g * g).sum() for g in first), theirs)
    for a, b in zip(ours, second, strict=True):
        assert_close(a, b)


# ------------------------------------------------------------------------------ random bodies

STEPS: list[Any] = [
    lambda h, x, w: h * w[1] + x,
    lambda h, x, w: (h @ w.T).tanh() + h,
    lambda h, x, w: nn.functional.linear(x, w).sigmoid() * h,
    lambda h, x, w: h.softmax(-1) * x,
    lambda h, x, w: cr.where(h > 0, x @ w, h * 0.5),
    lambda h, x, w: h - (h * x).mean(-1, keepdim=True),
    lambda h, x, w: h.flip(0) + w[0] * w.sum(),
    lambda h, x, w: cr.cat([h[:, 1:], x[:, :1]], 1),
    lambda h, x, w: h + w[cr.tensor([0, 2])] * x.detach(),
]


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(range(len(STEPS))), min_size=1, max_size=4),
    st.integers(1, 5),
    st.booleans(),
)
def test_any_body_is_the_unrolled_loop(chosen: list[int], length: int, reverse: bool) -> None:
    def body(h: Any, x: Any, w: Any) -> Any:
        for index in chosen:
            h = STEPS[index](h, x, w)
        return h, h * x

    def looped(h: Any, xs: Any, w: Any) -> Any:
        last, ys = cr.scan(lambda h, x: body(h, x, w), h, xs, reverse=reverse)
        return (ys * ys).sum() + last.sum()

    def unrolled(h: Any, xs: Any, w: Any) -> Any:
        ys = []
        for t in range(length)[::-1] if reverse else range(length):
            h, y = body(h, xs[t], w)
            ys.append(y)
        squares = [(y * y).sum() for y in ys]
        return cr.stack(squares).sum() + h.sum()

    arrays = [
        normal(2, 3),
        normal(length, 2, 3, seed=1, scale=0.7),
        normal(3, 3, seed=2, scale=0.7),
    ]
    tensors = [cr.tensor(array) for array in arrays]
    both = [cr.value_and_grad(f, [0, 1, 2])(*tensors) for f in (looped, unrolled)]
    (value, grads), (expected, others) = both
    np.testing.assert_allclose(value.item(), expected.item(), rtol=1e-12)
    for a, b in zip(grads, others, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------ the graph


def training_graph(length: int) -> tuple[Graph, list[Array]]:
    cell = nn.LSTMCell(3, 4, dtype="float64")
    xs = cr.tensor(normal(length, 2, 3))

    def body(state: Any, x: Any) -> Any:
        h, c = cell(x, state)
        return (h, c), h

    zero = cr.zeros(2, 4, dtype="float64")
    _, ys = cr.scan(body, (zero, zero), xs)
    loss = (ys * ys).sum().node
    parameters = [p.node for p in cell.parameters()]
    outputs = [loss, *[part for part in gradients([loss], parameters) if part is not None]]
    data = [node for node in walk(outputs) if node.value is not None]
    return Graph(data, outputs), [node.value for node in data if node.value is not None]


def size(graph: Graph) -> int:
    """Nodes, those inside loops among them."""
    return sum(
        1 + (size(node.attrs["body"]) if node.op.name == "scan" else 0) for node in graph.nodes
    )


def test_the_graph_does_not_grow_with_the_steps() -> None:
    assert size(training_graph(3)[0]) == size(training_graph(1000)[0])


def test_passes_keep_the_numbers() -> None:
    graph, arrays = training_graph(5)

    def run(graph: Graph) -> list[Array]:
        verify(graph)
        variables = [variable.value for variable in graph.reads]
        return interpreter.prepare(graph)(arrays, variables)

    expected = run(graph)
    passes: list[Any] = [tidy, expand, simplify, lambda g: simplify(expand(tidy(g)))]
    for change in passes:
        for a, b in zip(run(change(graph)), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    assert not [n for n in loops(expand(graph)) if "lstm_cell" in repr(n.attrs["body"].nodes)]


def loops(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op.name == "scan"]


def test_forward_and_residuals_are_one_loop() -> None:
    """The loop and the loop of its derivative; without a gradient, nothing more is written."""
    graph, _ = training_graph(5)
    assert len(loops(graph)) == 3
    forward, _ = loops(tidy(graph))
    assert len(forward.attrs["body"].outputs) > 3
    alone = Graph(graph.inputs, graph.outputs[:1])
    (only,) = loops(tidy(alone))
    assert len(only.attrs["body"].outputs) == 3


def test_weight_gradients_are_formed_after_the_loop() -> None:
    """No accumulated matrix among the carries of the backward loop: one product per weight."""
    graph, _ = training_graph(5)
    backward = loops(tidy(graph))[1]
    carries = backward.attrs["body"].outputs[: backward.attrs["carries"]]
    assert [node.shape for node in carries] == [(2, 4), (2, 4)]
    shapes = [node.shape for node in graph.nodes if node.op.name == "matmul"]
    assert sorted(shapes) == [(16, 3), (16, 4)]
    inside = [node.op.name for node in backward.attrs["body"].nodes]
    assert inside.count("matmul") == 1  # of the cotangent of h


def test_what_does_not_change_is_computed_before_the_loop() -> None:
    w = cr.tensor(normal(3, 3), requires_grad=True)
    _, ys = cr.scan(lambda h, x: (h @ w.exp(), h), cr.zeros(1, 3, dtype="float64"), length=4)
    body = ys.node.inputs[0].attrs["body"]
    assert [node.op.name for node in body.nodes if node.inputs] == ["matmul"]


# ------------------------------------------------------------------------------ what it takes


class Pair(NamedTuple):
    a: Any
    b: Any


def test_containers_keep_their_structure() -> None:
    def body(carry: Any, x: Any) -> Any:
        total = carry["sum"] + x["v"]
        return {"n": [carry["n"][0] + 1], "sum": total}, Pair(total, (x["v"], None))

    init = {"sum": cr.tensor(0.0), "n": [cr.tensor(0)]}
    carry, ys = cr.scan(body, init, {"v": cr.tensor([1.0, 2.0, 3.0])})
    assert (carry["sum"].item(), carry["n"][0].item()) == (6, 3)
    assert isinstance(ys, Pair)
    assert (ys.a.tolist(), ys.b[0].tolist(), ys.b[1]) == ([1, 3, 6], [1, 2, 3], None)


def test_reverse_leaves_the_order_of_ys() -> None:
    last, ys = cr.scan(
        lambda s, x: (s + x, s + x), cr.tensor(0), cr.tensor([1, 2, 3]), reverse=True
    )
    assert (last.item(), ys.tolist()) == (6, [6, 5, 3])


def test_draws_differ_from_step_to_step_and_none_is_drawn_twice() -> None:
    _, ys = cr.scan(lambda c, _: (c, cr.rand(3)), cr.zeros(()), length=50)
    after = cr.rand(3)
    rows = {tuple(row) for row in [*ys.tolist(), after.tolist()]}
    assert len(rows) == 51

    def inner(c: Any, _: Any) -> Any:
        return cr.scan(lambda c, _: (c, (cr.rand(1), cr.rand(1))), c, length=4)

    _, (a, b) = cr.scan(inner, cr.zeros(()), length=5)
    numbers = [*a.flatten().tolist(), *b.flatten().tolist(), cr.rand(1).item()]
    assert len(set(numbers)) == 41


def test_dropout_inside_uses_one_mask_for_both_directions() -> None:
    (x,) = leaves(np.ones((200, 3)))
    _, ys = cr.scan(lambda c, x: (c, nn.functional.dropout(x, 0.5)), cr.zeros(()), x)
    ys.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), ys.numpy())
    assert 0.4 < (ys.numpy() == 0).mean() < 0.6


def test_nested_loops() -> None:
    arrays = [normal(3, 4), normal(4, seed=1)]
    ours, theirs = leaves(*arrays), twins(*arrays)

    def row(c: Any, xs: Any) -> Any:
        def entry(s: Any, x: Any) -> Any:
            s = (s * ours[1].sum() + x).tanh()
            return s, s

        return cr.scan(entry, c, xs)

    last, ys = cr.scan(row, cr.tensor(np.array(0.3)), ours[0])
    (ys.square().sum() + last).backward()
    s, total = torch.tensor(0.3, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for x in theirs[0].reshape(-1):
        s = torch.tanh(s * theirs[1].sum() + x)
        total = total + s * s
    (total + s).backward()
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a.grad, b.grad)


def test_no_grad_and_detach_inside() -> None:
    (w,) = leaves(np.array(0.5))

    def body(h: Any, _: Any) -> Any:
        with cr.no_grad():
            free = h * w
        return h * w + free + h.detach(), None

    last, _ = cr.scan(body, cr.tensor(np.array(1.0)), length=3)
    last.backward()
    h, grad = 1.0, 0.0
    for _ in range(3):  # dh'/dw = h + w dh/dw: the other two paths are cut
        h, grad = 2 * h, h + 0.5 * grad
    assert (last.item(), w.grad.item()) == (h, pytest.approx(grad))


@pytest.mark.parametrize("executor", ["interpreter", "torch"])
def test_compiled_training_is_the_uncompiled(executor: str) -> None:
    xs, target = cr.tensor(normal(6, 2, 3)), cr.tensor(normal(2, 4, seed=1))

    def losses(compiled: bool) -> list[float]:
        cr.manual_seed(3)
        cell = nn.GRUCell(3, 4, dtype="float64")
        optimizer = optim.Adam(cell.parameters(), lr=0.05)

        def step(xs: Any, target: Any) -> Any:
            def body(h: Any, x: Any) -> Any:
                return cell(nn.functional.dropout(x, 0.3), h), None

            h, _ = cr.scan(body, cr.zeros(2, 4, dtype="float64"), xs)
            loss = nn.functional.mse_loss(h, target)
            loss.backward()
            optimizer.step()
            return loss

        run = cr.compile(step) if compiled else step
        return [run(xs, target).item() for _ in range(5)]

    expected = losses(False)
    cr.set_executor(executor)
    np.testing.assert_allclose(losses(True), expected, rtol=1e-9)


# ------------------------------------------------------------------------------ refusals


def test_refusals_name_the_mend() -> None:
    zero, xs = cr.zeros(2), cr.zeros(3, 2)
    parameter = cr.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(
        errors.ShapeError, match=r"carry that stays float32\[2\], but got float32\[\]"
    ):
        cr.scan(lambda h, x: (h.sum(), x), zero, xs)
    with pytest.raises(errors.ShapeError, match="carry that stays"):
        cr.scan(lambda h, x: ((h, h), x), zero, xs)
    with pytest.raises(errors.ShapeError, match="length=None"):
        cr.scan(lambda h, x: (h, x), zero)
    with pytest.raises(errors.ShapeError, match="length=4"):
        cr.scan(lambda h, x: (h, x), zero, xs, length=4)
    with pytest.raises(errors.ShapeError, match="at least 1"):
        cr.scan(lambda h, x: (h, x), zero, cr.zeros(0, 2))
    with pytest.raises(errors.OptionError, match=r"returns \(carry, y\)"):
        cr.scan(lambda h, x: h, zero, xs)
    with pytest.raises(errors.OptionError, match="truncate"):
        cr.scan(lambda h, x: (h, x), zero, xs, truncate=0)
    with pytest.raises(errors.TracedValueError, match="item"):
        cr.scan(lambda h, x: (h * x.sum().item(), x), zero, xs)
    with pytest.raises(errors.OptionError, match="a write to"):
        cr.scan(lambda h, x: (h, parameter.zero_()), zero, xs)
    with pytest.raises(errors.OptionError, match="backward"):
        cr.scan(lambda h, x: (h, (x * parameter).sum().backward()), zero, xs)


def test_a_tensor_of_the_body_kept_after_it() -> None:
    kept = []

    def body(h: Any, x: Any) -> Any:
        kept.append(h + x)
        return h, x

    cr.scan(body, cr.zeros(2), cr.zeros(3, 2))
    with pytest.raises(errors.LeakedTensorError):
        kept[0].numpy()
