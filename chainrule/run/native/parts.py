"""Long sums in parts: each part is a task's tile, and a last task adds the parts in order.

Where the cuts are depends on the lengths alone, so neither threads nor fusion change a bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from chainrule.core.graph import Shape, TensorType
from chainrule.run.native.program import NEXT, REDUCTIONS, SAME, Operand, Program, Step
from chainrule.run.native.views import View

if TYPE_CHECKING:
    from chainrule.run.native.lower import Lowering

# Entries of a row, and rows of a column, that are added up at once.
ROW_PART = 16384
COLUMN_PART = 128


def is_long(program: Program, width: int) -> bool:
    """Whether rows of this length are folded in parts: one pass, and nothing but folds to store."""
    return program.has_reductions and width > ROW_PART and not _reads_a_fold(program)


def _reads_a_fold(program: Program) -> bool:
    folds = {i for i, step in enumerate(program.steps) if step.op in REDUCTIONS}
    return any(folds & set(step.args) for step in program.steps)


def fold_rows(
    lowering: Lowering, program: Program, views: Sequence[View], shape: Shape, split: int
) -> None:
    """A program that folds long rows, part by part.

    Args:
        views: one per operand, of ``shape``; along a row each is one axis.
    """
    outer, width = shape[:split], math.prod(shape[split:])
    count, rest = divmod(width, ROW_PART)
    flat = [view.reshape((*outer, width)) or _flat(view, split, width) for view in views]
    folds = {
        operand: program.steps[index].op
        for index, operand in program.stores
        if program.steps[index].op in REDUCTIONS
    }
    total = count + (rest > 0)
    parts = {
        operand: lowering.new(TensorType((*outer, total), views[operand].dtype))
        for operand in folds
    }

    def piece(operand: int, start: int, laps: int, length: int) -> View:
        """``laps`` parts of ``length`` entries from part ``start`` on, as rows of their own."""
        view = flat[operand]
        if operand in parts:
            part = parts[operand]
            strides = (*part.strides, 0)
            return replace(part, shape=(*outer, laps, length), strides=strides, offset=start)
        step = view.strides[-1]
        strides = (*view.strides[:-1], ROW_PART * step, step)
        offset = view.offset + start * ROW_PART * step
        return replace(view, shape=(*outer, laps, length), strides=strides, offset=offset)

    for start, laps, length in ((0, count, ROW_PART), (count, 1, rest)):
        if length:
            made = [piece(operand, start, laps, length) for operand in range(len(views))]
            lowering.pass_over(program, made, made[0].shape, split + 1)
    for operand, op in folds.items():
        part = parts[operand]
        dtype = part.dtype.name
        again = Program(
            (Step("load", (), dtype, 0), Step(op, (0,), dtype)),
            (Operand(dtype, NEXT), Operand(dtype, SAME)),
            ((1, 1),),
        )
        target = replace(flat[operand], shape=part.shape)
        lowering.pass_over(again, [part, target], part.shape, split)


def _flat(view: View, split: int, width: int) -> View:
    """The view with its columns as one axis; all columns are the same, or evenly apart."""
    strides = [s for s, n in zip(view.strides[split:], view.shape[split:], strict=True) if n > 1]
    shape = (*view.shape[:split], width)
    return replace(view, shape=shape, strides=(*view.strides[:split], strides[-1]))


def column_parts(x: View) -> tuple[list[View], int]:
    """The pieces of a tall matrix: whole parts, then what is left.

    Returns:
        Each piece as (parts, rows, cols), and how many parts there are in all.
    """
    count, cols = x.shape
    step, next_ = x.strides
    whole, rest = divmod(count, COLUMN_PART)
    pieces = []
    for start, laps, rows in ((0, whole, COLUMN_PART), (whole * COLUMN_PART, 1, rest)):
        if rows:
            strides = (COLUMN_PART * step, step, next_)
            offset = x.offset + start * step
            pieces.append(View(x.buffer, x.dtype, (laps, rows, cols), strides, offset))
    return pieces, whole + (rest > 0)
