"""Memory that a tandem touches soon is asked for while its convolution multiplies.

Passes over tensors wait for memory; products hardly use it. So while the blocks of a convolution
run, they ask for the slices that the passes beside it read or write next: those of the passes after
it, and of the passes before it in the next slice. No result depends on it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from chainrule.run.native.kernels.calling import LINE
from chainrule.run.native.kernels.shapes import Ahead, ConvolutionSpec
from chainrule.run.native.task import Entry, Part, Task
from chainrule.run.native.views import Buffer

# Bytes of a slice of all that is asked for: the second cache has to hold it. Small slices are there
# anyway.
_MOST, _LEAST = 1 << 19, 1 << 12
_PRODUCTS = ("convolution", "wide_convolution", "gemm")
# How many lines may be asked for per channel of a block: as few as will do, so that the processor
# answers them while it multiplies, but not any number, since each is a kernel.
_LINES = (1, 2, 3, 4, 6, 8, 12)


def ask_ahead(tasks: Sequence[Entry]) -> None:
    """Let the convolutions of tandems ask for what comes next."""
    for each in tasks:
        if isinstance(each, Task) and each.parts:
            _ask(each, set())


def _ask(tandem: Task, own: Collection[Buffer]) -> None:
    own = {*own, *(each.buffer for each in tandem.own)}
    best, work = -1, 0
    for number, part in enumerate(tandem.parts):
        if part.task.parts:
            _ask(part.task, own)
        elif part.task.spec[0] == "convolution" and _products(part) > work:
            best, work = number, _products(part)
    if best < 0:
        return
    wanted = _wanted(tandem, best, own)
    part = tandem.parts[best]
    while wanted:
        made = _asking(part, wanted)
        if made is not None:
            tandem.parts[best] = part._replace(task=made)
            return
        wanted.pop()


def _products(part: Part) -> int:
    """Of a tile of a convolution, times its tiles."""
    spec: ConvolutionSpec = part.task.spec[1]
    return part.tiles * spec.channels * spec.outputs * spec.taps * spec.vectors


class _Wanted(NamedTuple):
    """The beginning of the slices of a tensor.

    Attributes:
        buffer: the tensor.
        slices: into how many it falls.
        shift: how many slices ahead it is asked for.
        nbytes: how much of a slice.
    """

    buffer: Buffer
    slices: int
    shift: int
    nbytes: int

    def pieces(self, size: int) -> list[tuple[Buffer, int, int]]:
        """Its parts of this size: in which tensor, where, how far from one slice to the next."""
        step = self.buffer.nbytes // self.slices
        start = self.shift * step
        return [(self.buffer, start + place, step) for place in range(0, self.nbytes, size)]


def _wanted(tandem: Task, best: int, own: Collection[Buffer]) -> list[_Wanted]:
    """What passes touch slice by slice."""
    wanted: list[_Wanted] = []
    known = {*own, *tandem.parts[best].task.writes}
    left = _MOST
    for number, part in enumerate(tandem.parts):
        slices = part.task.slices
        if part.task.parts or part.task.spec[0] in _PRODUCTS or slices is None:
            continue
        for buffer in dict.fromkeys([*part.task.reads, *part.task.writes]):
            nbytes = min(buffer.nbytes // tandem.tiles, left)
            even = slices.extents[buffer] % tandem.tiles == 0
            if buffer not in known and even and nbytes >= _LEAST:
                wanted.append(_Wanted(buffer, tandem.tiles, int(number < best), nbytes))
                known.add(buffer)
                left -= nbytes
    return wanted


def _asking(part: Part, wanted: Sequence[_Wanted]) -> Task | None:
    """The convolution, asking for these tensors; None if its calls are too few."""
    task = part.task
    name, spec = task.spec
    calls = spec.calls * part.tiles
    for lines in _LINES:
        size = lines * LINE * spec.depth  # that a call asks for
        asked = [piece for each in wanted for piece in each.pieces(size)]
        if len(asked) <= calls:
            asked += asked[-1:] * (calls - len(asked))
            return replace(
                task,
                spec=(name, spec._replace(ahead=Ahead(lines, part.tiles))),
                tensors=[*task.tensors, *((buffer, place) for buffer, place, _ in asked)],
                numbers=[*task.numbers, *(step for *_, step in asked)],
            )
    return None
