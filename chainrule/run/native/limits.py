"""What one core can do at most: fused products and sums, and bytes moved beyond its caches."""

from __future__ import annotations

import ctypes
import timeit
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np

from chainrule.core.arrays import address, aligned
from chainrule.run.native import jit
from chainrule.run.native.ir import Function, Module, Value, vector
from chainrule.run.native.target import host

_COUNT = 20_000
# More than the caches that a core has for itself.
_FAR = 32 << 20
# Vectors per lap of a loop over memory.
_UNROLL = 8


@lru_cache(maxsize=1)
def peak_loop() -> tuple[Callable[[], None], float]:
    """A loop that does nothing but fused products and sums, and how many operations a call does."""
    target = host()
    chains = target.blocks[0] * target.panel
    type = vector(target.lanes, "float")

    def write(fn: Function, count: Value, given: Value, out: Value) -> None:
        factor = given.load(type)

        def body(_: Value, *sums: Value) -> list[Value]:
            return [fn.fma(factor, factor, total) for total in sums]

        for i, total in enumerate(fn.loop(0, count, 1, [fn.value(0.0, type)] * chains, body)):
            out.store(total, i * target.lanes)

    run = _linked("peak", write)
    memory = aligned((chains * target.lanes,), np.dtype(np.float32))
    memory[:] = 1

    def call() -> None:
        run(_COUNT, address(memory), address(memory))

    return call, 2.0 * _COUNT * chains * target.lanes


def peak_flops(tries: int = 200) -> float:
    """Operations per second of one core that does nothing else: the best of many tries."""
    run, flops = peak_loop()
    return flops / min(timeit.repeat(run, number=1, repeat=tries))


def memory_rate(tries: int = 10) -> float:
    """Bytes per second that one core moves to and from what its own caches do not hold.

    The better of reading alone and of copying, where both directions count.
    """
    size = _FAR // 4
    given, out = (aligned((size,), np.dtype(np.float32)) for _ in range(2))
    given[:] = out[:] = 1  # memory that was never written is not there yet
    where = size, address(given), address(out)
    return max(
        nbytes / min(timeit.repeat(partial(run, *where), number=1, repeat=tries))
        for run, nbytes in zip(_memory_loops(), (_FAR, 2 * _FAR), strict=True)
    )


@lru_cache(maxsize=1)
def _memory_loops() -> tuple[Callable[..., None], Callable[..., None]]:
    """A loop that reads, and one that copies."""
    lanes = host().lanes
    type, step = vector(lanes, "float"), _UNROLL * lanes

    def read(fn: Function, count: Value, given: Value, out: Value) -> None:
        def body(i: Value, *sums: Value) -> list[Value]:
            return [total + given.at(i).load(type, j * lanes) for j, total in enumerate(sums)]

        for j, total in enumerate(fn.loop(0, count, step, [fn.value(0.0, type)] * _UNROLL, body)):
            out.store(total, j * lanes)

    def copy(fn: Function, count: Value, given: Value, out: Value) -> None:
        def body(i: Value) -> list[Value]:
            for j in range(_UNROLL):
                out.at(i).store(given.at(i).load(type, j * lanes), j * lanes)
            return []

        fn.loop(0, count, step, [], body)

    return _linked("read", read), _linked("copy", copy)


def _linked(
    name: str, write: Callable[[Function, Value, Value, Value], None]
) -> Callable[..., None]:
    """A function of a count and two addresses, which ``write`` fills."""
    import llvmlite.binding as llvm

    target = host()
    module = Module(target.has_fma, target.has_rounding, target.tune)
    fn = Function(module, name, [("i64", "count"), ("ptr", "given"), ("ptr", "out")])
    write(fn, *fn.args)
    fn.ret()
    image = jit.compile_object(module.text(), target)
    builder = llvm.JITLibraryBuilder().add_object_img(image).export_symbol(name)
    library = builder.link(jit._linker(), name)
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(library[name])
    return lambda *words, kept=library: run(*words)  # the code is there as long as it is
