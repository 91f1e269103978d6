"""How a direct convolution is cut: strips of rows, chains of products, blocks, vectors of pixels.

How pixels make vectors:

- ``"lines"``: rows are whole vectors.
- ``"halves"``: a vector has pixels of the strip's upper half and those at the same places of its
  lower half. They take turns, in the copy too, where they therefore lie side by side.
- ``"runs"``: a vector is a few whole rows, or two halves that may be of different rows.
- ``"flat"``: vectors run over the copy's rows, ends included; what is computed there is dropped.
  Padding is shared by neighbouring rows, so that there is less of it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from chainrule.run.native.kernels.calling import CHAIN, SCRATCH_BYTES
from chainrule.run.native.kernels.windows import Axis, Plane, Slab
from chainrule.run.native.program import NEXT, Operand, Program, Step

# Numbers of a thread's memory that sums and copies may take.
ROOM = SCRATCH_BYTES // 4 - 4096


class Ahead(NamedTuple):
    """What a tandem reads next is asked for meanwhile (``asking``): memory is slow, products wait.

    Attributes:
        lines: of the cache that a block asks for in each of its channels; 0: nothing is.
        tiles: the tiles of the convolution that make up a slice of the tandem.
    """

    lines: int = 0
    tiles: int = 1


class ConvolutionSpec(NamedTuple):
    """Key of :func:`convolution`.

    Attributes:
        channels, outputs: of one group.
        rows, columns: the spatial axes.
        strip: rows of pixels in a tile.
        depth: channels whose products make one chain.
        near: the input's columns lie along memory.
        program: what follows; its step named ``"product"`` is the sum.
        lanes, panel, blocks: the target's shape.
        ahead: what is asked for meanwhile.
    """

    channels: int
    outputs: int
    rows: Axis
    columns: Axis
    strip: int
    depth: int
    near: bool
    program: Program
    lanes: int
    panel: int
    blocks: tuple[int, ...]
    ahead: Ahead = Ahead()

    @property
    def slab(self) -> Slab:
        pixels = self.pixels
        margin = self.columns.margin(self.lanes) if pixels == "lines" and self.near else 0
        return Slab(
            self.rows, self.columns, self.strip, pixels == "flat", pixels == "halves", margin
        )

    @property
    def taps(self) -> int:
        return self.rows.kernel * self.columns.kernel

    @property
    def run(self) -> int:
        """Pixels of a run: they lie side by side in the copy."""
        return math.gcd(self.columns.positions, self.lanes)

    @property
    def pixels(self) -> str:
        """How pixels make vectors."""
        rows = whole_rows(self.columns.positions, self.lanes)
        if self.run == self.lanes:
            return "lines"
        if rows == 1 or self.rows.positions % rows or self.strip % rows:
            return "flat"
        return "halves" if self._has_halves else "runs"

    @property
    def _has_halves(self) -> bool:
        """Whether two vectors are whole ones of either half, in every strip, and rows are short."""
        return (
            self.run * 2 == self.lanes
            and self.columns.positions < 4 * self.lanes
            and self.panel == 2
            and self.strip % 2 == self.rows.positions % self.strip == 0
            and self.apart % self.lanes == 0
            and Plane.has_vectors(self.columns, self.columns.stride, self.near)
        )

    @property
    def apart(self) -> int:
        """Pixels from the upper half of a strip to the lower half."""
        return self.strip * self.columns.positions // 2

    @property
    def vectors_apart(self) -> int:
        """Pixels from one vector of a block to the next."""
        return self.apart if self.pixels == "halves" else self.lanes

    @property
    def starts(self) -> int:
        """Places that a vector is read from; from row to row it is always the same way."""
        return self.lanes // self.run if self.pixels == "runs" else 1

    @property
    def vectors(self) -> int:
        """Vectors of a whole strip."""
        width = self.columns.positions
        if self.pixels != "flat":
            return self.strip * width // self.lanes
        return -(-((self.strip - 1) * self.slab.pitch + width) // self.lanes)

    @property
    def is_plain(self) -> bool:
        """Whether sums go from registers to their place: one chain, followed by nothing."""
        step, store = Step("product", (), "float32"), ((0, 0),)
        return (
            (self.program.steps, self.program.stores) == ((step,), store)
            and self.program.operands == (Operand("float32", NEXT),)
            and self.channels <= self.depth
            and self.pixels != "flat"
        )

    @property
    def panels(self) -> int:
        """Calls of a block for all pixels of a whole strip."""
        wide = min(self.panel, self.vectors)
        return self.vectors // wide + self.vectors % wide

    @property
    def calls(self) -> int:
        """Calls of blocks in a tile."""
        chains = -(-self.channels // self.depth)
        return chains * -(-self.outputs // self.blocks[0]) * self.panels

    @property
    def sums(self) -> int:
        """Numbers that sums take in the thread's memory."""
        if self.channels > self.depth:
            return self.outputs * self.vectors * self.lanes
        height = heights(self.outputs, self.blocks[0])[0]
        wide = self.vectors if self.pixels == "flat" else self.panel
        return height * wide * self.lanes

    @property
    def room(self) -> int:
        """Numbers of the thread's memory in all."""
        return self.sums + self.depth * self.slab.size


def heights(rows: int, full: int) -> tuple[int, int, int]:
    """Rows cut into blocks of about the same height.

    Returns:
        The height of the first blocks, how many they are, and how many are one row lower.
    """
    blocks = -(-rows // full)
    height = -(-rows // blocks)
    lower = blocks * height - rows
    return height, blocks - lower, lower


def whole_rows(width: int, lanes: int) -> int:
    """How many rows make whole vectors, if these can be made of runs; else 1."""
    run = math.gcd(width, lanes)
    return lanes // run if run >= 4 and run in (width, lanes // 2) else 1


def chain_depth(taps: int) -> int:
    """Channels whose products make one chain."""
    return max(1, CHAIN // taps)
