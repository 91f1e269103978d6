"""Optimizers, schedules and clipping: twenty steps beside PyTorch in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import BackwardError, NoGradientError, OptionError, StateDictError

SGD_OPTIONS = [
    {"momentum": m, "dampening": d, "weight_decay": w, "nesterov": n}
    for m, d, w, n in itertools.product((0, 0.9), (0, 0.3), (0, 0.05), (False, True))
    if not (n and (d or not m)) and not (d and not m)
]
CASES = [
    *(("SGD", options) for options in SGD_OPTIONS),
    ("Adam", {}),
    ("Adam", {"betas": (0.8, 0.9), "eps": 1e-4, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"betas": (0.5, 0.99), "weight_decay": 0.0}),
]


class Pair:
    """The same two parameters and losses in both libraries."""

    def __init__(
        self, name: str, groups: list[dict[str, Any]] | None = None, **options: Any
    ) -> None:
        start = [np.array([1.0, -2.0, 0.5]), np.array([[0.3], [-0.7]])]
        self.ours = [nn.Parameter(a) for a in start]
        self.theirs = [torch.nn.Parameter(torch.tensor(a)) for a in start]
        own = groups or [{}, {}]
        self.optimizer = getattr(optim, name)(
            [{"params": [p], **g} for p, g in zip(self.ours, own, strict=True)], lr=0.05, **options
        )
        self.reference = getattr(torch.optim, name)(
            [{"params": [p], **g} for p, g in zip(self.theirs, own, strict=True)],
            lr=0.05,
            **options,
        )
        self.t = 0

    def backward(self, used: tuple[int, ...] = (0, 1)) -> None:
        """A loss that changes with the step, of some of the parameters."""
        self.t += 1
        shift = float(np.cos(self.t))
        for ps, m in ((self.ours, cr), (self.theirs, torch)):
            parts = [((ps[0] - shift) ** 2).sum() + m.exp(-ps[0]).sum(), m.sin(ps[1] + shift).sum()]
            sum(parts[i] for i in used).backward()

    def step(self, used: tuple[int, ...] = (0, 1)) -> None:
        self.reference.zero_grad()
        self.backward(used)
        self.optimizer.step()
        self.reference.step()

    def check(self) -> None:
        for a, b in zip(self.ours, self.theirs, strict=True):
            np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_twenty_steps(name: str, options: dict[str, Any]) -> None:
    pair = Pair(name, **options)
    for _ in range(20):
        pair.step()
        pair.check()


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_groups_have_their_own_options(name: str) -> None:
    pair = Pair(name, [{"lr": 0.01, "weight_decay": 0.2}, {"weight_decay": 0.0}])
    for _ in range(20):
        pair.step()
    pair.check()
    group = pair.optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.01, 0.2)
    assert group["params"] == [pair.ours[0]]


def test_a_momentum_group_beside_a_plain_one() -> None:
    pair = Pair("SGD", [{"momentum": 0.9, "dampening": 0.2}, {}])
    for _ in range(20):
        pair.step()
    pair.check()


@pytest.mark.parametrize(
    ("name", "options"),
    [("Adam", {}), ("AdamW", {}), ("SGD", {"momentum": 0.9, "dampening": 0.5})],
)
def test_a_parameter_that_joins_late_starts_at_its_own_first_step(
    name: str, options: dict[str, Any]
) -> None:
    pair = Pair(name, **options)
    for _ in range(10):
        pair.step(used=(0,))
    for _ in range(5):
        pair.step()
    pair.check()


def test_gradient_accumulation() -> None:
    pair = Pair("Adam")
    for _ in range(5):
        pair.reference.zero_grad()
        pair.backward()
        pair.backward()
        pair.optimizer.step()
        pair.reference.step()
    pair.check()


def test_changing_the_rate() -> None:
    pair = Pair("SGD", momentum=0.5)
    for lr in (0.1, 0.01, 0.0):
        pair.optimizer.lr = lr
        for group in pair.reference.param_groups:
            group["lr"] = lr
        pair.step()
    pair.check()
    assert pair.optimizer.lr == 0.0
    assert dict(pair.optimizer.param_groups[0]).keys() == {
        "lr", "momentum", "dampening", "weight_decay"
    }  # fmt: skip


def test_what_was_made_without_momentum_can_not_get_it() -> None:
    pair = Pair("SGD")
    pair.optimizer.param_groups[0]["momentum"] = 0
    with pytest.raises(OptionError, match="momentum must be 0, as when the optimizer was made"):
        pair.optimizer.param_groups[0]["momentum"] = 0.9


# ------------------------------------------------------------------------------ schedules


@pytest.mark.parametrize(
    ("schedule", "scheduler", "options"),
    [
        (optim.step_decay(0.1, 3, 0.5), "StepLR", {"step_size": 3, "gamma": 0.5}),
        (optim.step_decay(0.1, 7), "StepLR", {"step_size": 7}),
        (optim.cosine(0.1, 20), "CosineAnnealingLR", {"T_max": 20}),
        (optim.cosine(0.1, 15, 0.01), "CosineAnnealingLR", {"T_max": 15, "eta_min": 0.01}),
        (optim.constant(0.1), "ConstantLR", {"factor": 1.0}),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_schedules(schedule: Any, scheduler: str, options: dict[str, Any], compiled: bool) -> None:
    w = nn.Parameter(np.array([1.0]))
    v = torch.nn.Parameter(torch.tensor([1.0]).double())
    optimizer = optim.SGD([w], lr=schedule)
    reference = torch.optim.SGD([v], lr=0.1)
    rates = getattr(torch.optim.lr_scheduler, scheduler)(reference, **options)
    step: Any = lambda: optimizer.step((w * w).sum())  # noqa: E731
    step = cr.compile(step) if compiled else step
    for _ in range(options.get("T_max", 20)):
        assert optimizer.lr == pytest.approx(reference.param_groups[0]["lr"], rel=1e-12, abs=1e-15)
        step()
        reference.zero_grad()
        (v * v).sum().backward()
        reference.step()
        rates.step()
    np.testing.assert_allclose(w.numpy(), v.detach().numpy(), rtol=1e-12)


def test_cosine_stays_at_its_end() -> None:
    schedule = optim.cosine(1.0, 4, 0.1)
    assert schedule(cr.tensor(9.0, cr.float64)).item() == pytest.approx(0.1)
    with pytest.raises(OptionError, match="at least 1 step"):
        optim.cosine(1.0, 0)


# ------------------------------------------------------------------------------ saving


@pytest.mark.parametrize(
    ("name", "options"),
    [("SGD", {"momentum": 0.9}), ("Adam", {"weight_decay": 0.1}), ("AdamW", {})],
)
def test_a_saved_state_goes_on_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    whole, first = Pair(name, **options), Pair(name, **options)
    for pair, steps in ((whole, 10), (first, 4)):
        for _ in range(steps):
            pair.step()
    second = Pair(name, **options)
    second.optimizer.lr = 77.0
    for a, b in zip(second.ours, first.ours, strict=True):
        a.copy_(b)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.t = first.t
    for _ in range(6):
        second.step()
    assert [p.tolist() for p in second.ours] == [p.tolist() for p in whole.ours]


def test_a_schedule_goes_on_after_loading() -> None:
    made = []
    for _ in range(2):
        w = nn.Parameter([1.0])
        made.append((w, optim.SGD([w], lr=optim.step_decay(0.1, 2))))
    (w, optimizer), (_, other) = made
    for _ in range(3):
        optimizer.step((w * w).sum())
    other.load_state_dict(optimizer.state_dict())
    assert other.lr == optimizer.lr == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_pytorchs_state_is_understood(name: str) -> None:
    pair = Pair(name)
    for _ in range(3):
        pair.step()
    fresh = Pair(name)
    for a, b in zip(fresh.ours, pair.ours, strict=True):
        a.copy_(b)
    for a, b in zip(fresh.theirs, pair.theirs, strict=True):
        a.data.copy_(b.data)
    fresh.optimizer.load_state_dict(pair.reference.state_dict())
    fresh.reference.load_state_dict(pair.reference.state_dict())
    for _ in range(3):
        fresh.step()
    fresh.check()


def test_a_state_that_does_not_fit() -> None:
    state = Pair("Adam").optimizer.state_dict()
    with pytest.raises(StateDictError, match=r"groups of \[1, 1\] parameters, not \[1\]"):
        optim.Adam([nn.Parameter([1.0])]).load_state_dict(state)


# ------------------------------------------------------------------------------ clipping


@pytest.mark.parametrize("bound", [0.1, 3.0, 1000.0])
def test_clipping(bound: float) -> None:
    for name in ("clip_grad_norm_", "clip_grad_value_"):
        pair = Pair("SGD")
        pair.backward()
        ours = getattr(nn.utils, name)(pair.ours, bound)
        theirs = getattr(torch.nn.utils, name)(pair.theirs, bound)
        if name == "clip_grad_norm_":
            assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
        for a, b in zip(pair.ours, pair.theirs, strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12)
        pair.optimizer.step()
        pair.reference.step()
        pair.check()


def test_clipping_without_gradients() -> None:
    assert nn.utils.clip_grad_norm_(nn.Parameter([1.0]), 1.0).item() == 0


# ------------------------------------------------------------------------------ messages


def test_a_step_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair("SGD")
    with pytest.raises(NoGradientError) as caught:
        pair.optimizer.step()
    assert str(caught.value) == (
        "optimizer.step(): no parameter has a gradient.\n"
        "  Mend: call loss.backward() before it, on a loss computed with this model's parameters; "
        "each step consumes the gradients"
    )
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    assert str(caught.value).startswith("optimizer.step():没有任何参数带有梯度")
    monkeypatch.delenv("CHAINRULE_LANG")
    pair.step()
    with pytest.raises(NoGradientError):
        pair.optimizer.step()  # the gradients were consumed


def test_a_second_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    w = nn.Parameter([3.0])
    loss = (w * w).sum()
    loss.backward()
    with pytest.raises(BackwardError) as caught:
        loss.backward()
    line = caught.value.source.line
    assert str(caught.value) == (
        f"test_optimizers.py:{line}: this loss was already back-propagated; a second backward() "
        "would add the same gradients again.\n"
        "  Mend: compute the loss anew in every step, and call backward() once on it; if doubling "
        "is what you want, the first call is loss.backward(retain_graph=True)."
    )
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    assert "这个损失已经反向传播过" in str(caught.value)
    assert w.grad.tolist() == [6]


def test_step_with_a_loss_does_both() -> None:
    w = nn.Parameter([3.0])
    optim.SGD([w], lr=0.5).step((w * w).sum())
    assert w.tolist() == [0]
    assert w.grad is None


def test_zero_grad_forgets() -> None:
    pair = Pair("SGD")
    pair.backward()
    pair.optimizer.zero_grad()
    with pytest.raises(NoGradientError):
        pair.optimizer.step()


def test_what_is_no_parameter() -> None:
    with pytest.raises(OptionError, match="at least one parameter, but got none"):
        optim.SGD([], lr=0.1)
    with pytest.raises(OptionError, match=r"parameter 0 must be an nn\.Parameter"):
        optim.SGD([cr.ones(1)], lr=0.1)
    with pytest.raises(OptionError, match="did you mean weight_decay"):
        optim.SGD([{"params": [nn.Parameter([1.0])], "wieght_decay": 1}], lr=0.1)
    w = nn.Parameter([1.0])
    with pytest.raises(OptionError, match="each in one group only, but got 1 that"):
        optim.SGD([{"params": [w]}, {"params": [w]}], lr=0.1)
    assert optim.SGD([w, w], lr=0.1).param_groups[0]["params"] == [w]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"lr": -1}, "lr must be 0 or more, but got -1"),
        ("SGD", {"nesterov": True}, "nesterov must be used with momentum > 0"),
        ("Adam", {"betas": (1.0, 0.9)}, "beta1 must be in 0 <= beta < 1"),
        ("AdamW", {"eps": -1e-8}, "eps must be 0 or more"),
    ],
)
def test_options_that_can_not_train(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        getattr(optim, name)([nn.Parameter([1.0])], **options)
