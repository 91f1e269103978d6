"""Tasks of convolutions: which kernel, how images are cut, and what follows in the same task.

Every convolution here has two spatial axes (``planes`` sees to that). Most are computed directly;
those with fewer windows than entries of a window, above all gradients of kernels, by
``wide_convolution``. The gradient of the input is a direct convolution like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chainrule.core.dtype import float32
from chainrule.core.graph import Node, TensorType
from chainrule.run.native.failures import NoKernelError
from chainrule.run.native.kernels.shapes import (
    ROOM,
    ConvolutionSpec,
    chain_depth,
    heights,
    whole_rows,
)
from chainrule.run.native.kernels.weights import WeightsSpec
from chainrule.run.native.kernels.wide_convolution import WideSpec
from chainrule.run.native.kernels.windows import Axis, Slab
from chainrule.run.native.program import FAR, NEXT, SAME, Operand, Program, Step
from chainrule.run.native.tandem import same_tiles, sliced
from chainrule.run.native.task import task
from chainrule.run.native.views import View

if TYPE_CHECKING:
    from chainrule.run.native.lower import Lowering
    from chainrule.run.native.target import Target

# A convolution is cut into at least so many tiles, if it has the rows for it.
_TILES = 4
# Numbers of a tile's copies and of its sums, so that they stay in the second cache.
COPY = 1 << 16
# Numbers of copies that stay in the first cache.
_NEAR = 12 << 10
# Tiles along a long sum: so many at least, and so many numbers of w in each if possible, that a
# slice of a tandem stays in the second cache; numbers that their partial sums may take.
_PARTS, _PART = 8, 1 << 18
_PARTIAL = 1 << 22


def axes(node: Node) -> tuple[Axis, Axis]:
    """The two spatial axes of a convolution."""
    x, w = node.inputs
    at = node.attrs
    rows, columns = (
        Axis(
            x.shape[2 + i], w.shape[2 + i], at["stride"][i], at["low"][i], at["dilation"][i],
            at["spread"][i], node.shape[2 + i],
        )
        for i in range(2)
    )  # fmt: skip
    return rows, columns


def is_wide(node: Node) -> bool:
    """Whether windows are larger than the planes of the result."""
    return math.prod(node.inputs[1].shape[2:]) > math.prod(node.shape[2:])


def show(lowering: Lowering, node: Node) -> None:
    """Say where a convolution's result is going to be, if it may lie otherwise than in rows.

    The gradient of a kernel comes as (channels, outputs, ...), and is read the other way round.
    """
    if is_wide(node) and not lowering.has_place(node):
        b, o, *window = node.shape
        turned = lowering.new(TensorType((o, b, *window), node.dtype))
        lowering.show(node, turned.permute((1, 0, *range(2, node.ndim))))


def convolution_tasks(
    lowering: Lowering, node: Node, program: Program, views: Sequence[View]
) -> None:
    """Append a convolution and the chain that follows it.

    Args:
        program: the chain; its operands' columns are filled in here.
        views: one per operand, of the convolution's shape.
    """
    if node.dtype != float32:
        raise NoKernelError(f"convolution of {node.dtype}")
    if not node.size:
        return
    x, w = (lowering.view(child) for child in node.inputs)
    if not x.size or not w.size:
        result = lowering.new(node.tensor_type)
        lowering.fill(result, 0)
        _after(lowering, node, program, views, result)
    elif is_wide(node):
        plain = len(program.steps) == 1
        result = views[0] if plain else lowering.new(node.tensor_type)
        _wide(lowering, node, x, w, result)
        if not plain:
            _after(lowering, node, program, views, result)
    else:
        _direct(lowering, node, x, w, program, views)


def _after(
    lowering: Lowering, node: Node, program: Program, views: Sequence[View], result: View
) -> None:
    """The chain, on a result that stands in memory."""
    number = len(program.operands)
    steps = tuple(
        Step("load", (), step.dtype, number) if step.op == "product" else step
        for step in program.steps
    )
    operands = (*program.operands, Operand(node.dtype.name, NEXT))
    lowering.pass_over(Program(steps, operands, program.stores), [*views, result], node.shape, None)


# ------------------------------------------------------------------------------ direct


def _direct(
    lowering: Lowering, node: Node, x: View, w: View, program: Program, views: Sequence[View]
) -> None:
    target = lowering.target
    groups: int = node.attrs["groups"]
    outputs, channels = w.shape[0] // groups, w.shape[1]
    rows, columns = axes(node)
    flat, copies = _flat(lowering, program, views)
    numbers: list[int] = []
    operands = []
    for operand, view in zip(program.operands, flat, strict=True):
        column = {0: SAME, 1: NEXT}.get(view.strides[2] if view.shape[2] > 1 else 1, FAR)
        operands.append(Operand(operand.dtype, column))
        numbers += [*view.strides[:2], *([view.strides[2]] if column == FAR else [])]
    program = program._replace(operands=tuple(operands))

    height, tall, low = heights(outputs, target.window_blocks[0])
    in_lines = columns.positions % target.lanes == 0
    chosen = ConvolutionSpec(
        channels, outputs, rows, columns, *cut(node, channels, rows, columns, target),
        x.strides[3] == 1 or x.shape[3] == 1, program, target.lanes,
        target.window_panel(height) if in_lines else target.panel, target.window_blocks,
    )  # fmt: skip
    if chosen.room > ROOM:
        raise NoKernelError(f"convolution of rows of {columns.length} entries")
    packed = lowering.new(TensorType(w.shape, float32))
    pack = WeightsSpec(channels, outputs, (rows.kernel, columns.kernel), chosen.blocks[0])
    lowering.tasks.append(
        task(("pack_weights", pack), [w], [packed], w.strides, groups * (tall + low))
    )
    strips = -(-rows.positions // chosen.strip)
    numbers = [groups, strips, *x.strides, *numbers]
    made = task(
        ("convolution", chosen), [x, packed, *flat], [], numbers, x.shape[0] * groups * strips
    )
    written = {operand for _, operand in program.stores}
    made.writes = [flat[i].buffer for i in sorted(written)]
    made.reads = made.reads[:2] + [v.buffer for i, v in enumerate(flat) if i not in written]
    lowering.tasks.append(sliced(made, [x, *flat], x.shape[0], same_tiles(made)))
    for source, place in copies:
        lowering.copy(source, place)


def _flat(
    lowering: Lowering, program: Program, views: Sequence[View]
) -> tuple[list[View], list[tuple[View, View]]]:
    """The operands as (batch, channels, pixels); what has to be copied afterwards."""
    written = {operand for _, operand in program.stores}
    flat, copies = [], []
    for number, view in enumerate(views):
        shape = (*view.shape[:2], math.prod(view.shape[2:]))
        found = _pixels(view)
        if found is None and number in written:
            room = lowering.new(TensorType(view.shape, view.dtype))
            copies.append((room, view))
            found = room.reshape(shape)
        elif found is None:
            found = lowering.gathered(view).reshape(shape)
        assert found is not None
        flat.append(found)
    return flat, copies


def _pixels(view: View) -> View | None:
    """The view with its rows and columns as one axis."""
    (high, wide), (down, along) = view.shape[2:], view.strides[2:]
    if high == 1:
        step = along
    elif wide == 1 or down == wide * along:
        step = down if wide == 1 else along
    else:
        return None
    return View(
        view.buffer, view.dtype, (*view.shape[:2], high * wide), (*view.strides[:2], step),
        view.offset,
    )  # fmt: skip


def cut(node: Node, channels: int, rows: Axis, columns: Axis, target: Target) -> tuple[int, int]:
    """Rows of a strip, and channels of a chain."""
    groups: int = node.attrs["groups"]
    high = rows.positions
    least = whole_rows(columns.positions, target.lanes)
    least = least if high % least == 0 else 1
    fewest = least  # rows of a full block: for less, reading its weights costs more than products
    while fewest < high and fewest * columns.positions <= (target.panel - 1) * target.lanes:
        fewest += least
    depth = min(channels, chain_depth(rows.kernel * columns.kernel))
    one = Slab(rows, columns, fewest).size
    depth = max(1, min(depth, ROOM // 2 // one))
    outputs = node.inputs[1].shape[0] // groups
    # Of rows of whole vectors, strips cost no more than the rows around them.
    room = COPY if columns.positions % target.lanes else _NEAR
    strip = high
    wanted = -(-_TILES // (node.shape[0] * groups))
    while strip > fewest:
        size = depth * Slab(rows, columns, strip).size
        sums = strip * columns.positions * (outputs if depth < channels else 16)
        if size <= room and sums <= COPY and -(-high // strip) >= min(wanted, high // fewest):
            break
        strips = -(-high // strip) + 1
        strip = max(fewest, min(strip - least, least * -(-high // (strips * least))))
    return strip, depth


# ------------------------------------------------------------------------------ wide


def _wide(lowering: Lowering, node: Node, x: View, w: View, result: View) -> None:
    target = lowering.target
    groups: int = node.attrs["groups"]
    outputs, channels = w.shape[0] // groups, w.shape[1]
    rows, columns = axes(node)
    if _pixels(w) is None or _pixels(w).strides[2] != 1:  # type: ignore[union-attr]
        w = lowering.gathered(w)
    samples = x.shape[0]

    def spec(most: int) -> WideSpec:
        return WideSpec(
            outputs, rows, columns, x.strides[3] == 1 or x.shape[3] == 1, target.lanes,
            target.panel, target.blocks, most,
        )  # fmt: skip

    one = spec(1)
    most = min(samples, max(1, (2 * COPY - one.turned) // one.size))
    most = -(-samples // -(-samples // most))
    made = spec(most)
    if made.room > ROOM:
        raise NoKernelError(f"convolution with windows of {columns.kernel} entries")
    wide = one.vectors * target.lanes
    size = groups * samples * one.windows * wide
    tiles = max(1, min(channels, max(_PARTS, math.prod(w.shape) // _PART), _PARTIAL // size))
    per_tile = -(-channels // tiles)
    tiles = -(-channels // per_tile)
    parts = -(-samples // most)
    sums = lowering.new(TensorType((tiles, size), float32))
    numbers = [groups, samples, parts, channels, per_tile, tiles, *x.strides, *w.strides[:2]]
    summing = task(("wide_convolution", made), [x, w], [sums], numbers, groups * parts * tiles)
    if groups == parts == 1 and channels == tiles * per_tile:
        # The channels of a weight gradient are images, which a tandem goes through.
        by_channels = [x.permute((1, 0, 2, 3)), w.permute((1, 0, 2, 3)), sums]
        summing = sliced(summing, by_channels, tiles, same_tiles(summing))
    lowering.tasks.append(summing)
    if tiles > 1:
        total = lowering.new(TensorType((size,), float32))
        whole = sums.reshape((1, tiles, size))
        assert whole is not None
        lowering._sum_columns("sum", whole, total)
    else:
        total = sums
    seen = total.reshape((groups, samples, *node.shape[2:], wide))
    assert seen is not None
    shape = (groups, samples, *node.shape[2:], outputs)
    seen = seen.slice((0,) * 5, (1,) * 5, shape)
    by_group = result.reshape((samples, groups, outputs, *node.shape[2:]))
    if by_group is None:
        strides = result.strides
        by_group = View(
            result.buffer, result.dtype, (samples, groups, outputs, *node.shape[2:]),
            (strides[0], outputs * strides[1], *strides[1:]), result.offset,
        )  # fmt: skip
    lowering.copy(seen.permute((1, 0, 4, 2, 3)), by_group)
