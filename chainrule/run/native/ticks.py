"""The runner of the profile: as ``runner``'s on one thread, with a clock beside every task."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.run.native.ir import Function, Module, Value
from chainrule.run.native.runner import TICKS, RunnerSpec, alone, run_alone

TIMED_ENDINGS = ("_one", "_ticks")


def timed_runner(module: Module, name: str, spec: RunnerSpec) -> None:
    """The runner of the profile: on one thread, it counts the ticks of each task.

    ``ticks(out)`` stores the clock that it reads.
    """
    alone(module, name, lambda entry: _timing(entry, spec))
    run_alone(module, name, spec)
    fn = Function(module, f"{name}_ticks", [("ptr", "out")])
    fn.args[0].store(_ticks(fn, spec))
    fn.ret()


def _timing(entry: Value, spec: RunnerSpec) -> Callable[[], None]:
    """Read the clock; the result reads it again and adds the difference to the entry's ticks."""
    start = _ticks(entry.fn, spec)

    def stop() -> None:
        took = _ticks(entry.fn, spec) - start
        entry.store(entry.load("i64", TICKS) + took, TICKS)

    return stop


def _ticks(fn: Function, spec: RunnerSpec) -> Value:
    """A clock that counts at a constant rate."""
    if spec.arm:
        return fn.op("i64", 'call i64 asm sideeffect "mrs $0, cntvct_el0", "=r"()')
    fn.module.declare("llvm.readcyclecounter", "i64", [])
    return fn.op("i64", "call i64 @llvm.readcyclecounter()")
