"""What stays on the native engine, what goes to the interpreter, and what is said about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.graph import Graph, TensorType
from chainrule.core.op import Notation, Op, input
from chainrule.core.shape_rules import same_type
from chainrule.errors import NoKernelWarning
from chainrule.optim import schedules
from chainrule.run import interpreter, native
from chainrule.run.native.plan import Plan

SCHEDULES: dict[str, Any] = {
    "constant": schedules.constant(0.1),
    "step_decay": schedules.step_decay(0.1, every=2),
    "cosine": schedules.cosine(0.1, steps=5),
    "linear": schedules.linear(0.1, steps=3),
    "exponential": schedules.exponential(0.1, gamma=0.9),
    "polynomial": schedules.polynomial(0.1, steps=5, power=1.5),
    "multi_step": schedules.multi_step(0.1, [2, 4]),
    "warm_restarts": schedules.warm_restarts(0.1, first=2, factor=2),
    "one_cycle": schedules.one_cycle(0.1, steps=6),
    "warm_up": schedules.warm_up(3, schedules.cosine(0.1, steps=5)),
    "remainder": lambda t: 0.1 * (1 - (t % 3) / 3),
    "quotient": lambda t: 0.1 / (1 + t // 2),
    "expm1 and log1p": lambda t: 0.1 * (-t).expm1() + 0.01 * t.log1p(),
}


@pytest.fixture
def on_native() -> Iterator[None]:
    cr.set_executor("native")
    yield
    cr.set_executor("interpreter")


def _rates(name: str, executor: str) -> tuple[list[float], Any]:
    """Weights after each of six steps, and the plan that made them."""
    cr.set_executor(executor)
    weight = cr.tensor(np.ones(3, np.float32), requires_grad=True)
    optimizer = optim.SGD([weight], lr=SCHEDULES[name])

    @cr.compile
    def step() -> cr.Tensor:
        loss = weight.sum()
        loss.backward()
        optimizer.step()
        return loss

    losses = [step().item() for _ in range(7)]
    (entry,) = step._entries.values()
    return losses, entry.plan


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_step_with_a_schedule_stays(name: str) -> None:
    """The rate is a number of float64, computed natively: else the whole step would fall back."""
    found, plan = _rates(name, "native")
    assert isinstance(plan, Plan)
    np.testing.assert_allclose(found, _rates(name, "interpreter")[0], rtol=1e-5)


@pytest.mark.usefixtures("on_native")
def test_tensors_of_float64_run_elsewhere_without_a_word() -> None:
    """By design; warnings are errors in the tests."""
    x = np.random.default_rng(0).standard_normal((64, 64))
    w = cr.tensor(x, requires_grad=True)
    double = cr.compile(lambda a: (a @ w).tanh().sum())
    np.testing.assert_allclose(double(x).item(), np.tanh(x @ x).sum(), rtol=1e-12)
    loss = (w @ w).tanh().sum()
    loss.backward()
    assert w.grad is not None
    assert w.grad.dtype == np.float64


def test_one_notice_for_an_op_without_a_kernel() -> None:
    """It names the op, once, and the result is right."""
    cube = Op("cube of a test", same_type, lambda x: x**3, None, Notation.call("cube"))
    x = np.arange(4, dtype=np.float32)
    node = input(TensorType(x.shape, x.dtype), "x")
    graph = Graph([node], [cube(node)])
    with pytest.warns(NoKernelWarning, match="no kernel for cube of a test"):
        plan = native.prepare(graph)
    assert isinstance(plan, interpreter.Plan)
    np.testing.assert_array_equal(plan([x], [])[0], x**3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        native.prepare(graph)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "uneven windows": (lambda: nn.Sequential(nn.AdaptiveMaxPool2d((3, 5)),
                                             nn.AdaptiveAvgPool2d((2, 3))), (2, 3, 10, 11)),
    "a long series": (lambda: nn.Sequential(nn.Conv1d(8, 32, 9, padding=4), nn.ReLU(),
                                            nn.MaxPool1d(4)), (1, 8, 30_000)),
}  # fmt: skip


@pytest.mark.usefixtures("on_native")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_stay(name: str) -> None:
    """Forward and backward; a notice would be an error."""
    make, shape = LAYERS[name]
    model = make()
    x = cr.tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    x.requires_grad_()
    step = cr.compile(lambda a: cr.value_and_grad(lambda b: model(b).square().mean())(a))
    value, slope = step(x)
    (entry,) = step._entries.values()
    assert isinstance(entry.plan, Plan)
    cr.set_executor("interpreter")
    expected, expected_slope = cr.value_and_grad(lambda b: model(b).square().mean())(x)
    np.testing.assert_allclose(value.item(), expected.item(), rtol=1e-4)
    largest = np.abs(expected_slope.numpy()).max()
    np.testing.assert_allclose(slope.numpy(), expected_slope.numpy(), atol=1e-5 * largest)
