"""Tasks of a matrix product: how its operands lie, whether they are packed, and its tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from chainrule.core.dtype import float32
from chainrule.core.graph import Node, TensorType
from chainrule.run.native.failures import NoKernelError
from chainrule.run.native.kernels.gemm import BLOCKS_PER_TILE, PACKED_PER_TILE, GemmSpec, PackSpec
from chainrule.run.native.program import FAR, NEXT, SAME, Operand, Program
from chainrule.run.native.task import Task, task
from chainrule.run.native.views import View, merged

if TYPE_CHECKING:
    from chainrule.run.native.lower import Lowering

# A product is cut into at least so many tiles, if it has the rows for it.
_TILES = 4
# From this distance between the rows of a turned A on, packing costs less than it saves.
_FAR_APART = 256
# Rows at multiples of so many bytes fall on the same lines of the cache.
_ALIASING = 2048


class _Matrix(NamedTuple):
    """How one operand lies: ``"rows"`` (last axis along memory) or ``"columns"``.

    Attributes:
        view: where it is.
        order, step: how it lies, and elements from one row, or column, to the next.
        batch: elements from one matrix of the batch to the next.
    """

    view: View
    order: str
    step: int
    batch: int


def product_tasks(lowering: Lowering, node: Node, program: Program, views: Sequence[View]) -> None:
    """Append a product and the chain that follows it.

    Args:
        program: the chain; its operands' columns are filled in here.
        views: one per operand, of the product's shape.
    """
    if node.dtype != float32:
        raise NoKernelError(f"matmul of {node.dtype}")
    target = lowering.target
    *batch_shape, m, n = node.shape
    k = node.inputs[0].shape[-1]
    batch = math.prod(batch_shape)
    a, b = (_matrix(lowering, child) for child in node.inputs)
    full, width = target.blocks[0], target.lanes * target.panel
    panels = -(-n // width)
    if not batch * m * n:
        return
    tile_rows = _tile_rows(m, full, batch * panels)
    tiles = batch * panels * -(-m // tile_rows)
    if panels > 1 and _is_far(a):
        a = _packed(lowering, a, batch, m, k)
    views = [_one_batch_axis(lowering, view) for view in views]
    operands, strides = [], []
    for operand, view in zip(program.operands, views, strict=True):
        column = {0: SAME, 1: NEXT}.get(view.strides[-1] if n > 1 else 1, FAR)
        operands.append(Operand(operand.dtype, column))
        _, (along,) = merged(view.shape[:-2], [view.strides[:-2]])
        strides += [along[-1] if along else 0, view.strides[-2]]
        strides += [view.strides[-1]] if column == FAR else []
    program = program._replace(operands=tuple(operands))
    lda = 0 if a.order == "packed" else a.step
    spec = GemmSpec(a.order, lda, b.order, program, target.lanes, target.panel, target.blocks)
    numbers = [m, n, k, tile_rows, b.step, a.batch, b.batch, *strides]
    made = task(("gemm", spec), [a.view, b.view, *views], [], numbers, tiles)
    _split_reads(made, program, views)
    lowering.tasks.append(made)


def _tile_rows(m: int, full: int, columns: int) -> int:
    """Rows of a tile: whole blocks, about as many in each tile, and tiles enough for a few threads.

    Args:
        m: rows.
        full: those of a block.
        columns: how many tiles there are side by side.
    """
    blocks = -(-m // full)
    high = min(blocks, max(-(-blocks // BLOCKS_PER_TILE), -(-_TILES // columns)))
    return full * -(-blocks // high)


def _split_reads(made: Task, program: Program, views: Sequence[View]) -> None:
    """Tell apart what the chain reads and what it writes."""
    written = {operand for _, operand in program.stores}
    made.writes = [views[i].buffer for i in sorted(written)]
    made.reads = made.reads[:2] + [v.buffer for i, v in enumerate(views) if i not in written]


def _matrix(lowering: Lowering, node: Node) -> _Matrix:
    """How the operand lies; copied where neither axis is along memory or the batch is no axis."""
    view = lowering.view(node)
    found = _layout(view)
    if found is None:
        found = _layout(lowering.gathered(view))
        assert found is not None
    return found


def _layout(view: View) -> _Matrix | None:
    lengths, (along,) = merged(view.shape[:-2], [view.strides[:-2]])
    if len(lengths) > 1:
        return None
    batch = along[0] if along else 0
    (rows, cols), (step, next_) = view.shape[-2:], view.strides[-2:]
    if next_ == 1 or cols <= 1:
        return _Matrix(view, "rows", step if rows > 1 else max(cols, 1), batch)
    if step == 1 or rows <= 1:
        return _Matrix(view, "columns", next_, batch)
    return None


def _one_batch_axis(lowering: Lowering, view: View) -> View:
    """The view, or a copy of one that is stretched along some of the batch's axes only."""
    lengths, _ = merged(view.shape[:-2], [view.strides[:-2]])
    return view if len(lengths) <= 1 else lowering.gathered(view)


def _is_far(a: _Matrix) -> bool:
    if a.order == "columns":
        return a.step >= _FAR_APART
    return a.step * 4 % _ALIASING == 0


def _packed(lowering: Lowering, a: _Matrix, batch: int, m: int, k: int) -> _Matrix:
    """A in the order in which the blocks of rows read it."""
    target = lowering.target
    room = lowering.new(TensorType((batch, m, k), float32))
    tiles = -(-m // (target.blocks[0] * PACKED_PER_TILE))
    spec = ("pack_a", PackSpec(a.order, target.blocks))
    numbers = [m, k, a.step, a.batch, tiles]
    lowering.tasks.append(task(spec, [a.view], [room], numbers, batch * tiles if k else 0))
    return _Matrix(room, "packed", 0, m * k)
