"""Schedules inside the graph, each beside PyTorch's scheduler; averages of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as their

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import OptionError, StateDictError

STEPS = 24


CASES: list[tuple[Any, Any]] = [
    (optim.linear(0.1, 7, 0.2, 0.9), lambda o: their.LinearLR(o, 0.2, 0.9, 7)),
    (optim.linear(0.1, 5), lambda o: their.LinearLR(o)),
    (optim.exponential(0.1, 0.8), lambda o: their.ExponentialLR(o, 0.8)),
    (optim.polynomial(0.1, 9, 1.5), lambda o: their.PolynomialLR(o, 9, 1.5)),
    (optim.polynomial(0.1, 9), lambda o: their.PolynomialLR(o, 9)),
    (optim.multi_step(0.1, [3, 3, 8], 0.3), lambda o: their.MultiStepLR(o, [3, 3, 8], 0.3)),
    (optim.multi_step(0.1, []), lambda o: their.MultiStepLR(o, [])),
    (optim.warm_restarts(0.1, 5), lambda o: their.CosineAnnealingWarmRestarts(o, 5)),
    (optim.warm_restarts(0.1, 2, 2), lambda o: their.CosineAnnealingWarmRestarts(o, 2, 2)),
    (
        optim.warm_restarts(0.1, 1, 3, 0.01),
        lambda o: their.CosineAnnealingWarmRestarts(o, 1, 3, 0.01),
    ),
    (optim.one_cycle(0.5, 25), lambda o: their.OneCycleLR(o, 0.5, 25)),
    (
        optim.one_cycle(0.5, 30, 0.5, 10, 100, "linear"),
        lambda o: their.OneCycleLR(
            o, 0.5, 30, pct_start=0.5, div_factor=10, final_div_factor=100,
            anneal_strategy="linear",
        ),
    ),
    (
        optim.sequential([optim.constant(0.05), optim.step_decay(0.1, 4, 0.5)], [6]),
        lambda o: their.SequentialLR(
            o, [their.ConstantLR(o, 0.5, 99), their.StepLR(o, 4, 0.5)], [6]
        ),
    ),
    (
        optim.warm_up(4, optim.cosine(0.1, 20), start=0.1),
        lambda o: their.SequentialLR(
            o, [their.LinearLR(o, 0.1, 1.0, 4), their.CosineAnnealingLR(o, 20)], [4]
        ),
    ),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # within SequentialLR
@pytest.mark.parametrize("number", range(len(CASES)))
@pytest.mark.parametrize("compiled", [False, True])
def test_beside_pytorch(number: int, compiled: bool) -> None:
    schedule, scheduler = CASES[number]
    w = nn.Parameter(np.array([1.0]))
    v = torch.nn.Parameter(torch.tensor([1.0]).double())
    optimizer = optim.SGD([w], lr=schedule, momentum=0.5)
    reference = torch.optim.SGD([v], lr=0.1, momentum=0.5)
    rates = scheduler(reference)
    cycled = isinstance(rates, their.OneCycleLR)
    step: Any = lambda: optimizer.step((w * w).sum())  # noqa: E731
    step = cr.compile(step) if compiled else step
    for _ in range(STEPS):
        rate = reference.param_groups[0]["lr"]
        assert optimizer.lr == pytest.approx(rate, rel=1e-10, abs=1e-14)
        if cycled:  # its momentum is cycled too
            reference.param_groups[0]["momentum"] = 0.5
        step()
        reference.zero_grad()
        (v * v).sum().backward()
        reference.step()
        rates.step()
    np.testing.assert_allclose(w.numpy(), v.detach().numpy(), rtol=1e-9)


def test_restarts_stay_exact_for_long() -> None:
    """The turns are found by a logarithm; every beginning must be hit."""
    schedule = optim.warm_restarts(1.0, 3, 2)
    begin, length = 0, 3
    for _ in range(16):
        at = [schedule(cr.tensor(t, "float64")).item() for t in (begin, begin + length - 1)]
        assert at[0] == pytest.approx(1.0, abs=1e-12)
        assert at[1] == pytest.approx((1 - np.cos(np.pi / length)) / 2, rel=1e-6)
        begin, length = begin + length, 2 * length


def test_groups_have_their_own_schedules() -> None:
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD(
        [{"params": [a], "lr": optim.exponential(0.1, 0.5)}, {"params": [b]}],
        lr=optim.multi_step(0.2, [2], 0.1),
    )
    seen = []
    for _ in range(4):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step((a + b).sum())
    np.testing.assert_allclose(seen, [[0.1, 0.2], [0.05, 0.2], [0.025, 0.02], [0.0125, 0.02]])


def test_schedules_that_can_not_be() -> None:
    for make in (optim.linear, optim.polynomial, optim.warm_restarts, optim.one_cycle):
        with pytest.raises(OptionError, match="at least 1 step"):
            make(0.1, 0)
    with pytest.raises(OptionError, match="shape must be"):
        optim.one_cycle(0.1, 10, shape="cosine")
    with pytest.raises(OptionError, match="1 rising steps, one less than schedules"):
        optim.sequential([optim.constant(1.0), optim.constant(2.0)], [3, 4])


# ------------------------------------------------------------------------------ averages


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999, 0.25])
@pytest.mark.parametrize("compiled", [False, True])
def test_average_of_weights_as_pytorch(decay: float, compiled: bool) -> None:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    ours, theirs = nn.Linear(3, 2, dtype="float64"), torch.nn.Linear(3, 2).double()
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            p.copy_(torch.tensor(ours.state_dict()[name].numpy()))
    average = optim.ExponentialMovingAverage(ours.parameters(), decay)
    reference = AveragedModel(theirs, multi_avg_fn=get_ema_multi_avg_fn(decay))
    a, b = optim.SGD(ours.parameters(), lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)
    x = np.random.default_rng(0).normal(size=(5, 3))

    def step(x: Any) -> None:
        a.step((ours(x) ** 2).sum())
        average.update()

    run = cr.compile(step) if compiled else step
    for _ in range(6):
        run(cr.tensor(x))
        b.zero_grad()
        (theirs(torch.tensor(x)) ** 2).sum().backward()
        b.step()
        reference.update_parameters(theirs)
    plain = ours(cr.tensor(x)).numpy()
    with average.applied():
        inside = ours(cr.tensor(x)).numpy()
    np.testing.assert_allclose(inside, reference(torch.tensor(x)).detach().numpy(), rtol=1e-9)
    np.testing.assert_array_equal(ours(cr.tensor(x)).numpy(), plain)
    assert decay == 0 or np.abs(inside - plain).max() > 1e-3


def test_weights_come_back_after_an_error() -> None:
    w = nn.Parameter([1.0])
    average = optim.ExponentialMovingAverage([w], 0.5)
    w.copy_([3.0])
    seen = []

    def fails() -> None:
        with average.applied():
            seen.append(w.item())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert seen == [1.0]
    assert w.item() == 3.0


def test_an_average_goes_on_from_its_state() -> None:
    w = nn.Parameter([1.0, 2.0])
    whole, first, second = (optim.ExponentialMovingAverage([w], 0.5) for _ in range(3))
    for step in range(6):
        w.copy_([step, -step])
        whole.update()
        if step < 3:
            first.update()
        if step == 3:
            second.load_state_dict(first.state_dict())
        if step >= 3:
            second.update()
    assert second.averages[0].tolist() == whole.averages[0].tolist()
    assert second.updates.item() == 6
    with pytest.raises(StateDictError, match=r"averages of shapes \[\(2,\)\], not \[\(1,\)\]"):
        optim.ExponentialMovingAverage([nn.Parameter([1.0])]).load_state_dict(whole.state_dict())
    with pytest.raises(OptionError, match="decay must be in 0 <= decay < 1"):
        optim.ExponentialMovingAverage([w], 1.0)
