"""A graph made ready: a table of tasks, the memory they share, and one native call that runs it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.dtype import float64
from chainrule.core.graph import Array, Graph, Node, TensorType, Variable, aligned
from chainrule.core.rewrite import expand
from chainrule.core.simplify import simplify
from chainrule.core.subgraph import subgraphs
from chainrule.run.native import runner as words
from chainrule.run.native.attention import attended
from chainrule.run.native.failures import NoKernelError, WideError
from chainrule.run.native.flatten import flattened
from chainrule.run.native.fuse import Fusion, Group
from chainrule.run.native.jit import Library
from chainrule.run.native.lower import Lowering
from chainrule.run.native.order import Copy, scheduled
from chainrule.run.native.pads import joined
from chainrule.run.native.planes import planed
from chainrule.run.native.target import host
from chainrule.run.native.task import Entry, Loop, Task, entries, link, place
from chainrule.run.native.team import team
from chainrule.run.native.views import Buffer, View, contiguous
from chainrule.run.native.whole import summed

_ARENA, _ERRORS = 0, 1


class Plan:
    """A graph as a table of tasks. Arrays go in and come out, as with every executor.

    Attributes:
        graph: what it runs.
        tasks: the table, in order; a loop is followed by its body.
        memory: bytes of the arena.
    """

    def __init__(self, graph: Graph, fused: bool = True) -> None:
        """``fused=False`` gives every node a task of its own; the bits are the same."""
        self.graph = graph
        opened = simplify(flattened(joined(attended(summed(planed(simplify(expand(graph))))))))
        _check_types(opened)
        self._lay_out(opened, fused)
        self._fill_tables()
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ making

    def _lay_out(self, graph: Graph, fused: bool) -> None:
        """Buffers for what is handed in and out, then the tasks between them."""
        self._reads = list(graph.reads)
        self._writes = list(graph.writes)
        cells = {variable: object() for variable in (*self._reads, *self._writes)}
        slot = 2
        errors = Buffer(8, _ERRORS)
        fusion = Fusion(graph, fused)
        schedule = scheduled(graph, fusion)
        lowering = Lowering(graph, fusion, host(), errors)
        self._first_input = slot
        for node in graph.inputs:
            lowering.put(node, Buffer(_nbytes(node), slot))
            slot += 1
        self._first_read = slot
        for variable, node in graph.reads.items():
            lowering.put(node, Buffer(_nbytes(node), slot, cells[variable]))
            slot += 1
        self._first_output = slot
        outputs = [Buffer(_nbytes(node), slot + i) for i, node in enumerate(graph.outputs)]
        slot += len(outputs)
        self._first_write = slot
        written = {
            variable: Buffer(_nbytes(node), slot + i, cells[variable])
            for i, (variable, node) in enumerate(graph.writes.items())
        }
        slot += len(written)
        for node, output in schedule.at_output.items():
            lowering.put(node, outputs[output])
        for node, variable in schedule.at_variable.items():
            lowering.put(node, written[variable])
            lowering.states.add(node)
        kept: dict[Node, View] = {}
        for item in schedule.order:
            if isinstance(item, Group):
                lowering.lower(item)
                continue
            source = kept.get(item.source) or lowering.view(item.source)
            target = _target(item, outputs, written)
            if target is None:
                kept[item.source] = lowering.gathered(source)
            else:
                lowering.copy(source, target)
        self._constants = [array.copy(order="C") for array, _ in lowering.constants]
        for _, buffer in lowering.constants:
            buffer.slot = slot
            slot += 1
        self._first_cursor = slot
        made = [task for task in lowering.tasks if task.tiles]
        self.tasks = list(entries(made))
        for loop in self.tasks:
            for cursor in loop.cursors if isinstance(loop, Loop) else ():
                cursor.moving.slot = slot
                slot += 1
        if slot > max(words.MOST_SLOTS, self._first_cursor):
            raise NoKernelError(f"a loop among {slot} tensors")
        places = {id(buffer) for buffer in written.values()}
        for task in made:
            task.guarded = any(id(buffer) in places for buffer in task.writes)
        self.memory = place(made)
        link(made)
        self._slots = aligned((slot,), np.dtype(np.int64))

    def _fill_tables(self) -> None:
        """What the runner reads, in memory."""
        self._library = Library([task.spec for task in self.tasks if isinstance(task, Task)])
        self._arena = aligned((self.memory,), np.dtype(np.uint8))
        self._errors = aligned((8,), np.dtype(np.int64))
        self._slots[_ARENA], self._slots[_ERRORS] = address(self._arena), address(self._errors)
        for array, number in zip(
            self._constants, range(self._first_cursor - len(self._constants), self._first_cursor),
            strict=True,
        ):  # fmt: skip
            self._slots[number] = address(array)
        args: list[int] = []
        starts = []
        for task in self.tasks:
            starts.append(len(args))
            args += _arguments(task)
        needs = [len(args)]
        for task in self.tasks:
            args += task.needs
            needs.append(len(args))
        self._args = np.array([*args, 0], np.int64)
        start = address(self._args)
        count = len(self.tasks)
        self._table = aligned((max(count, 1) * words.TASK_WORDS,), np.dtype(np.int64))
        self._progress = aligned((max(count, 1) * words.PROGRESS_WORDS,), np.dtype(np.int64))
        for i, task in enumerate(self.tasks):
            entry = self._table[i * words.TASK_WORDS :]
            if isinstance(task, Task):
                entry[words.KERNEL] = self._library.addresses[task.spec, ""]
            entry[words.ARGS] = start + 8 * starts[i]
            entry[words.TILES] = task.tiles
            entry[words.GUARDED] = task.guarded
            entry[words.NEEDS] = len(task.needs)
            entry[words.NEEDED] = start + 8 * needs[i]
        self._head = aligned((words.HEAD_WORDS,), np.dtype(np.int64))
        self._head[words.TASKS] = count
        self._head[words.TABLE] = address(self._table)
        self._head[words.PROGRESS] = address(self._progress)
        self._head[words.SLOTS] = address(self._slots)
        self._head[words.ERRORS] = address(self._errors)
        if len(self._slots) > self._first_cursor:
            self._head[words.PRIVATE] = len(self._slots)
        self.head = address(self._head)
        self._bound: list[Array | None] = [None] * len(self._slots)

    # ------------------------------------------------------------------ running

    def __call__(self, inputs: Sequence[Array], variables: Sequence[Array]) -> list[Array]:
        """Run once.

        Args:
            inputs: one array per graph input.
            variables: one array per variable read, in the order of ``graph.reads``.

        Returns:
            The outputs, then the values to write, in the order of ``graph.writes``.
        """
        given = dict(zip(self.graph.reads, variables, strict=True))
        with self._lock:
            written = [np.empty(v.type.shape, v.type.dtype) for v in self._writes]
            for i, variable in enumerate(self._reads):
                self._bind(self._first_read + i, np.ascontiguousarray(given[variable]))
            for i, array in enumerate(written):
                self._bind(self._first_write + i, array)
            return self._run(inputs, lambda: variables) + written

    def update(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once and commit: variables are read and written where they stand.

        Returns:
            The outputs. After an error no variable has changed.
        """
        with self._lock:
            buffers = {variable: variable.own() for variable in self._writes}
            for i, variable in enumerate(self._reads):
                array = buffers.get(variable)
                self._bind(self._first_read + i, variable.peek() if array is None else array)
            for i, array in enumerate(buffers.values()):
                self._bind(self._first_write + i, array)
            outputs = self._run(inputs, lambda: [v.value for v in self.graph.reads])
            for variable in self._writes:
                variable.version += 1
            return outputs

    def interrupt(self) -> None:
        """Let the run that is under way write no state, if it has not begun to; for any thread."""
        self._head[words.INTERRUPT] = 1

    def _run(self, inputs: Sequence[Array], variables: Any) -> list[Array]:
        outputs = [np.empty(node.shape, node.dtype) for node in self.graph.outputs]
        for i, array in enumerate(inputs):
            self._bind(self._first_input + i, np.ascontiguousarray(array))
        for i, array in enumerate(outputs):
            self._bind(self._first_output + i, array)
        self._errors[0] = 0
        failed = team.run(self.head)
        for i in range(self._first_input, self._first_read):
            self._bound[i] = None  # data belongs to the caller
        for i in range(self._first_output, self._first_write):
            self._bound[i] = None
        if failed:
            self._raise(inputs, variables())
        return outputs

    def _raise(self, inputs: Sequence[Array], variables: Sequence[Array]) -> None:
        """The error of a run that failed; the interpreter finds the index, and words it."""
        from chainrule.run import interpreter

        if self._head[words.INTERRUPT]:
            self._head[words.INTERRUPT] = 0
            raise KeyboardInterrupt
        interpreter.prepare(self.graph)(inputs, variables)
        raise AssertionError("the native run found an index out of range, the interpreter did not")

    def _bind(self, slot: int, array: Array) -> None:
        if self._bound[slot] is not array:
            self._bound[slot] = array
            self._slots[slot] = address(array)

    def __del__(self) -> None:
        if "_head" in self.__dict__ and not sys.is_finalizing():
            team.leave()


def address(array: Array) -> int:
    """Where the array's first entry is."""
    found: int = array.__array_interface__["data"][0]
    return found


def _nbytes(node: Node) -> int:
    return node.size * node.dtype.itemsize


def _place(buffer: Buffer, offset: int) -> list[int]:
    """The slot, and the bytes from there."""
    return [_ARENA, buffer.offset + offset] if buffer.slot is None else [buffer.slot, offset]


def _arguments(entry: Entry) -> list[int]:
    """What a kernel is called with, or a loop's record."""
    args: list[int] = []
    if isinstance(entry, Task):
        for buffer, offset in entry.tensors:
            args += _place(buffer, offset)
        return args + entry.numbers
    for cursor in entry.cursors:
        assert cursor.moving.slot is not None
        base = _place(cursor.base, cursor.offset)
        args += [cursor.moving.slot, *base, cursor.stride, cursor.mask]
    return [entry.laps, len(entry.cursors), *args]


def _target(copy: Copy, outputs: Sequence[Buffer], written: dict[Variable, Buffer]) -> View | None:
    """Where a copy goes; None: it is kept for later."""
    type = copy.source.tensor_type
    if copy.output is not None:
        return contiguous(outputs[copy.output], type)
    if copy.variable is not None:
        return contiguous(written[copy.variable], type)
    return None


def _check_types(graph: Graph) -> None:
    """Numbers of float64 are computed here, tensors of it are not (decision 14)."""
    for node in graph.nodes:
        if isinstance(node.type, TensorType) and node.dtype == float64 and node.size != 1:
            raise WideError("float64")
        for inner in subgraphs(node):
            _check_types(inner)
