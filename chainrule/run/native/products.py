"""Tasks of a matrix product: how its operands lie, whether they are packed, and its tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from chainrule.core.dtype import float32
from chainrule.core.graph import Node, TensorType
from chainrule.run.native.again import CHEAP
from chainrule.run.native.failures import NoKernelError
from chainrule.run.native.kernels.blocks import FAR_APART
from chainrule.run.native.kernels.calling import CHAIN
from chainrule.run.native.kernels.gemm import BLOCKS_PER_TILE, SOON, TURNED, GemmSpec
from chainrule.run.native.kernels.matvec import MatvecSpec
from chainrule.run.native.kernels.packing import PACKED_PER_TILE, PackSpec, PanelsSpec
from chainrule.run.native.program import FAR, NEXT, ONCE, SAME, Operand, Program
from chainrule.run.native.tandem import sliced
from chainrule.run.native.task import Task, task
from chainrule.run.native.views import View, merged

if TYPE_CHECKING:
    from chainrule.run.native.lower import Lowering
    from chainrule.run.native.target import Target

# Rows of a slice, at least.
_SLICE_ROWS = 112
# A product is cut into at least so many tiles, if it has the rows for it.
_TILES = 4
# An A whose rows are far apart, or on the same lines of the cache, is packed if so many panels read
# it.
_READ_OFTEN = 16
# From so many blocks of rows on, B is packed once for all of them.
_OFTEN = 4
# From so many bytes on, a matrix may not stay in the cache, as from lap to lap of a loop.
_OUT_OF_CACHE = 1 << 18
# Panels in a tile of a row's product; fewer where all would be in one, and the thread waits for
# memory anyway: two wait less.
_PANELS, _WAITS = 4, 1 << 20
# Panels in a tile of a product of several chains, at most, and at least where there are as many.
_ABREAST, _FEW = 8, 4
# An A of more panels is not packed: it is large, and B would be read as often.
_TURNED_PANELS = 2
# Of a product whose sums stay in registers for what follows: terms, beyond which that hardly saves
# anything, and steps, at most; and what they may be.
_LIGHT_TERMS, _LIGHT_STEPS = 127, 12
_LIGHT_OPS = CHEAP | {"load", "constant", "product"}
# Of rows so many bytes apart, a cache keeps fewer than a block has.
_PAGE = 4096
# Blocks of vectors so long ask for memory amid their products. With AVX2 this cost up to a tenth
# more than asking before the block, where a tandem had the memory in its cache anyway.
_LONG = 16
# Rows at multiples of so many bytes fall on the same lines of the cache.
ALIASING = 2048


class _Matrix(NamedTuple):
    """How one operand lies: ``"rows"`` (last axis along memory), ``"columns"`` or ``"packed"``.

    Attributes:
        view: where it is.
        order, step: how it lies, and elements from one row, or column, to the next.
    """

    view: View
    order: str
    step: int


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
    if not batch * m * n:
        return
    turned = batch == 1 and _is_turned(lowering, a, b)
    if turned:
        a, b, rows, cols = _turned(b), _turned(a), n, m
        panel, blocks = _turned_shape(target, cols)
        strip = TURNED * target.lanes
    else:
        rows, cols, panel, blocks, strip = m, n, target.panel, target.blocks, target.blocks[0]
    panels = -(-cols // (target.lanes * panel))
    gathers = a.order == "columns" and k > CHAIN and panels > 1 and not turned
    columns = [_column(view) for view in views]
    near = not turned and FAR not in columns
    light = near and m >= strip and _is_light(program, views, k)
    asks = near and m >= strip and k >= SOON and target.lanes >= _LONG
    by_rows = asks and not light and k <= CHAIN and panels >= _FEW and 4 * m * n >= _OUT_OF_CACHE
    abreast = 1
    if gathers or by_rows:
        abreast = -(-panels // max(-(-panels // _ABREAST), min(panels // _FEW, _TILES), 1))
    across = batch * -(-panels // abreast)
    tile_rows = _tile_rows(rows, strip, across)
    tiles = across * -(-rows // tile_rows)
    often = turned or lowering.stays(b.view.buffer) or -(-rows // tile_rows) >= _OFTEN
    if often and not gathers and not any(b.view.strides[:-2]):
        b = _in_panels(lowering, b, panel)
    is_row = batch * m == 1 and not turned and b.order == "packed" and a.order == "rows"
    if gathers:
        a = a._replace(order="gathered")
    elif _is_far(a, panels) and not is_row:
        a = _packed(lowering, a)
    tensors = [a.view, b.view, *views]
    lengths, along = merged(tuple(batch_shape), [view.strides[:-2] for view in tensors])
    axes = max(len(lengths), 1)
    batch_strides = [each or (0,) for each in along]
    operands = []
    strides: list[int] = []
    each = zip(program.operands, views, columns, batch_strides[2:], strict=True)
    for operand, view, column, by_axis in each:
        operands.append(Operand(operand.dtype, column))
        if column != ONCE:
            strides += [*by_axis, view.strides[-2]]
        strides += [view.strides[-1]] if column == FAR else []
    program = program._replace(operands=tuple(operands))
    if is_row:
        turn = lowering.turn() if 4 * k * n >= _OUT_OF_CACHE else None
        together = _PANELS
        while together > 1 and panels <= together and 4 * k * n >= _WAITS:
            together //= 2
        row = MatvecSpec(program, target.lanes, target.panel, together, turn is not None)
        if turn is not None:
            tensors.insert(2, turn)
        made = task(("matvec", row), tensors, [], [n, k, *strides], -(-panels // together))
    else:
        lda = 0 if a.order == "packed" else a.step
        spec = GemmSpec(
            a.order, lda, b.order, program, target.lanes, panel, blocks, axes,
            light, asks, by_rows, turned,
        )  # fmt: skip
        apart = [*batch_strides[0], *batch_strides[1], *strides]
        numbers = [rows, cols, k, tile_rows, abreast, b.step, *lengths[1:], *apart]
        made = task(("gemm", spec), tensors, [], numbers, tiles)
    _split_reads(made, program, views)
    if batch == 1 and not is_row and not turned:
        _note_slices(made, [a.view, *views], m, strip)
    lowering.tasks.append(made)


def _column(view: View) -> int:
    """How an operand of the chain moves along a row of the product."""
    if view.shape[-1] == 1:
        return NEXT
    if not any(view.strides):
        return ONCE
    return {0: SAME, 1: NEXT}.get(view.strides[-1], FAR)


def _note_slices(made: Task, views: Sequence[View], m: int, full: int) -> None:
    """A product may be cut along its rows, into slices of some blocks."""
    counts = [n for n in range(1, m // _SLICE_ROWS + 1) if m % n == 0]
    if len(counts) < 2:
        return
    across = made.tiles // -(-m // made.numbers[3])

    def cut(count: int) -> Task | None:
        rows = m // count
        at_once, uneven = divmod(rows, -(-rows // (BLOCKS_PER_TILE * full)))
        if uneven:
            return None
        numbers = [*made.numbers[:3], at_once, *made.numbers[4:]]
        return replace(made, numbers=numbers, tiles=m // at_once * across)

    sliced(made, views, counts[-1], cut)


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
    """How the operand lies; copied where neither axis is along memory."""
    view = lowering.view(node)
    found = _layout(view)
    if found is None:
        found = _layout(lowering.gathered(view))
        assert found is not None
    return found


def _layout(view: View) -> _Matrix | None:
    (rows, cols), (step, next_) = view.shape[-2:], view.strides[-2:]
    if next_ == 1 or cols <= 1:
        return _Matrix(view, "rows", step if rows > 1 else max(cols, 1))
    if step == 1 or rows <= 1:
        return _Matrix(view, "columns", next_)
    return None


def _is_light(program: Program, views: Sequence[View], k: int) -> bool:
    """Whether what follows is best done on sums in registers: there are few steps, all cheap.

    Blocks of few products would push each other's rows out of the cache, where those fall on the
    same lines.
    """
    ops = [step.op for step in program.steps]
    is_cheap = len(ops) <= _LIGHT_STEPS and _LIGHT_OPS.issuperset(ops)
    apart = [view.strides[-2] * view.dtype.itemsize for view in views]
    is_crowded = k < SOON and any(step and step % _PAGE == 0 for step in apart)
    return k <= _LIGHT_TERMS and is_cheap and not is_crowded


def _is_turned(lowering: Lowering, a: _Matrix, b: _Matrix) -> bool:
    """Whether the transpose is to be computed, because it costs less.

    A vector of what is packed is multiplied by every row of the other operand, even where lanes
    are idle; to pack it costs about as much as lanes / 2 more rows.
    """
    m, n = a.view.shape[-2], b.view.shape[-1]
    lanes, width = lowering.target.lanes, lowering.target.lanes * lowering.target.panel
    across = lanes * _turned_shape(lowering.target, m)[0]
    usual = -(-n // width) * width * (m + lanes // 2)
    turned = -(-m // across) * across * (n + lanes // 2)
    is_small = m <= _TURNED_PANELS * across
    is_read_well = b.order == "columns" and b.step * 4 % ALIASING != 0
    return is_small and is_read_well and turned < usual and not lowering.stays(b.view.buffer)


def _turned_shape(target: Target, m: int) -> tuple[int, tuple[int, ...]]:
    """Vectors side by side, and the rows of blocks, which fill the rows that are written at once.

    A full block has as many sums either way.
    """
    panel = 1 if m <= target.lanes else 2
    full = 2 // panel << (target.blocks[0].bit_length() - 1)
    return panel, tuple(full >> i for i in range(full.bit_length()))


def _turned(x: _Matrix) -> _Matrix:
    """The transpose, where it is."""
    *batch, rows, cols = range(len(x.view.shape))
    order = "rows" if x.order == "columns" else "columns"
    return _Matrix(x.view.permute((*batch, cols, rows)), order, x.step)


def _is_far(a: _Matrix, panels: int) -> bool:
    """Whether packing costs less than it saves."""
    is_far = a.step >= FAR_APART if a.order == "columns" else a.step * 4 % ALIASING == 0
    return is_far and panels >= _READ_OFTEN


def _packed(lowering: Lowering, a: _Matrix) -> _Matrix:
    """A in the order in which the blocks of rows read it; as it is where the batch is no axis."""
    target = lowering.target
    *batch_shape, m, k = a.view.shape
    lengths, (along,) = merged(tuple(batch_shape), [a.view.strides[:-2]])
    if len(lengths) > 1:
        return a
    room = lowering.packings.get((a.view, a.order))
    if room is not None:
        return _Matrix(room, "packed", 0)
    room = lowering.packings[a.view, a.order] = lowering.new(TensorType(a.view.shape, float32))
    tiles = -(-m // (target.blocks[0] * PACKED_PER_TILE))
    spec = ("pack_a", PackSpec(a.order, target.blocks))
    numbers = [m, k, a.step, *(along or (0,)), tiles]
    count = math.prod(batch_shape) * tiles if k else 0
    lowering.tasks.append(task(spec, [a.view], [room], numbers, count))
    return _Matrix(room, "packed", 0)


def _in_panels(lowering: Lowering, b: _Matrix, panel: int) -> _Matrix:
    """A B that stays the same, in the order in which the blocks read it."""
    target = lowering.target
    *batch_shape, k, n = b.view.shape
    width = target.lanes * panel
    panels = -(-n // width)
    room = lowering.packings.get((b.view, f"panels of {width}"))
    if room is None:
        room = lowering.new(TensorType((k, panels * width), float32))
        lowering.packings[b.view, f"panels of {width}"] = room
        spec = ("pack_b", PanelsSpec(b.order, target.lanes, panel))
        lowering.tasks.append(task(spec, [b.view], [room], [n, k, b.step], panels if k else 0))
    shape = (1,) * len(batch_shape) + room.shape
    seen = room.reshape(shape)
    assert seen is not None
    return _Matrix(seen.broadcast_to((*batch_shape, *room.shape)), "packed", 0)
