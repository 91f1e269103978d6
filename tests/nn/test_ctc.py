"""CTC against PyTorch in float64, and against all paths counted one by one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import errors, nn


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


LABELS = np.array([[1, 2, 2], [3, 1, 0], [2, 0, 0]])
CASES: list[dict[str, Any]] = [
    {"targets": LABELS, "steps": [8, 8, 8], "counts": [3, 2, 1]},
    {"targets": LABELS, "steps": [8, 5, 3], "counts": [3, 2, 1]},
    {"targets": np.array([1, 2, 2, 3, 1, 2]), "steps": [8, 7, 1], "counts": [3, 2, 1]},
    {"targets": LABELS, "steps": [8, 8, 8], "counts": [2, 0, 1]},
    {"targets": LABELS[:, :2], "steps": [6, 4, 4], "counts": [2, 2, 1], "blank": 4},
    # Three labels, two of them equal, need four steps: impossible in three.
    {"targets": LABELS, "steps": [3, 8, 8], "counts": [3, 2, 1], "zero_infinity": True},
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_values_and_gradients(case: dict[str, Any], reduction: str) -> None:
    """PyTorch's slope is right only behind log_softmax, so the scores before it are compared."""
    options: dict[str, Any] = {key: case[key] for key in ("blank", "zero_infinity") if key in case}
    options["reduction"] = reduction
    scores = normal(8, 3, 5)
    ours = cr.tensor(scores, requires_grad=True)
    theirs = torch.tensor(scores, requires_grad=True)
    loss = nn.CTCLoss(**options)(
        ours.log_softmax(-1), cr.tensor(case["targets"]), case["steps"], case["counts"]
    )
    expected = torch.nn.CTCLoss(**options)(
        theirs.log_softmax(-1), torch.tensor(case["targets"]),
        torch.tensor(case["steps"]), torch.tensor(case["counts"]),
    )  # fmt: skip
    np.testing.assert_allclose(loss.numpy(), expected.detach().numpy(), rtol=1e-9)
    loss.sum().backward()
    expected.sum().backward()
    assert ours.grad is not None
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-8, atol=1e-12)


def spelled(path: tuple[int, ...]) -> list[int]:
    return [symbol for symbol, _ in itertools.groupby(path) if symbol]


@pytest.mark.parametrize("labels", [[1], [1, 1], [2, 1], [1, 2, 1], []])
def test_every_path_is_counted(labels: list[int]) -> None:
    log_probs = cr.tensor(normal(4, 3)).log_softmax(-1)
    p = np.exp(log_probs.numpy())
    total = sum(
        np.prod([p[t, symbol] for t, symbol in enumerate(path)])
        for path in itertools.product(range(3), repeat=4)
        if spelled(path) == labels
    )
    targets = cr.tensor(np.array(labels or [1]))
    loss = nn.functional.ctc_loss(log_probs, targets, 4, len(labels), reduction="none")
    assert loss.shape == ()
    assert loss.item() == pytest.approx(-np.log(total), rel=1e-10)


def test_impossible_labels_cost_infinity_and_teach_nothing() -> None:
    scores = cr.tensor(normal(2, 1, 4), requires_grad=True)
    loss = nn.functional.ctc_loss(scores.log_softmax(-1), cr.tensor([[1, 2, 3]]), [2], [3])
    assert loss.item() == float("inf")
    zero = nn.CTCLoss(zero_infinity=True)(scores.log_softmax(-1), cr.tensor([[1, 2, 3]]), [2], [3])
    zero.backward()
    assert scores.grad is not None
    assert not scores.grad.numpy().any()


def test_probabilities_of_zero() -> None:
    log_probs = normal(5, 2, 4) - 1
    log_probs[1:3, :, 0] = -np.inf
    log_probs[:, 1, 2] = -np.inf
    labels, steps, counts = np.array([[1, 2], [1, 2]]), np.array([5, 5]), np.array([2, 2])
    ours, theirs = (
        loss(kind(log_probs), kind(labels), kind(steps), kind(counts), reduction="none")
        for loss, kind in [
            (nn.functional.ctc_loss, cr.tensor),
            (torch.nn.functional.ctc_loss, torch.tensor),
        ]
    )
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9)
    assert ours.numpy()[1] == np.inf


def test_the_derivative_is_its_own_as_well() -> None:
    """Of log_probs themselves, where PyTorch's is not the derivative of its value."""
    targets, steps, counts = cr.tensor(LABELS), [6, 5, 4], [3, 2, 1]
    assert cr.gradcheck(
        lambda x: nn.functional.ctc_loss(x, targets, steps, counts), normal(6, 3, 4) - 2
    )


def test_compiled() -> None:
    x, y = cr.tensor(normal(8, 3, 5)).log_softmax(-1), cr.tensor(np.array([1, 2, 2, 3, 1, 2]))
    steps, counts = cr.tensor([8, 7, 4]), cr.tensor([3, 2, 1])
    compiled = cr.compile(nn.functional.ctc_loss)(x, y, steps, counts)
    expected = nn.functional.ctc_loss(x, y, steps, counts)
    assert compiled.item() == pytest.approx(expected.item(), rel=1e-12)


def test_refusals() -> None:
    x = cr.zeros(4, 2, 3)
    with pytest.raises(errors.OptionError, match=r"blank must be a class in 0\.\.2"):
        nn.functional.ctc_loss(x, cr.tensor([[1], [2]]), [4, 4], [1, 1], blank=3)
    with pytest.raises(errors.ShapeError, match="2 lengths"):
        nn.functional.ctc_loss(x, cr.tensor([[1], [2]]), [4], [1, 1])
    with pytest.raises(errors.ShapeError, match=r"\(time, batch, classes\)"):
        nn.functional.ctc_loss(cr.zeros(3), cr.tensor([1]), [3], [1])
