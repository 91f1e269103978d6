"""Gradients of uncompiled programs are derived once per structure, and called afterwards."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.run import shared
from chainrule.tensor import backward, state


@pytest.fixture(autouse=True)
def nothing_derived() -> None:
    backward._derivatives.clear()


def test_losses_of_one_structure_share_a_derivative() -> None:
    for factor in (1.0, 2.0, 3.0):
        w = cr.tensor([1.0, 2.0], requires_grad=True)
        x = cr.tensor([factor, 0.0])
        (w * x).sum().backward()
        assert w.grad.tolist() == [factor, 0.0]
    assert len(backward._derivatives) == 1


def test_what_differs_has_a_derivative_of_its_own() -> None:
    w, v = (cr.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    losses = {
        "a constant": lambda: (w * 3.0).sum(),
        "another": lambda: (w * 4.0).sum(),
        "no gradient through v": lambda: (w * v.detach()).sum(),
        "both": lambda: (w * v).sum(),
        "the same one twice": lambda: (w * w).sum(),
        "a shorter batch": lambda: (w[:1] * 3.0).sum(),
    }
    expected = {
        "a constant": ([3, 3], None), "another": ([4, 4], None),
        "no gradient through v": ([1, 2], None), "both": ([1, 2], [1, 2]),
        "the same one twice": ([2, 4], None), "a shorter batch": ([3, 0], None),
    }  # fmt: skip
    for _ in range(2):
        for name, loss in losses.items():
            loss().backward()
            found = tuple(None if p.grad is None else p.grad.tolist() for p in (w, v))
            assert found == expected[name], name
            w.grad = v.grad = None
    assert len(backward._derivatives) == len(losses)


def test_values_known_before_are_not_computed_again() -> None:
    """A batch that was evaluated has another shape than the last, smaller one."""
    w = cr.tensor([[1.0], [2.0]], requires_grad=True)
    data = cr.tensor(np.arange(10.0).reshape(5, 2), cr.float32)
    for start, expected in ((0, [[1.0], [2.0]]), (2, [[5.0], [6.0]]), (4, [[8.0], [9.0]])):
        batch = data[start : start + 2]
        loss = (batch @ w).mean()
        loss.item()
        batch.tolist()
        loss.backward()
        assert w.grad.tolist() == expected
        w.grad = None


def test_a_derivative_keeps_no_data() -> None:
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    x = cr.ones(2)
    node = weakref.ref(x.node)
    (w * x).sum().backward()
    w.grad.tolist()
    w.grad = None
    del x
    state.eager.checks.clear()
    gc.collect()
    assert len(backward._derivatives) == 1
    assert node() is None


def test_derivatives_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backward, "_KEPT", 3)
    w = cr.tensor(1.0, requires_grad=True)
    for factor in range(5):
        (w * float(factor)).backward()
    assert len(backward._derivatives) == 3


def test_updates_of_the_same_optimizer_are_recorded_once() -> None:
    """Also when the rate changes, a parameter has no gradient, or a copy of it goes on."""
    import copy

    w, v = (cr.tensor(1.0, requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([w, v], lr=0.5)
    for rate in (0.5, 0.25, 0.125):
        optimizer.lr = rate
        optimizer.step(w * 1.0)
    assert w.item() == 1 - 0.875
    assert len(optimizer._records) == 1
    optimizer.step(w + v)
    assert (w.item(), v.item()) == (0.0, 0.875)
    assert len(optimizer._records) == 2
    model, twin = copy.deepcopy((nn.Linear(1, 1), optimizer))[0], copy.deepcopy(optimizer)
    assert twin._records == {}
    assert model.weight.shape == (1, 1)


def test_a_read_after_an_update_sees_it() -> None:
    w = cr.tensor(1.0, requires_grad=True)
    optimizer = optim.Adam([w], lr=0.5)
    total = cr.tensor(0.0)
    for _ in range(3):
        optimizer.step(w * w)
        total = total + w.detach()  # nobody asks for a number in between
    expected = cr.tensor(1.0, requires_grad=True)
    check = optim.Adam([expected], lr=0.5)
    values = []
    for _ in range(3):
        check.step(expected * expected)
        values.append(expected.item())
    assert total.item() == pytest.approx(sum(values), rel=1e-6)


def test_a_write_after_an_update_wins() -> None:
    w = cr.tensor(1.0, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)
    optimizer.step(w * 3.0)
    w.fill_(7.0)
    optimizer.lr = 1.0
    assert w.item() == 7.0
    w.fill_(2.0)
    optimizer.step(w * 1.0)  # after the write
    assert w.item() == 1.0


class Homemade(optim.Optimizer):
    """A transform of the program's own, that looks at the clock of the program."""

    def __init__(self, parameters: object) -> None:
        super().__init__(parameters, lambda _: [Counted()], {"lr": 1.0})  # type: ignore[arg-type]


class Counted:
    calls = 0
    reads = ()

    def init(self, p: cr.Tensor) -> dict[str, object]:
        return {}

    def update(self, u: cr.Tensor, p: object, state: object, h: object) -> object:
        Counted.calls += 1
        return u * Counted.calls, {}


def test_transforms_of_the_program_run_every_time() -> None:
    w = cr.tensor(10.0, requires_grad=True)
    optimizer = Homemade([w])
    for expected in (9.0, 7.0, 4.0):
        optimizer.step(w * 1.0)
        assert w.item() == expected


def test_reads_of_any_age_are_one_structure() -> None:
    """A plan is found again whichever variable was read first, and before the step or in it."""
    w, v = (cr.tensor([0.5], requires_grad=True) for _ in range(2))

    def step() -> None:
        loss = (w.sin() * v.cos()).sum()
        loss.backward()
        loss.item()
        for x in (w, v):
            assert x.grad is not None
            x.grad.tolist()
            x.grad = None
            x.variable.commit(x.variable.value)  # its reads are made anew

    step()
    plans, derivatives = len(shared._plans), len(backward._derivatives)
    for first in (w, v):
        kept = first.node
        step()
        assert kept.value is not None
    assert (len(shared._plans), len(backward._derivatives)) == (plans, derivatives)
