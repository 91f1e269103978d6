"""Several tasks slice by slice: while a slice is in the cache, each of them does its part of it."""

from __future__ import annotations

from chainrule.run.native.ir import Module, Value
from chainrule.run.native.kernels.calling import Call

# Words of a part: its kernel, its arguments, how many of its tiles make up a slice.
PART_WORDS = 3


def tandem(module: Module, name: str, spec: None) -> None:
    """Arguments: how many parts there are; then the words of each. A tile is a slice."""
    call = Call(module, name)
    fn, count = call.fn, call.number()

    def part(index: Value) -> None:
        words = call.words(index * PART_WORDS)
        kernel, args = words.load("ptr", 0), words.load("ptr", 1)
        tiles = words.load("i64", 2)
        first = call.tile * tiles

        def one(tile: Value) -> None:
            fn.call(kernel.name, "void", call.slots, args, first + tile, call.scratch)

        fn.loop(0, tiles, 1, (), one)

    fn.loop(0, count, 1, (), part)
    fn.ret()
