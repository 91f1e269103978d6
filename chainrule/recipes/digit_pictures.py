"""Digits and what a network reads in them: as a PNG, and in characters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.data import ImageSet

Array = np.ndarray[Any, Any]

# From dark to bright; the second for consoles that have no blocks.
_BLOCKS = " ░▒▓█"
_ASCII = " .:*#"

_RIGHT = (40, 130, 60)
_WRONG = (200, 30, 30)


def selected(labels: Array, predictions: Array, count: int, wrong: int) -> Array:
    """The rows to show: at most ``wrong`` that are misread, then the first that are read right.

    >>> selected(np.array([4, 9, 4, 9]), np.array([4, 4, 4, 9]), count=3, wrong=2).tolist()
    [1, 0, 2]
    """
    misread = np.flatnonzero(predictions != labels)[:wrong]
    read = np.flatnonzero(predictions == labels)[: count - len(misread)]
    return np.concatenate([misread, read])


def save_picture(
    path: str | os.PathLike[str],
    digits: ImageSet,
    predictions: Array,
    columns: int = 10,
    rows: int = 6,
) -> None:
    """A PNG of digits with their predictions; misread ones come first, framed in red.

    Args:
        path: the file to write.
        digits: the digits.
        predictions: the class read in each, shape (samples,).
        columns: digits in a row.
        rows: rows of digits.
    """
    from PIL import Image, ImageDraw, ImageFont

    tile, gap, caption = 56, 8, 20
    count = columns * rows
    chosen = selected(digits.labels, predictions, count, wrong=count // 2)
    width, height = tile + gap, tile + caption + gap
    lines = -(-len(chosen) // columns)
    picture = Image.new("RGB", (columns * width + gap, lines * height + gap), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=14)
    for position, row in enumerate(chosen.tolist()):
        left = gap + position % columns * width
        top = gap + position // columns * height
        grey = 255 - np.rint(digits.images[row] * (255 / digits.white)).astype(np.uint8)
        picture.paste(
            Image.fromarray(grey).resize((tile, tile), Image.Resampling.NEAREST), (left, top)
        )
        label, read = digits.labels[row], predictions[row]
        colour = _RIGHT if read == label else _WRONG
        text = digits.classes[read] + (f" (is {digits.classes[label]})" if read != label else "")
        draw.text((left + tile / 2, top + tile + 2), text, colour, font, anchor="ma")
        if read != label:
            draw.rectangle((left - 2, top - 2, left + tile + 1, top + tile + 1), None, colour, 2)
    picture.save(path, format="PNG")


def drawn(
    digits: ImageSet, predictions: Array, encoding: str, columns: int = 72, wrong: int = 1
) -> str:
    """A row of digits with their predictions, in characters that ``encoding`` has.

    Args:
        digits: the digits.
        predictions: the class read in each, shape (samples,).
        encoding: of the console, such as "utf-8" or "gbk".
        columns: the width of the console.
        wrong: how many misread digits to show at most.
    """
    side = digits.images.shape[1]
    # A character is about twice as high as wide. Small images: two characters to a pixel.
    # Large ones: two rows of pixels to a line.
    width = 2 * side if side <= 12 else side
    count = max(1, columns // (width + 2))
    chosen = selected(digits.labels, predictions, count, wrong).tolist()
    pictures = [_lines(digits.images[row] / digits.white, ramp(encoding)) for row in chosen]
    captions = [
        f"{digits.classes[predictions[row]]}"
        + (
            ""
            if predictions[row] == digits.labels[row]
            else f" (is {digits.classes[digits.labels[row]]})"
        )
        for row in chosen
    ]
    lines = [*zip(*pictures, strict=True), [caption.center(width) for caption in captions]]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def ramp(encoding: str) -> str:
    """Characters from dark to bright, of one width, that an encoding has.

    Only Unicode consoles get blocks: elsewhere, as in GBK, blocks are missing or take two columns.

    >>> ramp("utf-8"), ramp("ascii"), ramp("gbk")
    (' ░▒▓█', ' .:*#', ' .:*#')
    """
    return _BLOCKS if encoding.lower().replace("-", "").startswith("utf") else _ASCII


def _lines(image: Array, characters: str) -> Sequence[str]:
    if len(image) > 12:
        even = len(image) // 2 * 2
        image = image[:even].reshape(even // 2, 2, -1).mean(axis=1)
        repeat = 1
    else:
        repeat = 2
    levels = np.rint(image * (len(characters) - 1)).astype(int)
    return ["".join(characters[level] * repeat for level in row) for row in levels.tolist()]
