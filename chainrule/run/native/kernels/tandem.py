"""Several tasks slice by slice: while a slice is in the cache, each of them does its part of it.

Of a tensor that no other task touches a thread has one slice alone, in its own memory: its address
in the table is such that slice i of the whole would begin there.
"""

from __future__ import annotations

from collections.abc import Callable

from chainrule.run.native.ir import Module, Value
from chainrule.run.native.kernels.calling import SLICES_AT, Call

# Words of a part: its kernel, its arguments, how many of its tiles make up a slice.
PART_WORDS = 3
# Words of a tensor of which a thread has a slice: its slot, where in the thread's room for slices
# the slice is, and the length of a slice in bytes.
SLICE_WORDS = 3


def tandem(module: Module, name: str, spec: None) -> None:
    """Arguments: how many parts and thread's slices there are, then the words of each of them."""
    write(Call(module, name), PART_WORDS)


def write(
    call: Call, part_words: int, timing: Callable[[Value], Callable[[], None]] | None = None
) -> None:
    """The kernel of tandems.

    Args:
        part_words: words of a part; those beyond the three are for the timing.
        timing: called with the words of a part before it, and what it gives after it.
    """
    fn, count, own = call.fn, call.number(), call.number()
    room = call.scratch.at(SLICES_AT, "i8")

    def show(index: Value) -> None:
        words = call.words(count * part_words + index * SLICE_WORDS)
        place = words.load("i64", 1) - call.tile * words.load("i64", 2)
        call.slots.at(words.load("i64", 0), "ptr").store(room.at(place, "i8"))

    def part(index: Value) -> None:
        words = call.words(index * part_words)
        kernel, args = words.load("ptr", 0), words.load("ptr", 1)
        tiles = words.load("i64", 2)
        first = call.tile * tiles

        def one(tile: Value) -> None:
            fn.call(kernel.name, "void", call.slots, args, first + tile, call.scratch)

        stop = timing(words) if timing else None
        fn.loop(0, tiles, 1, (), one)
        if stop:
            stop()

    fn.loop(0, own, 1, (), show)
    fn.loop(0, count, 1, (), part)
    fn.ret()
