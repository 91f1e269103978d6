"""The most that one core computes: a loop of fused products and sums in registers alone."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from chainrule.run.native import jit
from chainrule.run.native.ir import Function, Module, Value, vector
from chainrule.run.native.target import host

_COUNT = 20_000


@lru_cache(maxsize=1)
def peak_loop() -> tuple[Callable[[], None], float]:
    """A loop that does nothing but fused products and sums, and how many operations a call does."""
    import llvmlite.binding as llvm

    target = host()
    module = Module(target.has_fma, target.has_rounding, target.tune)
    fn = Function(module, "peak", [("i64", "count"), ("ptr", "out")])
    count, out = fn.args
    type = vector(target.lanes, "float")
    chains = target.blocks[0] * target.panel
    factor = out.load(type)

    def body(_: Value, *sums: Value) -> list[Value]:
        return [fn.fma(factor, factor, total) for total in sums]

    for i, total in enumerate(fn.loop(0, count, 1, [fn.value(0.0, type)] * chains, body)):
        out.store(total, i * target.lanes)
    fn.ret()
    image = jit.compile_object(module.text(), target)
    builder = llvm.JITLibraryBuilder().add_object_img(image).export_symbol("peak")
    library = builder.link(jit._linker(), "peak")
    run = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(library["peak"])
    memory = np.ones(chains * target.lanes, np.float32)

    def call(kept: object = library) -> None:
        run(_COUNT, memory.ctypes.data)

    return call, 2.0 * _COUNT * chains * target.lanes


def peak_flops(tries: int = 200) -> float:
    """Operations per second of one core that does nothing else: the best of many tries."""
    run, flops = peak_loop()
    best = float("inf")
    for _ in range(tries):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return flops / best
