"""Whole training steps of W3, W4 and W7 with fewer images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shuffled import shuffled

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.graph import Array
from chainrule.run.native.plan import Plan
from chainrule.run.native.task import Task
from chainrule.run.native.team import team

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from images import detector, digits, resnet20

pytestmark = pytest.mark.usefixtures("threads")

Make = Callable[[Any], nn.Module]
NETWORKS: dict[str, tuple[Make, tuple[int, ...], str]] = {
    "W3": (digits, (8, 1, 28, 28), "cross_entropy"),
    "W4": (resnet20, (8, 3, 32, 32), "cross_entropy"),
    "W7": (detector, (8, 3, 64, 64), "mse_loss"),
}


def run(name: str, executor: str, steps: int, lr: float = 1e-3) -> tuple[list[float], Any, Any]:
    """Losses, the compiled step, the model."""
    cr.set_executor(executor)
    cr.manual_seed(0)
    make, shape, loss_name = NETWORKS[name]
    model = make(nn)
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    rng = np.random.default_rng(0)
    images = rng.standard_normal(shape).astype(np.float32)
    target: Array = rng.integers(0, 10, shape[0])
    if loss_name == "mse_loss":
        target = rng.random((shape[0], 27, shape[2] // 16, shape[3] // 16)).astype(np.float32)

    def step(images: cr.Tensor, target: cr.Tensor) -> cr.Tensor:
        loss = getattr(nn.functional, loss_name)(model(images), target)
        loss.backward()
        optimizer.step()
        return loss

    compiled = cr.compile(step)
    losses = [compiled(images, target).item() for _ in range(steps)]
    return losses, (compiled, images, target), model


def weights(model: nn.Module) -> list[bytes]:
    return [x.numpy().tobytes() for x in model.state_dict().values()]


@pytest.mark.parametrize("name", NETWORKS)
def test_losses_follow_the_interpreter(name: str) -> None:
    found, (compiled, *_), _ = run(name, "native", 10)
    (entry,) = compiled._entries.values()
    assert isinstance(entry.plan, Plan)
    expected, _, _ = run(name, "interpreter", 10)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_bits_depend_neither_on_threads_nor_on_the_order_of_tiles(name: str) -> None:
    losses, _, model = run(name, "native", 4)
    for threads in (2, 3):
        team.set_threads(threads)
        again, _, other = run(name, "native", 4)
        assert again == losses
        assert weights(other) == weights(model)
    team.set_threads(1)
    first, (compiled, images, target), other = run(name, "native", 1)
    (entry,) = compiled._entries.values()
    for seed in range(3):
        with shuffled(entry.plan, seed):
            first.append(compiled(images, target).item())
    assert first == losses
    assert weights(other) == weights(model)


@pytest.mark.parametrize("name", NETWORKS)
def test_tasks_in_tandem_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, (compiled, *_), model = run(name, "native", 2)
    (entry,) = compiled._entries.values()
    tandems = [task for task in entry.plan.tasks if isinstance(task, Task) and task.parts]
    assert tandems
    assert all(task.tiles >= 8 for task in tandems)
    monkeypatch.setattr("chainrule.run.native.plan.in_tandem", list)
    again, (compiled, *_), other = run(name, "native", 2)
    (entry,) = compiled._entries.values()
    assert not any(task.parts for task in entry.plan.tasks if isinstance(task, Task))
    assert again == losses
    assert weights(other) == weights(model)


def test_normalised_activations_are_not_stored() -> None:
    cr.set_executor("native")
    cr.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.LeakyReLU())
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @cr.compile
    def step(x: cr.Tensor) -> cr.Tensor:
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    step(cr.rand(16, 3, 32, 32))
    (entry,) = step._entries.values()
    activation = 4 * 16 * 8 * 32 * 32
    # The convolution's result, and the gradient that comes back to it, through one sum each.
    assert entry.plan.memory < 3.2 * activation
