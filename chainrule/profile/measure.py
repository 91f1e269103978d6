"""A step is run again and again, on copies of its variables, with a clock beside every kernel."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.core.graph import Array, Graph, Node
from chainrule.errors import OptionError
from chainrule.profile.record import Profile, Row
from chainrule.profile.work import flops, nbytes
from chainrule.run import executor, interpreter
from chainrule.tensor.compile import Compiled

# Rounds are as many as fit into this, within limits.
_SECONDS = 1.0
_LEAST, _MOST = 5, 50


def profile(
    step: Callable[..., Any], *args: Any, rounds: int | None = None, **kwargs: Any
) -> Profile:
    """Where the time of ``step(*args, **kwargs)`` goes: by layer, kernel, phase and line.

    The step is traced as by ``cr.compile``, unless it is compiled already, and run on one thread
    on copies of its variables: nothing changes, neither parameters nor moments nor random numbers.
    Kernels and their order are those of an ordinary run, so the results are its bits too.

    Args:
        step: a training step, a model, or any function of tensors; compiled or not.
        args, kwargs: what it is called with.
        rounds: how many runs are measured; as many as take about a second if not given.

    Returns:
        A profile: ``print`` it, look at ``rows`` and ``by("layer")``, or write a flame view with
        ``html(path)``. FLOPs are those of the formulas (a product and a sum are one each), bytes
        the sizes of the tensors that a kernel reads and writes.

    Raises:
        OptionError: the executor is neither native nor the interpreter.
        TracedValueError: the step asks for a value, so that it can't be traced.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> model = nn.Linear(8, 4)
        >>> found = cr.profile(model, cr.ones(2, 8), rounds=2)
        >>> int(found.total.flops)
        136
        >>> [(total.name, int(total.flops)) for total in found.by("phase")]
        [(('forward',), 136)]
    """
    if executor() not in ("native", "interpreter"):
        raise OptionError(
            name="the executor of a profile", expected="'native' or 'interpreter'",
            got=repr(executor()), mend="cr.set_executor('native')",
        )  # fmt: skip
    compiled = step if isinstance(step, Compiled) else Compiled(step)
    entry, inputs = compiled.prepared(args, kwargs)
    name = getattr(step, "__name__", type(step).__name__)
    if isinstance(entry.plan, interpreter.Plan):
        return _interpreted(name, entry.graph, inputs, rounds)
    return _native(name, entry.plan, inputs, rounds)


def _rounds(rounds: int | None, once: Callable[[], object]) -> int:
    """How many rounds fit."""
    if rounds is not None:
        return max(1, rounds)
    start = time.perf_counter()
    once()
    return min(_MOST, max(_LEAST, int(_SECONDS / (time.perf_counter() - start))))


# ------------------------------------------------------------------------------ native


def _native(name: str, plan: Any, inputs: Sequence[Array], rounds: int | None) -> Profile:
    from chainrule.run.native.limits import memory_rate, peak_flops
    from chainrule.run.native.target import host
    from chainrule.run.native.timed import task_seconds

    count = _rounds(rounds, lambda: task_seconds(plan, inputs, 1))
    tasks, ticks, walls = task_seconds(plan, inputs, count)
    seconds: list[float] = np.median(ticks, axis=0).tolist()
    rows = tuple(_task_rows(plan, tasks, seconds))
    return Profile(
        name, "native", host().cpu, count, float(np.median(walls)), peak_flops(50), memory_rate(),
        rows,
    )  # fmt: skip


def _task_rows(
    plan: Any, tasks: Sequence[tuple[Any, int]], seconds: Sequence[float]
) -> Iterator[Row]:
    """A row per task, in the order of the run."""
    time_of: dict[Node, float] = {}  # in all the tasks that have a part in a node
    only_moved = {node for task, _ in tasks for node in task.nodes}
    only_moved -= {node for task, _ in tasks if not _only_moves(task) for node in task.nodes}

    def part(task: Any, node: Node) -> bool:
        return node in only_moved or not _only_moves(task)

    for (task, _), took in zip(tasks, seconds, strict=True):
        for node in task.nodes:
            time_of[node] = time_of.get(node, 0.0) + took * part(task, node)
    for (task, calls), took in zip(tasks, seconds, strict=True):
        work = sum(
            _flops(node) * calls * took / time_of[node]
            for node in task.nodes if part(task, node) and time_of[node]
        )  # fmt: skip
        main = max(task.nodes, key=_flops, default=None)
        yield Row(
            main.phase if main else "forward", main.scope if main else (), task.spec[0],
            tuple(node.op.name for node in task.nodes) or ("copy",), main.source if main else None,
            calls, took, work, _touched(plan, task) * calls,
        )  # fmt: skip


def _flops(node: Node) -> float:
    """Operations of a node; those of a loop are its body's, which has tasks of its own."""
    return 0.0 if node.op.name == "scan" else flops(node)


def _only_moves(task: Any) -> bool:
    """Whether a task packs or copies."""
    kernel, spec = task.spec
    if kernel.startswith("pack"):
        return True
    program = getattr(spec, "program", None) if kernel == "rows" else None
    return program is not None and all(s.op in ("load", "constant") for s in program.steps)


def _touched(plan: Any, task: Any) -> float:
    """Bytes of the tensors that a task reads and writes; in a loop, of the slices of one lap."""
    moving = {
        cursor.moving: abs(cursor.stride)
        for loop in plan.tasks if hasattr(loop, "laps") for cursor in loop.cursors
    }  # fmt: skip
    buffers = dict.fromkeys([*task.reads, *task.writes])
    return float(sum(moving.get(buffer, buffer.nbytes) for buffer in buffers))


# ------------------------------------------------------------------------------ interpreter


def _interpreted(name: str, graph: Graph, inputs: Sequence[Array], rounds: int | None) -> Profile:
    """Node by node, as the interpreter walks the graph."""
    times: dict[Node, list[float]] = {}

    def timed(node: Node, arrays: Sequence[Array]) -> Any:
        start = time.perf_counter()
        result = interpreter.evaluate(node, arrays)
        times.setdefault(node, []).append(time.perf_counter() - start)
        return result

    plan = interpreter.Plan(graph, using=timed)
    values = [variable.peek() for variable in graph.reads]
    count = _rounds(rounds, lambda: plan(inputs, values))
    times.clear()
    walls = []
    for _ in range(count):
        start = time.perf_counter()
        plan(inputs, values)
        walls.append(time.perf_counter() - start)
    rows = [
        Row(
            node.phase, node.scope, node.op.name, (node.op.name,), node.source, 1,
            statistics.median(found), flops(node), nbytes(node) + sum(map(nbytes, node.inputs)),
        )
        for node, found in times.items() if node.inputs
    ]  # fmt: skip
    whole = statistics.median(walls)
    return Profile(name, "interpreter", platform.machine(), count, whole, 0.0, 0.0, tuple(rows))
