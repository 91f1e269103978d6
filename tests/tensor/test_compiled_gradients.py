"""Gradients and compiled steps: what comes in, what is left, what stays outside."""

from __future__ import annotations

from typing import Any

import pytest

import chainrule as cr
from chainrule import optim


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [cr.float32, cr.float64])
def test_gradients_wait_across_calls(compiled: bool, dtype: Any) -> None:
    w = cr.tensor(1.0, dtype, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)

    def accumulate(x: Any) -> None:
        (w * x).backward()

    def update() -> None:
        optimizer.step()

    if compiled:
        accumulate, update = cr.compile(accumulate), cr.compile(update)
    for _ in range(2):
        for x in (1.0, 2.0, 3.0):
            accumulate(cr.tensor(x, dtype))
        (w * 4).backward()  # uncompiled, in between
        assert w.grad.item() == 10
        update()
        assert w.grad is None
    assert w.item() == 1 - 0.5 * 20


@pytest.mark.parametrize("has_one", [False, True])
def test_gradients_come_and_go_between_calls(has_one: bool) -> None:
    """The same arguments, but a gradient is there at some calls and not at others."""
    w = cr.tensor(1.0, requires_grad=True)

    @cr.compile
    def accumulate(x: Any) -> None:
        (w * x).backward()

    x = cr.tensor(2.0)
    for there in (has_one, not has_one, has_one):
        w.grad = cr.tensor(5.0) if there else None
        accumulate(x)
        assert w.grad.item() == 2 + 5 * there


@pytest.mark.parametrize("compiled", [False, True])
def test_two_updates_in_one_step(compiled: bool) -> None:
    w = cr.tensor(1.0, cr.float64, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)

    def step() -> Any:
        first = w * w
        optimizer.step(first)
        second = w * w
        optimizer.step(second)
        return first, second

    run = cr.compile(step) if compiled else step
    results = [float(loss.item()) for _ in range(2) for loss in run()]
    w2, v, expected = 1.0, 0.0, []
    for _ in range(4):
        expected.append(w2 * w2)
        v = 0.9 * v + 2 * w2
        w2 -= 0.1 * v
    assert results == pytest.approx(expected, rel=1e-14)


def test_gradient_through_what_was_captured() -> None:
    w = cr.tensor(3.0, requires_grad=True)
    h = w * w  # made outside, used inside

    @cr.compile
    def step(x: Any) -> None:
        (h * x).backward()

    step(cr.tensor(2.0))
    assert w.grad.item() == 12


def test_gradients_of_other_models_stay_outside() -> None:
    """A step takes in only the gradients it looks at; the others wait untouched."""
    other = cr.tensor([1.0, 2.0], cr.float64, requires_grad=True)
    (other * other).sum().backward()
    w = cr.tensor(1.0, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.25)
    step = cr.compile(lambda x: optimizer.step(w * x))
    step(cr.tensor(2.0))
    (entry,) = step._entries.values()
    assert [node.shape for node in entry.graph.inputs] == [()]
    assert other.grad.tolist() == [2, 4]
    other.grad = None
    step(cr.tensor(2.0))
    assert w.item() == 0
    assert step._traces == 1  # nor do they make it trace again


def test_a_gradient_that_comes_later_is_another_trace() -> None:
    w = cr.tensor(2.0, requires_grad=True)
    ask = cr.compile(lambda x: x if w.grad is None else x + w.grad)
    assert ask(cr.tensor(1.0)).item() == 1
    (w * 3).backward()
    assert ask(cr.tensor(1.0)).item() == 4
    assert w.grad.item() == 3
    w.grad = None
    assert ask(cr.tensor(1.0)).item() == 1
    assert ask._traces == 2
