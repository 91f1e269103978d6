"""Where values stand: buffers, and strided views of them that cost nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from chainrule.core.dtype import DType
from chainrule.core.graph import Shape, TensorType


@dataclass(eq=False)
class Buffer:
    """Memory that tasks read and write.

    Attributes:
        nbytes: its size.
        slot: its place in the plan's table of addresses; None for a part of the arena.
        memory: what may be the same memory under another slot has the same object here.
        offset: where in the arena it is, once that is decided.
    """

    nbytes: int
    slot: int | None = None
    memory: object = field(default_factory=object)
    offset: int = 0


@dataclass(frozen=True)
class View:
    """A tensor in a buffer; offset and strides count elements."""

    buffer: Buffer
    dtype: DType
    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def windows(self) -> Windows | None:
        """Where an entry stands for a window, see :class:`Windowed`."""
        return None

    @property
    def stored(self) -> View:
        """The tensor as it is in memory."""
        return self

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        """Whether the entries follow one another in row-major order."""
        expected = row_major(self.shape)
        return all(
            n == 1 or stride == want
            for n, stride, want in zip(self.shape, self.strides, expected, strict=True)
        )

    def is_at(self, other: View) -> bool:
        """Whether the entries are where the other's are, each in its place."""
        axes = zip(self.shape, self.strides, other.strides, strict=True)
        start = self.buffer is other.buffer and self.offset == other.offset
        return start and all(n == 1 or a == b for n, a, b in axes)

    def permute(self, dims: Sequence[int]) -> View:
        shape, strides = zip(*((self.shape[d], self.strides[d]) for d in dims), strict=True)
        return replace(self, shape=shape, strides=strides)

    def broadcast_to(self, shape: Shape) -> View:
        lead = len(shape) - len(self.shape)
        strides = [
            0 if n != wanted else stride
            for n, stride, wanted in zip(self.shape, self.strides, shape[lead:], strict=True)
        ]
        return replace(self, shape=shape, strides=(0,) * lead + tuple(strides))

    def slice(self, starts: Shape, steps: Shape, shape: Shape) -> View:
        offset = self.offset + sum(a * b for a, b in zip(starts, self.strides, strict=True))
        strides = tuple(a * b for a, b in zip(steps, self.strides, strict=True))
        return replace(self, shape=shape, strides=strides, offset=offset)

    def flip(self, dims: Sequence[int]) -> View:
        starts = [n - 1 if axis in dims else 0 for axis, n in enumerate(self.shape)]
        steps = [-1 if axis in dims else 1 for axis in range(len(self.shape))]
        return self.slice(tuple(starts), tuple(steps), self.shape)

    def reshape(self, shape: Shape) -> View | None:
        """The same entries under another shape, or None if they would have to be moved."""
        if self.is_contiguous or 0 in self.shape:
            return replace(self, shape=shape, strides=row_major(shape))
        old = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        strides: list[int] = []
        for wanted in reversed(shape):
            if wanted == 1:
                strides.append(0)
                continue
            if not old:
                return None
            n, stride = old.pop()
            while n < wanted and old and old[-1][1] == n * stride:
                n *= old.pop()[0]
            if n % wanted:
                return None
            strides.append(stride)
            if n != wanted:
                old.append((n // wanted, stride * wanted))
        return replace(self, shape=shape, strides=tuple(reversed(strides)))


class Windows(NamedTuple):
    """Windows that fill planes side by side: height, width, and the length of a plane's rows."""

    height: int
    width: int
    length: int


@dataclass(frozen=True)
class Windowed(View):
    """A tensor with one entry per window, seen as if each stood at all places of its window.

    Offset and strides count places. Of the dtype "bool", the entry of a window is the number of the
    one place of it that is true.

    Attributes:
        pooled: the tensor as it is, in row-major order.
        kernel: height and width of a window.
        length: of a plane's rows.
    """

    pooled: View = field(kw_only=True)
    kernel: Shape = field(kw_only=True)
    length: int = field(kw_only=True)

    @property
    def windows(self) -> Windows:
        return Windows(self.kernel[0], self.kernel[1], self.length)

    @property
    def stored(self) -> View:
        return self.pooled


def at_windows(pooled: View, kernel: Shape, dtype: DType) -> Windowed:
    """A tensor with one entry per window, seen at all places."""
    *lead, high, wide = pooled.shape
    shape = (*lead, high * kernel[0], wide * kernel[1])
    return Windowed(
        pooled.buffer, dtype, shape, row_major(shape),
        pooled=pooled, kernel=kernel, length=shape[-1],
    )  # fmt: skip


def row_major(shape: Shape) -> Shape:
    """The strides of entries that follow one another, the last axis fastest."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def contiguous(buffer: Buffer, type: TensorType) -> View:
    """The whole buffer as a tensor of this type."""
    return View(buffer, type.dtype, type.shape, row_major(type.shape))


def merged(shape: Shape, strides: Sequence[Shape]) -> tuple[Shape, list[Shape]]:
    """Fewer axes: those of length 1 left out, neighbours joined where every tensor allows it.

    Args:
        shape: the axes.
        strides: those of each tensor along them.
    """
    lengths: list[int] = []
    columns: list[list[int]] = []
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        here = [each[axis] for each in strides]
        if lengths and all(a == b * n for a, b in zip(columns[-1], here, strict=True)):
            lengths[-1] *= n
            columns[-1] = here
        else:
            lengths.append(n)
            columns.append(here)
    by_tensor = [tuple(column[i] for column in columns) for i in range(len(strides))]
    return tuple(lengths), by_tensor
