"""Weights of a direct convolution, packed in the order in which its blocks read them."""

from __future__ import annotations

from typing import NamedTuple

from chainrule.run.native.ir import Module, Value
from chainrule.run.native.kernels.calling import Call
from chainrule.run.native.kernels.shapes import heights


class WeightsSpec(NamedTuple):
    """Key of :func:`pack_weights`: sizes of a group, and the rows of a full block."""

    channels: int
    outputs: int
    kernel: tuple[int, int]
    full: int


def pack_weights(module: Module, name: str, spec: WeightsSpec) -> None:
    """Weights in the order in which blocks read them: (group, block, channel, tap, row of a block).

    Arguments: w, packed; strides of w along outputs, channels, kernel rows and columns. A tile is a
    block of a group.
    """
    call = Call(module, name)
    fn = call.fn
    w, packed = call.tensor(), call.tensor()
    along = [call.number() for _ in range(4)]
    height, tall, low = heights(spec.outputs, spec.full)
    group = call.tile // fn.value(tall + low, "i64")
    block = call.tile - group * (tall + low)
    is_tall = block.compare("slt", tall)
    lower = block * (height - 1) + tall
    row = group * spec.outputs + fn.select(is_tall, block * height, lower)
    terms = spec.channels * spec.kernel[0] * spec.kernel[1]
    source, target = w.at(row * along[0]), packed.at(row * terms)

    def copy(count: int) -> None:
        def channel(c: Value, target: Value) -> list[Value]:
            def down(i: Value, target: Value) -> list[Value]:
                def across(j: Value, target: Value) -> list[Value]:
                    start = source.at(c * along[1] + i * along[2] + j * along[3])
                    for o in range(count):
                        target.store(start.at(along[0] * o).load("float"), o)
                    return [target.at(count)]

                return fn.loop(0, spec.kernel[1], 1, [target], across)

            return fn.loop(0, spec.kernel[0], 1, [target], down)

        fn.loop(0, spec.channels, 1, [target], channel)

    fn.when(is_tall, lambda: copy(height), lambda: copy(height - 1) if low else None)
    fn.ret()
