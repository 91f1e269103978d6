"""Lazy evaluation: what is computed when, what a failure leaves, what memory is let go."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.graph import Node, walk
from chainrule.errors import (
    BackwardError,
    IndexRangeError,
    NoGradientError,
    OptionError,
    ShapeError,
)
from chainrule.run import interpreter
from chainrule.tensor import state


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the ops that ran."""
    names: list[str] = []
    original = interpreter.evaluation

    def counting(node: Node) -> Callable[..., object]:
        call = original(node)

        def counted(*arrays: object) -> object:
            names.append(node.op.name)
            return call(*arrays)

        return counted

    state.current().flush()
    monkeypatch.setattr(interpreter, "evaluation", counting)
    return names


def test_nothing_is_computed_before_it_is_asked_for(evaluated: list[str]) -> None:
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 2).exp()
    assert evaluated == []
    y.tolist()
    assert evaluated.count("exp") == 1


def test_held_values_are_computed_once(evaluated: list[str]) -> None:
    h = cr.tensor([1.0, 2.0], requires_grad=True).exp()
    y, z = h.sum(), h.sin()
    y.item()
    z.tolist()
    h.tolist()
    assert evaluated.count("exp") == 1


def test_a_step_is_one_evaluation(evaluated: list[str]) -> None:
    w = cr.tensor(1.0, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)
    loss = w.exp()
    loss.backward()
    optimizer.step()
    loss.item()
    w.item()
    assert evaluated.count("exp") == 1


# ------------------------------------------------------------------------------ failures


def classifier() -> tuple[nn.Module, optim.Optimizer, cr.Tensor]:
    cr.manual_seed(0)
    model = nn.Linear(2, 3)
    return model, optim.SGD(model.parameters(), lr=0.1), cr.ones(2, 2)


def test_a_bad_label_leaves_no_trace() -> None:
    model, optimizer, x = classifier()
    twin, twin_optimizer, _ = classifier()
    before = model.state_dict()
    loss = nn.functional.cross_entropy(model(x), cr.tensor([0, 3]))
    loss.backward()
    optimizer.step()
    with pytest.raises(IndexRangeError):
        loss.item()
    for name, value in model.state_dict().items():
        assert value.tolist() == before[name].tolist()
    assert optimizer.state_dict()["param_groups"][0]["step"] == 0
    for m, o in ((model, optimizer), (twin, twin_optimizer)):
        o.step(nn.functional.cross_entropy(m(x), cr.tensor([0, 2])))
    assert model.weight.tolist() == twin.weight.tolist() != before["weight"].tolist()


def test_a_failing_value_does_not_take_down_an_earlier_update() -> None:
    model, optimizer, x = classifier()
    before = model.weight.tolist()
    optimizer.step(nn.functional.cross_entropy(model(x), cr.tensor([0, 2])))
    bad = nn.functional.cross_entropy(model(x), cr.tensor([0, 9]))
    with pytest.raises(IndexRangeError):
        bad.item()
    assert model.weight.tolist() != before


def test_a_bad_step_raises_at_the_next_step_at_the_latest() -> None:
    model, optimizer, x = classifier()
    optimizer.step(nn.functional.cross_entropy(model(x), cr.tensor([0, 9])))
    with pytest.raises(IndexRangeError):
        optimizer.step(nn.functional.cross_entropy(model(x), cr.tensor([0, 1])))


def test_an_unasked_failure_stays_where_it_is() -> None:
    model, optimizer, x = classifier()
    bad = nn.functional.cross_entropy(model(x), cr.tensor([0, 9]))
    for _ in range(3):
        optimizer.step(nn.functional.cross_entropy(model(x), cr.tensor([0, 1])))
    assert np.isfinite(model.weight.numpy()).all()
    with pytest.raises(IndexRangeError):
        bad.item()


# ------------------------------------------------------------------------------ variables


def test_an_unasked_failure_does_not_spoil_other_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when so much waits that all held tensors are evaluated."""
    model, _, x = classifier()
    bad = nn.functional.cross_entropy(model(x), cr.tensor([0, 9]))
    monkeypatch.setattr(state, "_WAITING", 10)
    ones = cr.tensor([1.0, 1.0], requires_grad=True)
    held = [ones * number for number in range(8)]
    assert (ones + 1).tolist() == [2, 2]
    assert state.eager.waiting < 8
    assert held[3].tolist() == [3, 3]
    with pytest.raises(IndexRangeError):
        bad.item()


def test_updates_by_hand() -> None:
    for update in ("isub", "data", "copy", "sub_"):
        w = cr.tensor([1.0, 2.0], cr.float64, requires_grad=True)
        v = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        alias = w
        for _ in range(3):
            (w * w * w).sum().backward()
            (v * v * v).sum().backward()
            with torch.no_grad():
                v -= 0.1 * v.grad
                v.grad.zero_()
            if update == "isub":
                w -= 0.1 * w.grad
            elif update == "data":
                w.data -= 0.1 * w.grad
            elif update == "copy":
                w.copy_(w - 0.1 * w.grad)
            else:
                w.sub_(w.grad, alpha=0.1)
            w.grad.zero_()
        assert alias is w
        np.testing.assert_allclose(w.numpy(), v.detach().numpy(), rtol=1e-14)


def test_writing() -> None:
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    w.zero_()
    assert w.tolist() == [0, 0]
    w.fill_(3)
    w.add_(1).mul_(2).div_(4)
    assert w.tolist() == [2, 2]
    w.copy_([[5.0, 6.0]][0])
    w.data = w.data + 1
    assert w.tolist() == [6, 7]
    w.copy_(1.5)
    assert w.tolist() == [1.5, 1.5]
    with pytest.raises(ShapeError, match="writing a variable"):
        w.copy_(cr.ones(3))


def test_earlier_readers_keep_the_earlier_value() -> None:
    w = cr.tensor(1.0, requires_grad=True)
    before, shown = w * 10, w * 1
    shown.item()
    w.fill_(2.0)
    after = w * 10
    assert (before.item(), after.item(), shown.item()) == (10, 20, 1)


def test_swapping_two_variables() -> None:
    a, b = cr.tensor(1.0, requires_grad=True), cr.tensor(2.0, requires_grad=True)
    old = a.clone()
    a.copy_(b)
    b.copy_(old)
    assert (a.item(), b.item()) == (2, 1)


def test_no_gradient_flows_through_a_write() -> None:
    w = cr.tensor(3.0, requires_grad=True)
    w.copy_(w * w)
    (w * 2).backward()
    assert w.grad.item() == 2


def test_requires_grad_in_place_and_by_assignment() -> None:
    a, b = cr.ones(2) * 3, cr.ones(2)
    assert a.requires_grad_() is a
    b.requires_grad = True
    (a * b).sum().backward()
    assert (a.grad.tolist(), b.grad.tolist()) == ([1, 1], [3, 3])
    assert a.is_leaf
    with pytest.raises(OptionError, match="detach"):
        (a * 2).requires_grad_(False)
    a.requires_grad_(False)
    with pytest.raises(NoGradientError):
        a.sum().backward()


# ------------------------------------------------------------------------------ gradients


def test_gradients_add_up_until_the_step() -> None:
    w = cr.tensor(3.0, requires_grad=True)
    (w * 2).backward()
    (w * 5).backward()
    assert w.grad.item() == 7
    assert not w.grad.requires_grad
    copied = copy.deepcopy(w.grad)
    w.grad = None
    assert w.grad is None
    assert copied.item() == 7


def test_retain_graph() -> None:
    w = cr.tensor(3.0, requires_grad=True)
    loss = w * w
    loss.backward(retain_graph=True)
    loss.backward()
    assert w.grad.item() == 12
    with pytest.raises(BackwardError):
        loss.backward()


def test_a_loss_above_another() -> None:
    w = cr.tensor(3.0, requires_grad=True)
    first = w * w
    second = first * 2
    first.backward()
    second.backward()
    assert w.grad.item() == 6 + 12


def test_no_grad_cuts_the_graph_as_in_pytorch() -> None:
    def run(m: object) -> float:
        w = m.tensor([3.0], requires_grad=True)  # type: ignore[attr-defined]
        with m.no_grad():  # type: ignore[attr-defined]
            a = w * 2
        assert not a.requires_grad
        (a * w).sum().backward()
        return float(w.grad.item())

    assert run(cr) == run(torch) == 6


def test_no_grad_as_a_decorator_of_a_recursive_function() -> None:
    @cr.no_grad()
    def down(n: int) -> None:
        if n:
            down(n - 1)

    down(3)
    assert (cr.tensor(1.0, requires_grad=True) * 2).requires_grad


def test_backward_of_a_vector_takes_a_gradient() -> None:
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    (w * w).backward(gradient=cr.tensor([1.0, 10.0]))
    assert w.grad.tolist() == [2, 40]


# ------------------------------------------------------------------------------ memory


def live_nodes() -> int:
    gc.collect()
    return sum(type(thing) is Node for thing in gc.get_objects())


def grown(step: object, warm: int = 50, count: int = 10_000) -> int:
    for _ in range(warm):
        step()  # type: ignore[operator]
    before = live_nodes()
    for _ in range(count):
        step()  # type: ignore[operator]
    return live_nodes() - before


def test_training_that_never_looks_does_not_grow() -> None:
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    kept: list[cr.Tensor] = []

    def step() -> None:
        loss = (w * w).sum()
        loss.backward()
        w.sub_(w.grad, alpha=1e-4)
        w.grad = None
        kept.append(loss)
        del kept[:-1]

    assert grown(step) < 100


def test_a_running_total_that_nobody_looks_at_does_not_grow() -> None:
    total = cr.tensor(0.0)
    x = cr.ones(3)

    def step() -> None:
        nonlocal total
        total = total + (x > 0).sum()

    assert grown(step, count=10_000) < 5 * state._WAITING
    assert total.item() == 3 * 10_050


def test_kept_losses_keep_no_graph() -> None:
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    losses = []
    batches = []
    for _ in range(3):
        x = cr.ones(2)
        batches.append(weakref.ref(x.node))
        loss = (w * x).sum()
        loss.backward()
        w.sub_(w.grad, alpha=0.1)
        w.grad = None
        losses.append(loss)
    del x
    w.tolist()
    assert [loss.item() for loss in losses] == pytest.approx([3.0, 2.8, 2.6])
    gc.collect()
    assert [ref() for ref in batches] == [None, None, None]


def test_history_without_gradients_is_let_go_when_known() -> None:
    x = cr.ones(1000)
    source = weakref.ref(x.node)
    y = (x * 2).sum()
    del x
    assert y.item() == 2000
    gc.collect()
    assert source() is None


# ------------------------------------------------------------------------------ copies, threads


def test_copies() -> None:
    x = cr.ones(2) * 3
    assert copy.deepcopy(x).tolist() == [3, 3]
    w = nn.Parameter([1.0, 2.0])
    w.variable.name = "weight"
    w.fill_(5.0)
    twin = copy.deepcopy(w)
    w.fill_(6.0)
    assert type(twin) is nn.Parameter
    assert (twin.tolist(), twin.requires_grad, twin.variable.name) == ([5, 5], True, "weight")
    assert w.tolist() == [6, 6]


def test_pickles() -> None:
    x = pickle.loads(pickle.dumps(cr.ones(2) * 3))
    assert x.tolist() == [3, 3]
    w = nn.Parameter([1.0])
    w.fill_(2.0)
    a, b = pickle.loads(pickle.dumps([w, w]))
    assert a is b
    assert (a.tolist(), a.requires_grad) == ([2], True)


def test_a_copied_model_and_optimizer_go_on_alike() -> None:
    model, _, x = classifier()
    optimizer = optim.Adam(model.parameters())

    def train(model: nn.Module, optimizer: optim.Optimizer) -> list[float]:
        for _ in range(3):
            optimizer.step((model(x) ** 2).mean())
        return model.weight.tolist()

    train(model, optimizer)
    pair = copy.deepcopy((model, optimizer))
    pickled = pickle.loads(pickle.dumps((model, optimizer)))
    assert train(*pair) == train(model, optimizer) == train(*pickled)


def test_threads_share_the_state() -> None:
    results: list[float] = []

    def work() -> None:
        for _ in range(50):
            results.append(cr.rand(3).sum().item())  # noqa: PERF401

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 200  # no two draws are the same


def test_all_gradients_are_evaluated_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    run = state.run
    monkeypatch.setattr(state, "run", lambda work: runs.append(work) or run(work))
    w, v = cr.tensor([1.0, 2.0], requires_grad=True), cr.tensor([3.0, 4.0], requires_grad=True)
    (w * v).sum().backward()
    assert w.grad is not None
    assert v.grad is not None
    assert w.grad.tolist() == [3.0, 4.0]
    assert v.grad.tolist() == [1.0, 2.0]
    assert len(runs) == 1


def test_bodies_opened_while_evaluating_evaluate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    @cr.function
    def thrice(x: cr.Tensor) -> cr.Tensor:
        return x + x + x

    cr.set_executor("torch")  # opens bodies when a graph is made ready
    held = cr.tensor([1.0, 2.0]) * 2
    made = thrice(held)
    monkeypatch.setattr(state, "_WAITING", 1)
    assert made.tolist() == [6.0, 12.0]
    assert held.tolist() == [2.0, 4.0]


def test_a_state_that_is_carried_is_not_computed_again(evaluated: list[str]) -> None:
    """The last state of a loop is evaluated with its outputs, though nobody asked for it."""
    rnn = nn.GRU(2, 3)
    for parameter in rnn.parameters():
        parameter.tolist()
    state = None
    counts = []
    for _ in range(4):
        evaluated.clear()
        outputs, state = rnn(cr.ones(1, 1, 2), state)
        outputs.tolist()
        counts.append(len(evaluated))
    assert counts[1] == counts[2] == counts[3]


def test_writes_in_a_row_are_one_evaluation() -> None:
    average = cr.tensor([1.0, 2.0], requires_grad=True)
    version = average.variable.version
    with cr.no_grad():
        average.mul_(0.5).add_(average * 2).sub_(1)
    assert average.variable.version == version
    assert average.tolist() == [0.5, 2.0]
    assert average.variable.version == version + 1


def test_many_writes_in_a_row_do_not_grow_the_graph() -> None:
    w = cr.tensor([1.0], requires_grad=True)
    with cr.no_grad():
        for _ in range(3 * state._REWRITES):
            w.add_(1)
    assert len(walk([w.node])) < 4 * state._REWRITES
    assert w.tolist() == [1 + 3 * state._REWRITES]


def test_tensors_that_are_gone_do_not_count_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    w = cr.tensor([1.0], requires_grad=True)
    held = w * 3
    state.eager.waiting = 0
    monkeypatch.setattr(state, "_WAITING", 20)
    for _ in range(100):
        w * 2
    assert held._node.value is None
    more = [w * number for number in range(30)]
    assert held._node.value is not None
    assert more[7].item() == 7
