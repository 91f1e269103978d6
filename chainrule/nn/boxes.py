"""Boxes of object detection: overlap, losses made of it, and the choice among overlapping ones.

A box is (x1, y1, x2, y2), its corners, with x1 <= x2 and y1 <= y2; the last axis of a tensor has
these four numbers. Losses are 1 minus the overlap measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from chainrule.core.op import located
from chainrule.core.ops.angles import atan
from chainrule.errors import OptionError, ShapeError
from chainrule.tensor.functions import maximum, minimum, stack
from chainrule.tensor.tensor import Tensor, tensor, wrap

__all__ = ["area", "ciou", "corners", "giou", "iou", "nms", "pairwise_iou"]

TINY = 1e-7  # keeps quotients of empty boxes finite, as in torchvision


def _sides(boxes: Tensor) -> tuple[Tensor, ...]:
    if boxes.ndim < 1 or boxes.shape[-1] != 4:
        raise located(
            ShapeError(op="boxes", expected="4 numbers in the last axis", got=boxes.shape, mend="")
        )
    return tuple(boxes[..., i] for i in range(4))


def corners(boxes: Tensor) -> Tensor:
    """(centre x, centre y, width, height) to (x1, y1, x2, y2)."""
    x, y, w, h = _sides(boxes)
    return stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)


def area(boxes: Tensor) -> Tensor:
    """Width times height: (..., 4) to (...)."""
    x1, y1, x2, y2 = _sides(boxes)
    product: Tensor = (x2 - x1) * (y2 - y1)
    return product


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The areas that both boxes have, and that one of them has."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _sides(a), _sides(b)
    width = maximum(minimum(ax2, bx2) - maximum(ax1, bx1), 0.0)
    height = maximum(minimum(ay2, by2) - maximum(ay1, by1), 0.0)
    both: Tensor = width * height
    return both, area(a) + area(b) - both


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union, 0 to 1: the area that two boxes share, over all they cover.

    Shapes: a and b (..., 4) that stretch to each other, result (...).

    Example:
        >>> import chainrule as cr
        >>> round(iou(cr.tensor([0.0, 0.0, 2.0, 1.0]), cr.tensor([1.0, 0.0, 3.0, 1.0])).item(), 6)
        0.333333
    """
    both, either = _overlap(a, b)
    return both / (either + TINY)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each of ``a`` (n, 4) with each of ``b`` (m, 4): (n, m)."""
    return iou(a.unsqueeze(1), b.unsqueeze(0))


def _enclosing(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the smallest box around both."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _sides(a), _sides(b)
    return maximum(ax2, bx2) - minimum(ax1, bx1), maximum(ay2, by2) - minimum(ay1, by1)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """IoU - (what the enclosing box has besides both) / (enclosing box), -1 to 1.

    Unlike IoU it has a slope where the boxes do not meet.
    Source: Rezatofighi et al., "Generalized intersection over union", 2019.
    """
    both, either = _overlap(a, b)
    width, height = _enclosing(a, b)
    around = width * height
    return both / (either + TINY) - (around - either) / (around + TINY)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """IoU - (distance of the centres / enclosing diagonal)^2 - alpha v.

    v = 4 / pi^2 (atan(w_b / h_b) - atan(w_a / h_a))^2 compares the forms, and
    alpha = v / (1 - IoU + v) is taken as a number: no gradient flows through it.
    Source: Zheng et al., "Distance-IoU loss", 2020.
    """
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _sides(a), _sides(b)
    shared = iou(a, b)
    width, height = _enclosing(a, b)
    far = ((bx1 + bx2 - ax1 - ax2) / 2) ** 2 + ((by1 + by2 - ay1 - ay2) / 2) ** 2
    v = (4 / math.pi**2) * (_form(b) - _form(a)) ** 2
    alpha = (v / (1 - shared + v + TINY)).detach()
    return shared - far / (width**2 + height**2 + TINY) - alpha * v


def _form(boxes: Tensor) -> Tensor:
    """The angle of the diagonal: atan(width / height)."""
    x1, y1, x2, y2 = _sides(boxes)
    return wrap(atan(((x2 - x1) / (y2 - y1)).node))


OVERLAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"iou": iou, "giou": giou, "ciou": ciou}


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: of boxes that overlap too much, only the best one stays.

    From the best score down, a box is kept unless its IoU with a kept one is above the threshold.
    It needs the numbers, so it stands outside compiled steps.

    Args:
        boxes: (n, 4), corners.
        scores: (n,).
        iou_threshold: between 0 and 1.

    Returns:
        The indices of the boxes kept, best first, int64.

    Example:
        >>> import chainrule as cr
        >>> boxes = cr.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 5.0], [6.0, 6.0, 8.0, 8.0]])
        >>> nms(boxes, cr.tensor([0.8, 0.9, 0.3]), 0.5).tolist()
        [1, 2]
    """
    if not 0 <= iou_threshold <= 1:
        raise OptionError(name="iou_threshold", expected="between 0 and 1", got=iou_threshold)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise located(
            ShapeError(
                op="nms",
                expected="boxes (n, 4) and scores (n,)",
                got=f"{boxes.shape} and {scores.shape}",
                mend="",
            )
        )
    corner, score = boxes.numpy(), scores.numpy()
    size = (corner[:, 2] - corner[:, 0]) * (corner[:, 3] - corner[:, 1])
    left = np.argsort(-score, kind="stable")
    kept: list[int] = []
    while len(left):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        sides = np.minimum(corner[left, 2:], corner[best, 2:]) - np.maximum(
            corner[left, :2], corner[best, :2]
        )
        both = np.prod(np.maximum(sides, 0), axis=1)
        left = left[both <= iou_threshold * (size[left] + size[best] - both)]
    made: Tensor = tensor(np.array(kept, np.int64))
    return made
