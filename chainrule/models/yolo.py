"""A small detector of the YOLO family: one pass over the image gives all boxes.

The image is cut into cells; each cell predicts, for each anchor (a typical box size), where in the
cell the object's centre is, how its size differs from the anchor's, whether there is an object, and
of which class. Source: Redmon and Farhadi, "YOLO9000" (2016) and "YOLOv3" (2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule import nn
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import boxes as box_ops
from chainrule.nn import functional as F
from chainrule.tensor.functions import arange, cat, stack
from chainrule.tensor.tensor import Tensor, tensor

Array = np.ndarray[Any, Any]


class Predictions(NamedTuple):
    """What the network says about every anchor of every cell.

    Attributes:
        boxes: (batch, anchors, rows, columns, 4), corners in pixels.
        objectness: (batch, anchors, rows, columns), before the sigmoid.
        classes: (batch, anchors, rows, columns, num_classes), before the softmax.
    """

    boxes: Tensor
    objectness: Tensor
    classes: Tensor


class Detections(NamedTuple):
    """The objects found in one image, best first.

    Attributes:
        boxes: (n, 4), corners in pixels.
        scores: (n,), objectness times the probability of the class.
        classes: (n,), class numbers.
    """

    boxes: Array
    scores: Array
    classes: Array


class Truth(NamedTuple):
    """Where objects are: for every anchor of every cell, arrays as in :class:`Predictions`.

    Attributes:
        mask: 1 where an object belongs to the anchor, else 0.
        boxes: the object's corners in pixels; a unit box where there is none.
        classes: its class number; 0 where there is none.
    """

    mask: Array
    boxes: Array
    classes: Array


class Yolo(nn.Module):
    """Convolution, batch norm, leaky ReLU and max-pooling, again and again; then a 1 x 1 head.

    Args:
        num_classes: number of classes.
        anchors: typical (width, height) of objects in pixels.
        channels: of each convolution; each is followed by pooling, which halves the image.

    Shapes: input (batch, 3, height, width), output (batch, anchors * (5 + num_classes), rows,
    columns); rows = height / 2^(number of convolutions), and columns alike.

    Example:
        >>> import chainrule as cr
        >>> model = Yolo(4, [(20, 20), (40, 20), (20, 40)])
        >>> model(cr.ones(1, 3, 64, 64)).shape
        (1, 27, 4, 4)
    """

    def __init__(
        self,
        num_classes: int,
        anchors: Sequence[tuple[float, float]],
        channels: Sequence[int] = (16, 32, 64, 128),
    ) -> None:
        if not anchors or not channels:
            raise OptionError(name="anchors and channels", expected="at least one", got="none")
        self.num_classes = num_classes
        self.anchors = tuple((float(w), float(h)) for w, h in anchors)
        self.stride = 2 ** len(channels)
        layers: list[nn.Module] = []
        before = 3
        for width in channels:
            layers += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(0.1),
                nn.MaxPool2d(2),
            ]
            before = width
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Conv2d(before, len(self.anchors) * (5 + num_classes), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images to the raw numbers of every cell."""
        raw: Tensor = self.head(self.backbone(x))
        return raw

    def decode(self, raw: Tensor) -> Predictions:
        """The raw numbers t of every cell as boxes and scores.

        Centre: (cell + sigmoid(t)) stride; size: anchor exp(t).
        """
        batch, channels, rows, columns = raw.shape
        count = len(self.anchors)
        if channels != count * (5 + self.num_classes):
            raise ShapeError(
                op="decode",
                expected=f"{count * (5 + self.num_classes)} channels",
                got=raw.shape,
                mend="give it what the model returned",
            )
        split = raw.reshape(batch, count, 5 + self.num_classes, rows, columns)
        t = split.permute(0, 1, 3, 4, 2)
        x = (t[..., 0].sigmoid() + arange(columns).to(raw.dtype)) * self.stride
        y = (t[..., 1].sigmoid() + arange(rows).to(raw.dtype).unsqueeze(1)) * self.stride
        size = tensor(np.array(self.anchors), dtype=raw.dtype).reshape(1, count, 1, 1, 2)
        size = size * t[..., 2:4].exp()
        boxes = box_ops.corners(cat([stack([x, y], -1), size], -1))
        return Predictions(boxes, t[..., 4], t[..., 5:])

    def truth(self, targets: Sequence[Any], height: int, width: int) -> Truth:
        """Each object given to the cell of its centre and to the anchor most like it.

        Args:
            targets: for each image an array (n, 5): class, x1, y1, x2, y2 in pixels.
            height: of the images, in pixels.
            width: of the images, in pixels.

        Raises:
            ShapeError: an image's array is not (n, 5).
            OptionError: a class number or a box outside the image, or a box without area.
        """
        shape = (len(targets), len(self.anchors), height // self.stride, width // self.stride)
        mask, classes = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
        boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (*shape, 1))
        sizes = np.array(self.anchors)
        for image, given in enumerate(targets):
            objects = np.asarray(given, np.float64).reshape(-1, 5)
            self._check(objects, image, height, width)
            for kind, *corner in objects:
                x1, y1, x2, y2 = corner
                both = np.minimum(sizes, [x2 - x1, y2 - y1]).prod(axis=1)
                like = both / (sizes.prod(axis=1) + (x2 - x1) * (y2 - y1) - both)
                row = min(int((y1 + y2) / 2 / self.stride), shape[2] - 1)
                column = min(int((x1 + x2) / 2 / self.stride), shape[3] - 1)
                place = (image, int(like.argmax()), row, column)
                mask[place], boxes[place], classes[place] = 1, corner, int(kind)
        return Truth(mask, boxes, classes)

    def _check(self, objects: Array, image: int, height: int, width: int) -> None:
        kinds, low, high = objects[:, 0], objects[:, 1:3], objects[:, 3:]
        fits = (kinds >= 0) & (kinds < self.num_classes) & (high > low).all(axis=1)
        fits &= (low >= 0).all(axis=1) & (high <= [width, height]).all(axis=1)
        if not fits.all():
            at = int(np.argmin(fits))
            raise OptionError(
                name=f"object {at} of image {image}",
                expected=f"class 0 to {self.num_classes - 1} and x1 < x2, y1 < y2 "
                f"inside {width} x {height}",
                got=objects[at].tolist(),
            )

    def loss(self, raw: Tensor, truth: Truth) -> Tensor:
        """Boxes: 1 - CIoU; objectness: binary cross-entropy; classes: cross-entropy.

        Boxes and classes count where an object is (their mean over objects), objectness everywhere
        (its mean over all anchors of all cells).
        """
        found = self.decode(raw)
        mask = tensor(truth.mask, dtype=raw.dtype)
        count = mask.sum().clamp(min=1.0)
        apart = 1 - box_ops.ciou(found.boxes, tensor(truth.boxes, dtype=raw.dtype))
        kinds = tensor(truth.classes).reshape(-1)
        scores = found.classes.reshape(-1, self.num_classes)
        wrong = F.cross_entropy(scores, kinds, reduction="none").reshape(*mask.shape)
        where = F.binary_cross_entropy_with_logits(found.objectness, mask)
        total: Tensor = (apart * mask).sum() / count + where + (wrong * mask).sum() / count
        return total

    def detect(
        self, images: Tensor, threshold: float = 0.5, iou_threshold: float = 0.5
    ) -> list[Detections]:
        """The objects in each image: scores above ``threshold``, then NMS within each class."""
        found = self.decode(self(images))
        probability = found.objectness.sigmoid().unsqueeze(-1) * found.classes.softmax(-1)
        results = []
        for boxes, scores in zip(found.boxes.numpy(), probability.numpy(), strict=True):
            results.append(_chosen(boxes.reshape(-1, 4), scores, threshold, iou_threshold))
        return results


def _chosen(boxes: Array, scores: Array, threshold: float, iou_threshold: float) -> Detections:
    scores = scores.reshape(len(boxes), -1)
    kinds = scores.argmax(axis=1)
    best = scores[np.arange(len(boxes)), kinds]
    kept: list[int] = []
    for kind in np.unique(kinds):
        own = np.flatnonzero((kinds == kind) & (best > threshold))
        order = box_ops.nms(tensor(boxes[own]), tensor(best[own]), iou_threshold)
        kept += own[order.numpy()].tolist()
    kept.sort(key=lambda i: -best[i])
    return Detections(boxes[kept], best[kept], kinds[kept])
