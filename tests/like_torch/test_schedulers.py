"""The schedulers that move a rate by hand, beside PyTorch's, and the momentum of one-cycle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as oracle

from chainrule import errors
from chainrule import like_torch as torch

SCHEDULERS: dict[str, Callable[[Any, Any], Any]] = {
    "ConstantLR": lambda s, o: s.ConstantLR(o, factor=0.3, total_iters=4),
    "LinearLR": lambda s, o: s.LinearLR(o, 0.1, 0.9, 6),
    "LinearLR defaults": lambda s, o: s.LinearLR(o),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, 8, 2.0),
    "PolynomialLR defaults": lambda s, o: s.PolynomialLR(o),
    "warm restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 4, eta_min=0.01),
    "warm restarts, longer": lambda s, o: s.CosineAnnealingWarmRestarts(o, 2, 2),
    "warm restarts, tripled": lambda s, o: s.CosineAnnealingWarmRestarts(o, 1, 3),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, max_lr=0.8, total_steps=15),
    "OneCycleLR linear": lambda s, o: s.OneCycleLR(
        o, [0.8, 0.2], epochs=3, steps_per_epoch=5, anneal_strategy="linear", pct_start=0.4
    ),
    "OneCycleLR divisors": lambda s, o: s.OneCycleLR(
        o, 0.8, 20, div_factor=5, final_div_factor=10, cycle_momentum=False
    ),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o,
        [s.LinearLR(o, 0.1, total_iters=4), s.CosineAnnealingLR(o, 6), s.ExponentialLR(o, 0.5)],
        milestones=[4, 9],
    ),
    "SequentialLR by group": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o), s.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (1 + t)])], [3]
    ),
}


def optimizer_of(t: Any, name: str) -> Any:
    leaves = [t.ones(2, requires_grad=True) for _ in range(2)]
    groups = [{"params": [leaves[0]]}, {"params": [leaves[1]], "lr": 0.5}]
    options = {"momentum": 0.9} if name == "SGD" else {}
    return getattr(t.optim, name)(groups, lr=0.1, **options)


def seen(t: Any, name: str, kind: str) -> list[list[float]]:
    optimizer = optimizer_of(t, kind)
    scheduler = SCHEDULERS[name](t.optim.lr_scheduler, optimizer)
    found = []
    for _ in range(15):
        groups = optimizer.param_groups
        assert [group["lr"] for group in groups] == scheduler.get_last_lr()
        momenta = [g["betas"][0] if kind == "Adam" else g["momentum"] for g in groups]
        found.append([*scheduler.get_last_lr(), *momenta])
        for group in groups:
            for p in group["params"]:
                p.grad = t.ones(2)
        optimizer.step()
        if len(found) < 15:
            scheduler.step()
    return found


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # within SequentialLR
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_as_pytorch(name: str, kind: str) -> None:
    ours, theirs = seen(torch, name, kind), seen(oracle, name, kind)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 0, "cooldown": 2},
        {"patience": 1, "threshold_mode": "abs", "threshold": 0.05},
        {"mode": "max", "patience": 2, "threshold_mode": "abs", "threshold": 0.2},
        {"patience": 0, "min_lr": 0.04, "factor": 0.7},
        {"patience": 0, "eps": 0.03},
    ],
)
def test_plateau(options: dict[str, Any]) -> None:
    metrics = [1.0, 0.9, 0.95, 0.91, 0.9001, 0.5, 0.6, 0.6, 0.6, 0.7, 0.4, 0.8, 0.8, 0.8]

    def rates(t: Any) -> list[list[float]]:
        scheduler = t.optim.lr_scheduler.ReduceLROnPlateau(optimizer_of(t, "SGD"), **options)
        found = []
        for metric in metrics:
            scheduler.step(metric)
            found.append(scheduler.get_last_lr())
        return found

    ours = rates(torch)
    np.testing.assert_allclose(ours, rates(oracle), rtol=1e-12)
    assert ours[-1][0] < 0.1


def test_plateau_goes_on_from_its_state() -> None:
    made = []
    for _ in range(2):
        optimizer = optimizer_of(torch, "SGD")
        made.append(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1))
    first, second = made
    first.step(1.0)
    first.step(2.0)
    second.load_state_dict(first.state_dict())
    second.step(2.0)
    assert second.get_last_lr() == pytest.approx([0.01, 0.05])


def test_options_are_looked_at() -> None:
    s, o = torch.optim.lr_scheduler, optimizer_of(torch, "SGD")
    with pytest.raises(errors.OptionError, match="total_steps must be given"):
        s.OneCycleLR(o, 0.1)
    with pytest.raises(errors.OptionError, match="three_phase must be False"):
        s.OneCycleLR(o, 0.1, 10, three_phase=True)
    with pytest.raises(errors.OptionError, match="milestones must be 0, one less"):
        s.SequentialLR(o, [s.ConstantLR(o)], [3])
    with pytest.raises(errors.OptionError, match="threshold_mode"):
        s.ReduceLROnPlateau(o, threshold_mode="relative")
    with pytest.raises(errors.OptionError, match="factor must be between 0 and 1"):
        s.ReduceLROnPlateau(o, factor=1.5)
    cycle = s.OneCycleLR(o, 0.1, 2)
    cycle.step()
    cycle.step()  # a program steps after its last batch too
    with pytest.raises(errors.OptionError, match="at most total_steps=2"):
        cycle.step()
