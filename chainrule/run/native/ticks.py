"""The runner of the profile: as ``runner``'s on one thread, with a clock beside every task."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.run.native.ir import Function, Module, Value
from chainrule.run.native.kernels import tandem
from chainrule.run.native.kernels.calling import SIGNATURE, Call
from chainrule.run.native.runner import TICKS, RunnerSpec, alone, run_alone

TIMED_ENDINGS = ("_one", "_ticks")
# A part of a tandem has one word more: its ticks.
PART_TICKS = tandem.PART_WORDS
TIMED_PART_WORDS = tandem.PART_WORDS + 1


def timed_runner(module: Module, name: str, spec: RunnerSpec) -> None:
    """The runner of the profile: on one thread, it counts the ticks of each task.

    ``ticks(out)`` stores the clock that it reads.
    """
    alone(module, name, lambda entry: _timing(entry, TICKS, spec))
    run_alone(module, name, spec)
    fn = Function(module, f"{name}_ticks", [("ptr", "out")])
    fn.args[0].store(_ticks(fn, spec))
    fn.ret()


def timed_tandem(module: Module, name: str, spec: RunnerSpec) -> None:
    """Tasks in tandem, with the ticks of each part counted among its words."""
    signature = [
        (type.partition(" ")[0], argument) for type, argument in SIGNATURE
    ]  # not read-only
    call = Call(module, name, signature)
    tandem.write(call, TIMED_PART_WORDS, lambda words: _timing(words, PART_TICKS, spec))


def _timing(words: Value, place: int, spec: RunnerSpec) -> Callable[[], None]:
    """Read the clock; the result reads it again and adds the difference to a word."""
    start = _ticks(words.fn, spec)

    def stop() -> None:
        took = _ticks(words.fn, spec) - start
        words.store(words.load("i64", place) + took, place)

    return stop


def _ticks(fn: Function, spec: RunnerSpec) -> Value:
    """A clock that counts at a constant rate."""
    if spec.arm:
        return fn.op("i64", 'call i64 asm sideeffect "mrs $0, cntvct_el0", "=r"()')
    fn.module.declare("llvm.readcyclecounter", "i64", [])
    return fn.op("i64", "call i64 @llvm.readcyclecounter()")
