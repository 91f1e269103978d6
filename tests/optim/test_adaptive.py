"""Adaptive optimizers beside PyTorch in float64; Lion beside the formulas of its paper."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_optimizers import Pair

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import OptionError

CASES = {
    "SGD": [{"maximize": True}, {"maximize": True, "momentum": 0.9, "weight_decay": 0.1}],
    "Adam": [
        {"amsgrad": True},
        {"amsgrad": True, "betas": (0.5, 0.6)},
        {"maximize": True},
        {"amsgrad": True, "weight_decay": 0.1},
        {"maximize": True, "weight_decay": 0.1},
    ],
    "AdamW": [
        {"amsgrad": True},
        {"amsgrad": True, "betas": (0.5, 0.6)},
        {"maximize": True},
        {"maximize": True, "weight_decay": 0.3},
        {"amsgrad": True, "weight_decay": 0.0},
    ],
    "Adagrad": [
        {},
        {"lr_decay": 0.1},
        {"weight_decay": 0.1},
        {"initial_accumulator_value": 0.5, "eps": 1e-3},
        {"maximize": True, "lr_decay": 0.01},
    ],
    "RMSprop": [
        {},
        {"alpha": 0.5, "eps": 1e-3},
        {"momentum": 0.9},
        {"centered": True},
        {"centered": True, "momentum": 0.8, "weight_decay": 0.1},
        {"maximize": True, "weight_decay": 0.1},
    ],
    "Adadelta": [
        {},
        {"rho": 0.5},
        {"eps": 1e-2},
        {"weight_decay": 0.1},
        {"maximize": True, "rho": 0.99},
    ],
    "Adamax": [
        {},
        {"betas": (0.5, 0.6)},
        {"eps": 1e-2},
        {"weight_decay": 0.1},
        {"maximize": True},
    ],
    "NAdam": [
        {},
        {"betas": (0.5, 0.6), "eps": 1e-3},
        {"momentum_decay": 0.1},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"maximize": True},
    ],
    "RAdam": [
        {},  # rho passes 5 at step 6
        {"betas": (0.5, 0.6), "eps": 1e-3},
        {"betas": (0.9, 0.9)},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"maximize": True},
    ],
}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """PyTorch keeps NAdam's product of momenta in its default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name, all in CASES.items() for options in all]
)
def test_twelve_steps(name: str, options: dict[str, Any]) -> None:
    pair = Pair(name, **options)
    for _ in range(12):
        pair.step()
        pair.check()


@pytest.mark.parametrize("name", CASES)
def test_defaults_and_keywords_are_pytorchs(name: str) -> None:
    import inspect

    ours = inspect.signature(getattr(optim, name)).parameters
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    for word, parameter in ours.items():
        assert parameter.default == theirs[word].default, word
    positional = [word for word, p in ours.items() if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert positional == list(theirs)[: len(positional)]


@pytest.mark.parametrize("name", CASES)
def test_groups_have_their_own_options(name: str) -> None:
    groups = [{"lr": 0.01, "weight_decay": 0.2}, {"weight_decay": 0.0}]
    if "eps" in torch.optim.__dict__[name]([torch.ones(1)]).defaults:
        groups[1]["eps"] = 1e-2
    pair = Pair(name, groups)
    for _ in range(8):
        pair.step()
    pair.check()


@pytest.mark.parametrize("name", ["Adagrad", "Adamax", "NAdam", "RAdam"])
def test_a_parameter_that_joins_late_starts_at_its_own_first_step(name: str) -> None:
    pair = Pair(name)
    for _ in range(7):
        pair.step(used=(0,))
    for _ in range(4):
        pair.step()
    pair.check()


@pytest.mark.parametrize("name", CASES)
def test_pytorchs_state_is_understood(name: str) -> None:
    options = CASES[name][-1]
    pair = Pair(name, **options)
    for _ in range(3):
        pair.step()
    fresh = Pair(name, **options)
    for a, b in zip(fresh.ours, pair.ours, strict=True):
        a.copy_(b)
    for a, b in zip(fresh.theirs, pair.theirs, strict=True):
        a.data.copy_(b.data)
    fresh.optimizer.load_state_dict(pair.reference.state_dict())
    fresh.reference.load_state_dict(pair.reference.state_dict())
    for _ in range(3):
        fresh.step()
    fresh.check()


@pytest.mark.parametrize("name", [*CASES, "Lion"])
def test_compiled_steps_are_the_same(name: str) -> None:
    made = []
    for compiled in (False, True):
        w = nn.Parameter(np.array([1.0, -2.0]))
        optimizer = getattr(optim, name)([w], lr=0.05)

        def step(w: Any = w, optimizer: Any = optimizer) -> None:
            optimizer.step((w * w).sum())

        run = cr.compile(step) if compiled else step
        for _ in range(7):
            run()
        made.append(w.numpy())
    np.testing.assert_allclose(made[0], made[1], rtol=1e-12)


# ------------------------------------------------------------------------------ Lion


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"betas": (0.5, 0.7)},
        {"betas": (0.95, 0.98), "weight_decay": 0.3},
        {"weight_decay": 1.0},
        {"maximize": True},
    ],
)
def test_lion(options: dict[str, Any]) -> None:
    """Algorithm 2 of Chen et al., 2023."""
    beta1, beta2 = options.get("betas", (0.9, 0.99))
    decay, sense = options.get("weight_decay", 0.0), -1 if options.get("maximize") else 1
    start = np.array([1.0, -2.0, 0.5, 0.0])
    w = nn.Parameter(start)
    optimizer = optim.Lion([w], lr=0.05, **options)
    theta, m = start, np.zeros(4)
    for t in range(12):
        optimizer.step(((w - np.cos(t)) ** 2).sum())
        g = sense * 2 * (theta - np.cos(t))
        c = beta1 * m + (1 - beta1) * g
        theta = theta - 0.05 * (np.sign(c) + decay * theta)
        m = beta2 * m + (1 - beta2) * g
        np.testing.assert_allclose(w.numpy(), theta, rtol=1e-12)


# ------------------------------------------------------------------------------ accumulation


@pytest.mark.parametrize("name", ["SGD", "AdamW", "NAdam", "RMSprop"])
@pytest.mark.parametrize("every", [1, 3])
def test_accumulation_is_a_larger_batch(name: str, every: int) -> None:
    """Against PyTorch's own way: several backward passes of the mean, then one step."""
    pair = Pair(name, weight_decay=0.1)
    optim.accumulate(pair.optimizer, every)
    for _ in range(4):
        pair.reference.zero_grad()
        for _ in range(every):
            pair.backward()
            pair.optimizer.step()
        for p in pair.theirs:
            p.grad /= every
        pair.reference.step()
        pair.check()


def test_nothing_moves_in_between() -> None:
    w = nn.Parameter([1.0])
    optimizer = optim.accumulate(optim.AdamW([w], lr=0.1), every=3)
    moved = []
    for _ in range(6):
        before = w.item()
        optimizer.step((w * w).sum())
        moved.append(w.item() != before)
    assert moved == [False, False, True, False, False, True]


def test_accumulation_goes_on_after_loading() -> None:
    whole, first, second = (
        (w, optim.accumulate(optim.Adam([w], lr=0.1), every=3))
        for w in (nn.Parameter([1.0]) for _ in range(3))
    )
    for (w, optimizer), steps in ((whole, 8), (first, 4)):
        for _ in range(steps):
            optimizer.step((w * w).sum())
    second[0].copy_(first[0])
    second[1].load_state_dict(first[1].state_dict())
    for _ in range(4):
        second[1].step((second[0] * second[0]).sum())
    assert second[0].item() == whole[0].item()


def test_a_group_that_comes_later_accumulates_too() -> None:
    w, v = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.accumulate(optim.SGD([w], lr=0.1), every=2)
    optimizer.add_param_group({"params": [v]})
    optimizer.step((w * v).sum())
    assert (w.item(), v.item()) == (1.0, 1.0)


def test_pickles() -> None:
    for name in (*CASES, "Lion"):
        w = nn.Parameter([1.0])
        optimizer = optim.accumulate(getattr(optim, name)([w], lr=0.1), 1)
        optimizer.step(w.sum())
        again, copied = pickle.loads(pickle.dumps((w, optimizer)))
        optimizer.step(w.sum())
        copied.step(again.sum())
        assert again.item() == w.item(), name


# ------------------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Adagrad", {"lr_decay": -1}, "lr_decay must be 0 or more, but got -1"),
        ("RMSprop", {"momentum": -1}, "momentum must be 0 or more"),
        ("Adadelta", {"rho": 2}, "rho must be in 0 <= rho <= 1, but got 2"),
        ("NAdam", {"betas": (0.9, 1.0)}, "beta2 must be in 0 <= beta < 1"),
        ("Lion", {"betas": (1.0, 0.9)}, "beta1 must be in 0 <= beta < 1"),
    ],
)
def test_options_that_can_not_train(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        getattr(optim, name)([nn.Parameter([1.0])], **options)


def test_accumulation_that_comes_too_late() -> None:
    w = nn.Parameter([1.0])
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    with pytest.raises(OptionError, match="every must be at least 1 step, but got 0"):
        optim.accumulate(optimizer, 0)
    optimizer.step(w.sum())
    with pytest.raises(OptionError, match="called before the first step"):
        optim.accumulate(optimizer, 2)
