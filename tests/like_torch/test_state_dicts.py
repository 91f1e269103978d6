"""``save`` and ``load``, and learning-rate schedulers against PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as oracle

import chainrule.like_torch as torch
from chainrule import errors
from chainrule.like_torch import nn, optim

# ------------------------------------------------------------------------------ save, load


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    optimizer.step(model(torch.ones(4, 3)).sum())
    saved = {
        "epoch": 3,
        "loss": float("nan"),
        "best": math.inf,
        "name": "模型",
        "done": False,
        "nothing": None,
        "history": [0.1, [0.2, 1]],
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
    }
    path = tmp_path / "check point.pt"
    torch.save(saved, path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    assert loaded.keys() == saved.keys()
    assert math.isnan(loaded["loss"])
    assert [loaded[key] for key in ("epoch", "best", "name", "done", "nothing", "history")] == [
        3,
        math.inf,
        "模型",
        False,
        None,
        [0.1, [0.2, 1]],
    ]
    for key, value in saved["model_state_dict"].items():
        assert isinstance(loaded["model_state_dict"][key], torch.Tensor)
        assert torch.equal(loaded["model_state_dict"][key], value)
    assert loaded["optimizer_state_dict"]["state"].keys() == {0, 1, 2, 3}
    assert [p.name for p in tmp_path.iterdir()] == ["check point.pt"]


@pytest.mark.parametrize("value", [torch.tensor([1, 2]), [torch.tensor(1.5)], 3])
def test_what_is_not_a_dict(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "x.pt")
    loaded = torch.load(tmp_path / "x.pt")
    assert type(loaded) is type(value)
    assert np.asarray(loaded).tolist() == np.asarray(value).tolist()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (lambda: nn.Linear(1, 1), "state_dict"),
        (lambda: {"model": nn.Linear(1, 1)}, r"\['model'\]"),
        (lambda: {"optimizer": optim.SGD(nn.Linear(1, 1).parameters())}, "state_dict"),
        (lambda: [1, {2}], r"set \(\[1\]\)"),
        (lambda: {(1, 2): 3}, "key"),
        (lambda: {"f": math.sin}, "builtin_function"),
        (lambda: {"o": np.array([None])}, "ndarray"),
    ],
)
def test_save_refuses_what_it_cannot_hold(
    tmp_path: Path, value: Callable[[], Any], says: str
) -> None:
    path = tmp_path / "x.pt"
    torch.save({"good": 1}, path)
    with pytest.raises(errors.CheckpointError, match=says):
        torch.save(value(), path)
    assert torch.load(path) == {"good": 1}


def test_load_refuses_foreign_and_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(errors.CheckpointError, match=r"x\.pt"):
        torch.load(path)
    oracle.save(oracle.nn.Linear(2, 2), path)
    with pytest.raises(errors.CheckpointError, match="nothing of this file was run"):
        torch.load(path)
    torch.save({"w": torch.ones(1000)}, path)
    whole = path.read_bytes()
    for part in (whole[:-7], whole[:20], b"", b"\xff" * 64):
        path.write_bytes(part)
        with pytest.raises(errors.CheckpointError):
            torch.load(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_load_reads_what_pytorch_wrote(tmp_path: Path, zipped: bool) -> None:
    model = oracle.nn.Linear(3, 2)
    checkpoint = {"epoch": 4, "model": model.state_dict(), "sizes": [3, 2]}
    path = tmp_path / "x.pt"
    oracle.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    loaded = torch.load(path)
    assert (loaded["epoch"], loaded["sizes"]) == (4, [3, 2])
    ours = nn.Linear(3, 2)
    ours.load_state_dict(loaded["model"])
    np.testing.assert_array_equal(ours.weight.numpy(), model.weight.detach().numpy())


# ------------------------------------------------------------------------------ schedulers

SCHEDULERS: dict[str, Callable[[Any, Any], Any]] = {
    "StepLR": lambda s, o: s.StepLR(o, step_size=3, gamma=0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, milestones=[2, 5], gamma=0.1),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, gamma=0.9),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, T_max=6, eta_min=0.01),
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda t: 1 / (1 + t)),
    "LambdaLR by group": lambda s, o: s.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (1 + t)]),
}


def optimizer_of(t: Any) -> Any:
    leaves = [t.ones(2, requires_grad=True) for _ in range(2)]
    return t.optim.SGD([{"params": [leaves[0]]}, {"params": [leaves[1]], "lr": 0.5}], lr=0.1)


def rates(t: Any, name: str) -> list[list[float]]:
    optimizer = optimizer_of(t)
    scheduler = SCHEDULERS[name](t.optim.lr_scheduler, optimizer)
    seen = [scheduler.get_last_lr()]
    for _ in range(10):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = t.ones(2)
        optimizer.step()
        scheduler.step()
        assert [group["lr"] for group in optimizer.param_groups] == scheduler.get_last_lr()
        seen.append(scheduler.get_last_lr())
    return seen


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_as_pytorch(name: str) -> None:
    np.testing.assert_allclose(rates(torch, name), rates(oracle, name), rtol=1e-12)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_as_pytorch(mode: str) -> None:
    metrics = [1.0, 0.9, 0.95, 0.91, 0.9001, 0.5, 0.6, 0.6, 0.6, 0.7, 0.4, 0.8]

    def seen(t: Any) -> list[float]:
        optimizer = optimizer_of(t)
        scheduler = t.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode=mode, factor=0.5, patience=1, min_lr=0.02
        )
        found = []
        for metric in metrics:
            scheduler.step(metric)
            found.append(optimizer.param_groups[0]["lr"])
        return found

    np.testing.assert_allclose(seen(torch), seen(oracle), rtol=1e-12)
    assert seen(torch)[-1] < 0.1


def test_a_scheduler_goes_on_from_its_state() -> None:
    optimizer = optimizer_of(torch)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=2)
    for _ in range(3):
        scheduler.step()
    state = scheduler.state_dict()
    other = optim.lr_scheduler.StepLR(optimizer_of(torch), step_size=2)
    other.load_state_dict(state)
    for one in (scheduler, other):
        one.step()
    assert other.get_last_lr() == scheduler.get_last_lr() == pytest.approx([0.001, 0.005])


def test_a_scheduler_needs_an_optimizer() -> None:
    with pytest.raises(errors.OptionError, match="an optimizer"):
        optim.lr_scheduler.StepLR(nn.Linear(1, 1), 3)
