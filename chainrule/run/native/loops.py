"""Scans: the body's tasks are made once and run lap after lap (decision 13).

What the body reads and writes of the step is seen through cursors, buffers that move from lap to
lap. The carry goes to and fro between two places; or, where the loop also hands out the carries of
all steps, from place to place in that stack, so that nothing is copied. What a lap computes from
constants of the loop alone is computed once, before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chainrule.core.dtype import int64
from chainrule.core.graph import Graph, Node, TensorType
from chainrule.core.subgraph import Subgraph
from chainrule.run.native.fuse import Fusion, Group
from chainrule.run.native.order import scheduled
from chainrule.run.native.task import Cursor, Entry, Loop, split
from chainrule.run.native.views import Buffer, View

if TYPE_CHECKING:
    from chainrule.run.native.lower import Lowering


def scan(lowering: Lowering, node: Node) -> None:
    """Append the loop of a scan, and say where its results are."""
    _Scan(lowering, node).append()


class _Scan:
    """One scan being lowered.

    Attributes:
        cursors: what moves.
        targets: nodes of the body, and where their value of this lap goes.
    """

    def __init__(self, lowering: Lowering, node: Node) -> None:
        self.lowering, self.node = lowering, node
        self.body: Subgraph = node.attrs["body"]
        self.carries: int = node.attrs["carries"]
        self.laps: int = node.attrs["length"]
        self.reverse: bool = node.attrs["reverse"]
        self.results = {pick.attrs["index"]: pick for pick in lowering.fusion.picks.get(node, ())}
        self.cursors: list[Cursor] = []
        self.targets: list[tuple[Node, View]] = []
        self.inside: dict[Node, View] = {}
        self.reads: list[Buffer] = []
        self.writes: list[Buffer] = []
        self._turns: View | None = None

    def append(self) -> None:
        holes, inputs = self.body.inputs, self.node.inputs
        after = [self._carry(index) for index in range(self.carries)]
        for index in range(self.carries, len(self.body.outputs)):
            self._stack(index)
        end = self.carries + self.node.attrs["scanned"]
        for hole, x in zip(holes[self.carries : end], inputs[self.carries : end], strict=True):
            view = self.lowering.view(x)
            self.reads.append(view.buffer)
            self.inside[hole] = self._slice(view)
        for hole, x in zip(holes[end:], inputs[end:], strict=True):
            self.inside[hole] = view = self.lowering.view(x)
            self.reads.append(view.buffer)
        once, tasks = self._tasks({self.inside[hole].buffer for hole in holes[end:]})
        self.lowering.tasks += once
        self.reads += [buffer for each in once for buffer in each.writes]
        loop = Loop(self.laps, tasks, self.cursors, self.reads, self.writes)
        self.lowering.tasks.append(loop)
        for index, view in enumerate(after):
            self._hand_out(index, view)

    # ------------------------------------------------------------------ places

    def _cursor(self, view: View, stride: int, mask: int = -1) -> View:
        """A tensor that is at ``view`` in the first lap and moves by ``stride`` elements."""
        size = view.dtype.itemsize
        moving = Buffer(0, slot=-1)
        self.cursors.append(Cursor(moving, view.buffer, view.offset * size, stride * size, mask))
        return View(moving, view.dtype, view.shape, view.strides)

    def _turn(self) -> View:
        """0 in the first lap, 1 in the second, 0 in the third ..."""
        if self._turns is None:
            numbers = self.lowering.constant(np.array([0, 1], int64))
            self._turns = self._cursor(numbers, 1, mask=1)
        return self._turns

    def _slice(self, stack: View) -> View:
        """The slice of this lap: from the first to the last, or the other way round."""
        first, stride = 0, stack.strides[0]
        if self.reverse:
            first, stride = (self.laps - 1) * stride, -stride
        start = View(
            stack.buffer, stack.dtype, stack.shape[1:], stack.strides[1:], stack.offset + first
        )
        return self._cursor(start, stride)

    def _part(self, stack: View, first: int, count: int) -> View:
        """Some slices of a stack."""
        starts = (first, *[0] * (len(stack.shape) - 1))
        return stack.slice(starts, (1,) * len(stack.shape), (count, *stack.shape[1:]))

    def _carry(self, index: int) -> View:
        """Places for a carry; where it is after the last lap."""
        lowering, hole, made = self.lowering, self.body.inputs[index], self.body.outputs[index]
        handed_out = [
            (place, pick) for place, pick in self.results.items()
            if place >= self.carries and self.body.outputs[place] in (hole, made)
            and not lowering.has_place(pick)
        ]  # fmt: skip
        type = hole.tensor_type
        count = self.laps + 1 if handed_out else 2
        stack = lowering.new(TensorType((count, *type.shape), type.dtype))
        before, behind = self._part(stack, 0, count - 1), self._part(stack, 1, count - 1)
        if handed_out and self.reverse:
            before, behind = behind, before
        if handed_out:
            self.inside[hole], target = self._slice(before), self._slice(behind)
            start = self.laps if self.reverse else 0
            last = self.laps - start
        else:
            first, second = (_only(self._part(stack, k, 1)) for k in (0, 1))
            self.inside[hole] = self._cursor(first, type.size, mask=1)
            target = self._cursor(second, -type.size, mask=1)
            start, last = 0, self.laps % 2
        self.targets.append((made, target))
        for place, pick in handed_out:
            lowering.show(pick, before if self.body.outputs[place] is hole else behind)
            del self.results[place]
        self.writes.append(stack.buffer)
        lowering.copy(lowering.view(self.node.inputs[index]), _only(self._part(stack, start, 1)))
        return _only(self._part(stack, last, 1))

    def _stack(self, index: int) -> None:
        """The place of a result of which there is a slice per lap."""
        pick = self.results.get(index)
        if pick is None:
            return
        home = self.lowering.home(pick)
        self.writes.append(home.buffer)
        self.targets.append((self.body.outputs[index], self._slice(home)))

    def _hand_out(self, index: int, view: View) -> None:
        """A carry after the last lap."""
        pick = self.results.get(index)
        if pick is None:
            return
        if self.lowering.has_place(pick):
            self.lowering.copy(view, self.lowering.home(pick))
        else:
            self.lowering.show(pick, view)

    # ------------------------------------------------------------------ the body

    def _tasks(self, fixed: set[Buffer]) -> tuple[list[Entry], list[Entry]]:
        """The body's tasks: those that give the same in every lap, and the others."""
        graph = Graph(self.body.inputs, [node for node, _ in self.targets])
        fusion = Fusion(graph, self.lowering.fusion.fused)
        schedule = scheduled(graph, fusion)
        inner = self.lowering.inside(graph, fusion, fixed)
        inner.turn = self._turn
        for hole, view in self.inside.items():
            inner.show(hole, view)
        for node, place in schedule.at_output.items():
            inner.show(node, self.targets[place][1])
        for item in schedule.order:
            if isinstance(item, Group):
                inner.lower(item)
            else:
                assert item.output is not None
                inner.copy(inner.view(item.source), self.targets[item.output][1])
        return split([task for task in inner.tasks if task.tiles], fixed)


def _only(stack: View) -> View:
    """The one slice of a stack."""
    return View(stack.buffer, stack.dtype, stack.shape[1:], stack.strides[1:], stack.offset)


LOOPS = {"scan": scan}
