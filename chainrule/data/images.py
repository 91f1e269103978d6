"""Photos as the arrays that networks take. A file is not trusted: its size is checked first."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.errors import DataError, OptionError

Array = np.ndarray[Any, Any]

# Larger pictures are refused before they are unpacked: 64 million pixels take 192 MB.
MOST_PIXELS = 64_000_000


def photo(path: str | Path, side: int = 224, keep: float = 0.875) -> Array:
    """A photo, resized until its shorter side is side / keep, and its middle square cut out.

    So are photos prepared where networks are measured on ImageNet. Only the square is computed:
    resizing a strip of 64,000,000 x 1 pixels as a whole would take 50 gigabytes.

    Args:
        path: PNG, JPEG or another format that Pillow reads, with 8 bits per channel.
        side: width and height of the result in pixels.
        keep: share of the shorter side that the square keeps; 0.875 is ImageNet's custom.

    Returns:
        uint8, (side, side, 3): height, width, red green blue.

    Raises:
        DataError: the file is no picture, is damaged, has more than :data:`MOST_PIXELS`, or has
            more than 8 bits per channel.
        OptionError: keep is not above 0 and at most 1.
    """
    from PIL import Image

    if not 0 < keep <= 1:
        raise OptionError(name="keep", expected="above 0 and at most 1", got=keep)
    upright = _upright(path)
    ends: list[tuple[float, float]] = []
    for length in upright.size:
        resized = round(length * round(side / keep) / min(upright.size))
        first = (resized - side) // 2  # whole pixels of the resized photo
        ends.append((first * length / resized, (first + side) * length / resized))
    (left, right), (top, bottom) = ends
    bicubic = Image.Resampling.BICUBIC
    return np.asarray(upright.resize((side, side), bicubic, box=(left, top, right, bottom)))


def _upright(path: str | Path) -> Any:
    """The whole picture, red green blue, turned as its camera was held."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            width, height = opened.size
            if width * height > MOST_PIXELS:
                raise DataError(
                    path=path,
                    problem=f"{width} x {height} pixels are more than {MOST_PIXELS}",
                    problem_zh=f"{width} x {height} 像素,超过 {MOST_PIXELS}",
                    mend="make it smaller first",
                    mend_zh="请先缩小图片",
                )
            if opened.mode[0] in "IF":  # Pillow would cut these values off at 255
                raise DataError(
                    path=path,
                    problem="more than 8 bits per channel",
                    problem_zh="每通道超过 8 位",
                    mend="save it with 8 bits per channel; how to scale its values is yours to say",
                    mend_zh="请另存为每通道 8 位;如何缩放数值由您决定",
                )
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            path=path,
            problem=f"not a picture that can be read ({error})",
            problem_zh=f"不是可读的图片({error})",
            mend="PNG and JPEG work",
            mend_zh="支持 PNG 和 JPEG",
        ) from None


def channels_first(photos: Array, mean: float = 127.0, scale: float = 128.0) -> Array:
    """uint8 (..., height, width, 3) to float32 (..., 3, height, width): (value - mean) / scale."""
    moved = np.moveaxis(photos, -1, -3).astype(np.float32)
    return (moved - np.float32(mean)) / np.float32(scale)


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, in the order of a network's scores.

    Each name is WordNet's list of words for the thing; the crane that flies and the one
    that lifts share one.

    Example:
        >>> imagenet_classes()[967], imagenet_classes()[282]
        ('espresso', 'tiger cat')
    """
    text = resources.files("chainrule.data").joinpath("files/imagenet_classes.txt")
    return tuple(text.read_text("utf-8").splitlines())
