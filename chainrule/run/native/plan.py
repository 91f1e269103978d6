"""A graph made ready: a table of tasks, the memory they share, and one native call that runs it.

A graph that writes no variable is inference: there, what follows from variables alone is computed
when one of them has changed, by a table of its own, and kept (``prologue``). That holds for packed
weights above all; normalisation is folded into them (``inference``).
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.core.arrays import Array, address, aligned, room
from chainrule.core.dtype import float64
from chainrule.core.graph import Graph, Node, TensorType, Variable
from chainrule.core.rewrite import expand
from chainrule.core.simplify import simplify
from chainrule.core.subgraph import subgraphs
from chainrule.run.native import interrupts
from chainrule.run.native import runner as words
from chainrule.run.native.asking import ask_ahead
from chainrule.run.native.attention import attended
from chainrule.run.native.eager import work
from chainrule.run.native.failures import NoKernelError, WideError
from chainrule.run.native.flatten import flattened
from chainrule.run.native.fuse import Fusion, Group
from chainrule.run.native.inference import folded, settled
from chainrule.run.native.jit import Library
from chainrule.run.native.kernels.calling import MOST_SLOTS
from chainrule.run.native.lower import Lowering
from chainrule.run.native.moments import by_rows
from chainrule.run.native.order import Copy, scheduled
from chainrule.run.native.pads import joined
from chainrule.run.native.phases import dense
from chainrule.run.native.planes import planed
from chainrule.run.native.table import ARENA, ERRORS, FIRST_INPUT, KEPT, Table
from chainrule.run.native.tandem import in_tandem, slices_apart
from chainrule.run.native.target import host
from chainrule.run.native.task import Entry, Loop, Task, entries, keep, link, place, split
from chainrule.run.native.team import team
from chainrule.run.native.views import Buffer, View, contiguous
from chainrule.run.native.whole import summed
from chainrule.run.native.winners import side_by_side

# Entries computed, products counted as such: with fewer the helpers cost more than they do.
_SHARED = 1_500_000
# What makes a graph of primitives one that lowers well, in order.
_REWRITES = (
    planed, side_by_side, dense, by_rows, summed, attended, joined, flattened, simplify,
)  # fmt: skip
# Versions that no variable has: the prologue has not run.
_UNKNOWN = [-1]


class Plan:
    """A graph as a table of tasks. Arrays go in and come out, as with every executor.

    Attributes:
        graph: what it runs.
        tasks: the table, in order; a loop is followed by its body.
        prologue: the table of what is run when variables have changed; empty for training.
        memory: bytes of the arena.
        runner: runs the table; the profile has another for a while.
        kept: bytes of what the prologue leaves for the tasks.
    """

    def __init__(self, graph: Graph, fused: bool = True) -> None:
        """``fused=False`` gives every node a task of its own; the bits are the same."""
        self.graph = graph
        opened = simplify(expand(graph))
        if not graph.writes:
            opened = folded(opened)
        for rewrite in _REWRITES:
            opened = rewrite(opened)
        _check_types(opened)
        self._lay_out(opened, fused)
        self._fill_tables()
        self._lock = threading.Lock()
        has_tiles = any(task.tiles > 1 for task in self.tasks if isinstance(task, Task))
        is_shared = has_tiles and work(graph) >= _SHARED
        self.runner: Callable[[int], int] = team.run if is_shared else team.run_alone

    # ------------------------------------------------------------------ making

    def _lay_out(self, graph: Graph, fused: bool) -> None:
        """Buffers for what is handed in and out, then the tasks between them."""
        self._reads = list(graph.reads)
        handed = list(self.graph.reads)
        self._read_at = [handed.index(variable) for variable in self._reads]
        self._writes = list(graph.writes)
        self._output_types = [node.tensor_type for node in graph.outputs]
        cells = {variable: object() for variable in (*self._reads, *self._writes)}
        slot = FIRST_INPUT
        errors = Buffer(8, ERRORS)
        fusion = Fusion(graph, fused, frozenset() if graph.writes else settled(graph))
        schedule = scheduled(graph, fusion)
        lowering = Lowering(graph, fusion, host(), errors)
        for node in graph.inputs:
            lowering.put(node, Buffer(_nbytes(node), slot))
            slot += 1
        self._first_read = slot
        self._input_slots = range(FIRST_INPUT, slot)
        for variable, node in graph.reads.items():
            buffer = Buffer(_nbytes(node), slot, cells[variable])
            lowering.put(node, buffer)
            if not graph.writes:
                lowering.fixed.add(buffer)
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
        first: list[Entry] = []
        if not graph.writes:
            first, made = split(made, lowering.fixed)
        self.kept = keep(first, made, KEPT)
        if fused:
            made = in_tandem(made)
            slot = slices_apart(made, slot)
            ask_ahead(made)
        self.tasks, self.prologue = list(entries(made)), list(entries(first))
        for loop in (*self.prologue, *self.tasks):
            for cursor in loop.cursors if isinstance(loop, Loop) else ():
                cursor.moving.slot = slot
                slot += 1
        if slot > max(MOST_SLOTS, self._first_cursor):
            raise NoKernelError(f"a loop among {slot} tensors")
        places = {id(buffer) for buffer in written.values()}
        for task in made:
            task.guarded = any(id(buffer) in places for buffer in task.writes)
        self.memory = max(place(first), place(made))
        link(first)
        link(made)
        self._slots = aligned((slot,), np.dtype(np.int64))
        self._words = self._slots.data  # the same; a word is written sooner

    def _fill_tables(self) -> None:
        """What the runner reads, in memory."""
        every = [*self.prologue, *self.tasks]
        kernels = [task.kernels() for task in every if isinstance(task, Task)]
        self._library = Library(list(itertools.chain(*kernels)))
        self._arena = aligned((self.memory,), np.dtype(np.uint8))
        self._errors = aligned((8,), np.dtype(np.int64))
        self._results = aligned((self.kept,), np.dtype(np.uint8))
        self._slots[ARENA], self._slots[ERRORS] = address(self._arena), address(self._errors)
        self._slots[KEPT] = address(self._results)
        for array, number in zip(
            self._constants, range(self._first_cursor - len(self._constants), self._first_cursor),
            strict=True,
        ):  # fmt: skip
            self._slots[number] = address(array)
        private = len(self._slots) > self._first_cursor
        tables = (
            Table(tasks, self._library, self._slots, self._errors, private)
            for tasks in (self.tasks, self.prologue)
        )
        self._table, self._first_table = tables
        self.head = self._table.address
        self._bound: list[Array | None] = [None] * len(self._slots)
        self._versions: list[int] | None = _UNKNOWN  # that the prologue saw; None: arrays

    # ------------------------------------------------------------------ running

    def __call__(self, inputs: Sequence[Array], variables: Sequence[Array]) -> list[Array]:
        """Run once.

        Args:
            inputs: one array per graph input.
            variables: one array per variable read, in the order of ``graph.reads``.

        Returns:
            The outputs, then the values to write, in the order of ``graph.writes``.
        """
        with self._lock:
            written = [np.empty(v.type.shape, v.type.dtype) for v in self._writes]
            changed = self._versions is not None
            read = [np.ascontiguousarray(variables[index]) for index in self._read_at]
            changed |= self._bind(self._first_read, read)
            changed |= any(array.flags.writeable for array in read)
            self._bind(self._first_write, written)
            if changed:
                self._begin(None)
            return self._run(inputs, lambda: variables) + written

    def update(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once and commit: variables are read and written where they stand.

        Returns:
            The outputs. After an error no variable has changed.
        """
        with self._lock:
            if not self._writes:
                self._look()
                return self._infer(inputs)
            self._bind(self._first_write, [variable.own() for variable in self._writes])
            self._bind(self._first_read, [variable.peek() for variable in self._reads])
            return self._run(inputs, self._values, lambda: _changed(self._writes))

    def step(
        self, inputs: Sequence[Array], reads: Sequence[Variable], writes: Sequence[Variable]
    ) -> list[Array]:
        """Run once on other variables, in the order of ``graph.reads`` and ``graph.writes``.

        What nobody else has is written where it stands; the rest of the writes get new arrays.

        Returns:
            The outputs. After an error no variable has changed.
        """
        if not writes:
            return self(inputs, [variable.value for variable in reads])
        with self._lock:
            fresh = {v: room(*v.type) for v in writes if not v.is_private()}
            read = [reads[index].address for index in self._read_at]
            written = [address(fresh[v]) if v in fresh else v.address for v in writes]
            self._slots[self._first_read : self._first_read + len(read)] = read
            self._slots[self._first_write : self._first_write + len(written)] = written
            self._bound = [None] * len(self._bound)  # update binds its own again

            def commit() -> None:
                for v in writes:
                    if v in fresh:
                        v.take(fresh[v])
                    else:
                        v.version += 1

            return self._run(inputs, lambda: [variable.value for variable in reads], commit)

    def _look(self) -> None:
        """Inference: bind variables and run the prologue, if one of them has changed."""
        versions = [variable.version for variable in self._reads]
        if versions != self._versions:
            self._bind(self._first_read, [variable.peek() for variable in self._reads])
            self._begin(versions)

    def _begin(self, versions: list[int] | None) -> None:
        """Compute what follows from the variables alone; they have these versions, if known."""
        self._versions = _UNKNOWN
        if self.prologue:
            team.run(self._first_table.address)
        self._versions = versions

    def _values(self) -> list[Array]:
        return [variable.value for variable in self.graph.reads]

    def interrupt(self) -> None:
        """Let the run that is under way write no state, if it has not begun to; for any thread."""
        self._table.head[words.INTERRUPT] = interrupts.ASKED

    def _run(
        self, inputs: Sequence[Array], variables: Any, commit: Callable[[], None] | None = None
    ) -> list[Array]:
        """Run on what is bound; ``commit`` is called when state was written."""
        _kept, outputs = self._data(inputs)
        self._errors[0] = 0
        stopped = self._go(commit)
        while stopped == interrupts.CTRL_C:  # of a signal that Python has handled meanwhile
            stopped = self._go(commit)
        if stopped:
            raise KeyboardInterrupt
        if self._errors[0]:
            self._raise(inputs, variables())
        return outputs

    def _infer(self, inputs: Sequence[Array]) -> list[Array]:
        """Run on what is bound, nothing being written that could be left half done."""
        given, outputs = self._data(inputs)
        if self.runner(self.head):
            return self._run(given, self._values)  # again, to say what stopped it
        return outputs

    def _data(self, inputs: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """Inputs and outputs, bound for a run; they belong to the caller, and are not kept."""
        words = self._words
        given = [np.ascontiguousarray(array) for array in inputs]
        for slot, array in zip(self._input_slots, given, strict=True):
            words[slot] = address(array)
        outputs = [np.empty(shape, dtype) for shape, dtype in self._output_types]
        for slot, array in enumerate(outputs, self._first_output):
            words[slot] = address(array)
        return given, outputs

    def _go(self, commit: Callable[[], None] | None) -> int:
        """One native call; returned is who stopped it."""
        head = self._table.head
        head[words.VERDICT] = 0
        failed = None
        interrupts.running = head
        try:
            failed = self.runner(self.head)
        finally:  # Python's own KeyboardInterrupt comes as soon as the native call is over
            interrupts.running = None
            stopped, head[words.INTERRUPT] = int(head[words.INTERRUPT]), 0
            if failed is None:
                failed = (head[words.VERDICT] & 3) != words.GO
            if not failed and commit is not None:
                commit()
        return stopped if failed else 0

    def _raise(self, inputs: Sequence[Array], variables: Sequence[Array]) -> None:
        """The error of a run that failed; the interpreter finds the index, and words it."""
        from chainrule.run import interpreter

        interpreter.prepare(self.graph)(inputs, variables)
        raise AssertionError("the native run found an index out of range, the interpreter did not")

    def _bind(self, slot: int, arrays: Sequence[Array]) -> bool:
        """Put the arrays' addresses into the table and keep them; whether others were there."""
        changed = False
        for i, array in enumerate(arrays, slot):
            if self._bound[i] is not array:
                self._bound[i] = array
                self._slots[i] = address(array)
                changed = True
        return changed

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if "_table" in self.__dict__ and not is_finalizing():  # at the end modules are gone
            team.leave((self._table.address, self._first_table.address))


def _changed(variables: Sequence[Variable]) -> None:
    for variable in variables:
        variable.version += 1


def _nbytes(node: Node) -> int:
    return node.size * node.dtype.itemsize


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
