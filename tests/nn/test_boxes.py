"""Boxes: overlaps and their gradients against the papers' formulas in PyTorch, and NMS."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import boxes

RNG = np.random.default_rng(0)
LOW = RNG.uniform(0, 4, size=(2, 30, 2))
A, B = np.concatenate([LOW, LOW + RNG.uniform(0.5, 4, size=(2, 30, 2))], -1)


def reference(a: torch.Tensor, b: torch.Tensor, kind: str) -> torch.Tensor:
    sides = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    both = sides.prod(1)
    (wa, ha), (wb, hb) = ((x[:, 2:] - x[:, :2]).T for x in (a, b))
    union = wa * ha + wb * hb - both
    iou = both / (union + 1e-7)
    if kind == "iou":
        return iou
    around = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    if kind == "giou":
        return iou - (around.prod(1) - union) / (around.prod(1) + 1e-7)
    far = ((a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) ** 2).sum(1) / 4
    v = 4 / math.pi**2 * (torch.atan(wb / hb) - torch.atan(wa / ha)) ** 2
    with torch.no_grad():
        alpha = v / (1 - iou + v + 1e-7)
    return iou - far / ((around**2).sum(1) + 1e-7) - alpha * v


@pytest.mark.parametrize("kind", ["iou", "giou", "ciou"])
def test_overlaps(kind: str) -> None:
    ours = [cr.tensor(x, requires_grad=True) for x in (A, B)]
    theirs = [torch.tensor(x, requires_grad=True) for x in (A, B)]
    y, z = boxes.OVERLAPS[kind](*ours), reference(*theirs, kind)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-10, atol=1e-12)
    y.sum().backward()
    z.sum().backward()
    for x, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_equal_and_distant_boxes() -> None:
    one, far = cr.tensor([0.0, 0.0, 1.0, 1.0]), cr.tensor([3.0, 0.0, 4.0, 1.0])
    assert boxes.iou(one, one).item() == pytest.approx(1)
    assert boxes.iou(one, far).item() == 0
    assert boxes.giou(one, far).item() == pytest.approx(-0.5)  # 2 of 4 are empty
    assert boxes.ciou(one, far).item() == pytest.approx(-9 / 17)


def test_corners_and_pairs() -> None:
    made = boxes.corners(cr.tensor([[2.0, 3.0, 4.0, 2.0]]))
    assert made.tolist() == [[0.0, 2.0, 4.0, 4.0]]
    table = boxes.pairwise_iou(cr.tensor(A), cr.tensor(B[:7])).numpy()
    assert table.shape == (30, 7)
    expected = reference(torch.tensor(A[[4]]), torch.tensor(B[[6]]), "iou").item()
    assert table[4, 6] == pytest.approx(expected)


def slow_nms(corners: Any, scores: Any, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        overlaps = [
            reference(torch.tensor(corners[[i]]), torch.tensor(corners[[j]]), "iou") for j in kept
        ]
        if all(overlap <= threshold for overlap in overlaps):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.7, 1.0])
def test_nms(threshold: float) -> None:
    scores = RNG.uniform(size=30)
    found = boxes.nms(cr.tensor(A), cr.tensor(scores), threshold)
    assert found.tolist() == slow_nms(A, scores, threshold)
    assert found.dtype == np.int64


def test_nms_of_nothing_and_misfits() -> None:
    assert boxes.nms(cr.zeros(0, 4), cr.zeros(0), 0.5).tolist() == []
    with pytest.raises(OptionError):
        boxes.nms(cr.zeros(1, 4), cr.zeros(1), 1.5)
    with pytest.raises(ShapeError, match=r"test_boxes\.py"):
        boxes.nms(cr.zeros(1, 4), cr.zeros(2), 0.5)
    with pytest.raises(ShapeError, match=r"test_boxes\.py"):
        boxes.iou(cr.zeros(1, 3), cr.zeros(1, 3))
