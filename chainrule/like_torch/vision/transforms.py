"""``torchvision.transforms``: from an image to the numbers a network takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.errors import ShapeError
from chainrule.like_torch.missing import refuse
from chainrule.tensor.tensor import Tensor, tensor

__path__: list[str] = []


class Compose:
    """Transforms one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image

    def __repr__(self) -> str:
        return f"Compose({list(self.transforms)})"


class ToTensor:
    """A PIL image or array (height, width[, channels]) to a tensor (channels, height, width).

    uint8 is divided by 255 and becomes float32 in 0..1; other types keep their values.
    """

    def __call__(self, image: Any) -> Tensor:
        array = np.asarray(image)
        if array.ndim not in (2, 3):
            raise ShapeError(
                op="ToTensor", expected="an image with 2 or 3 axes", got=array.shape,
                mend="give it one image: (height, width) or (height, width, channels)",
            )  # fmt: skip
        array = np.moveaxis(np.atleast_3d(array), 2, 0)
        if array.dtype == np.uint8:
            array = array.astype(np.float32) / np.float32(255)
        made: Tensor = tensor(array)
        return made

    def __repr__(self) -> str:
        return "ToTensor()"


class Normalize:
    """(x - mean) / std, a mean and a std for each channel; x: (channels, height, width)."""

    def __init__(self, mean: Sequence[float] | float, std: Sequence[float] | float) -> None:
        self.mean = mean
        self.std = std

    def __call__(self, image: Tensor) -> Tensor:
        # With NumPy, at once: a sample is data, and small.
        array = image.numpy()
        mean, std = (
            np.asarray(value, array.dtype).reshape(-1, 1, 1) for value in (self.mean, self.std)
        )
        made: Tensor = tensor((array - mean) / std)
        return made

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


class Lambda:
    """Any function."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        self.lambd = lambd

    def __call__(self, image: Any) -> Any:
        return self.lambd(image)


__getattr__ = refuse(__name__)
