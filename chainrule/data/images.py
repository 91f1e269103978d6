"""Photos as the arrays that networks take. A file is not trusted: its size is checked first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from chainrule.errors import DataError

Array = np.ndarray[Any, Any]

# Larger pictures are refused before they are unpacked: 64 million pixels take 192 MB.
MOST_PIXELS = 64_000_000


def photo(path: str | Path, side: int = 224, keep: float = 0.875) -> Array:
    """A photo, its middle square cut out and resized.

    Args:
        path: PNG, JPEG or another format that Pillow reads.
        side: width and height of the result in pixels.
        keep: share of the shorter side that the square keeps; 0.875 is ImageNet's custom.

    Returns:
        uint8, (side, side, 3): height, width, red green blue.

    Raises:
        DataError: the file is no picture, is damaged, or has more than :data:`MOST_PIXELS`.
    """
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
            upright = ImageOps.exif_transpose(opened).convert("RGB")
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
    square = keep * min(upright.size)
    left, top = ((length - square) / 2 for length in upright.size)
    middle = upright.resize(
        (side, side), Image.Resampling.BICUBIC, box=(left, top, left + square, top + square)
    )
    return np.asarray(middle)


def channels_first(photos: Array, mean: float = 127.0, scale: float = 128.0) -> Array:
    """uint8 (..., height, width, 3) to float32 (..., 3, height, width): (value - mean) / scale."""
    moved = np.moveaxis(photos, -1, -3).astype(np.float32)
    return (moved - np.float32(mean)) / np.float32(scale)
