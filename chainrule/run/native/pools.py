"""Tasks of max pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chainrule.core.dtype import float32
from chainrule.core.graph import Node, TensorType
from chainrule.run.native.failures import NoKernelError
from chainrule.run.native.kernels.convolution import ROOM
from chainrule.run.native.kernels.pooling import PoolSpec
from chainrule.run.native.kernels.windows import Axis, Slab
from chainrule.run.native.task import task

if TYPE_CHECKING:
    from chainrule.run.native.lower import Lowering

# Entries of the input in a tile.
_TILE = 1 << 14
# Numbers that the copy of a plane may take.
_COPY = 1 << 15


def _max_pool(lowering: Lowering, node: Node) -> None:
    (child,) = node.inputs
    at = node.attrs
    rank = len(at["kernel"])
    assert not isinstance(node.type, TensorType)
    if child.dtype != float32 or rank > 2:
        raise NoKernelError(f"max_pool of {child.dtype} with {rank} spatial axes")
    x = lowering.packed(child)
    shape = node.type[0].shape
    found = [
        Axis(
            x.shape[2 + i], at["kernel"][i], at["stride"][i], at["low"][i], at["dilation"][i], 1,
            shape[2 + i],
        )
        for i in range(rank)
    ]  # fmt: skip
    rows, columns = found if rank == 2 else [Axis(1, 1, 1, 0, 1, 1, 1), *found]
    planes = shape[0] * shape[1]
    strip = rows.positions
    while strip > 1 and Slab(rows, columns, strip).size > _COPY:
        strip = -(-strip // 2)
    if Slab(rows, columns, strip).size > ROOM:
        raise NoKernelError(f"max_pool of rows of {columns.length} entries")
    per_tile = max(1, _TILE // max(rows.length * columns.length, 1))
    picks = {each.attrs["index"]: each for each in lowering.fusion.picks.get(node, ())}
    results = [
        lowering.home(picks[index]) if index in picks else lowering.new(node.type[index])
        for index in ((0, 1) if 1 in picks else (0,))
    ]
    spec = PoolSpec(rows, columns, strip, per_tile, 1 in picks, lowering.target.lanes)
    strips = -(-rows.positions // strip)
    tiles = -(-planes // per_tile) * strips
    lowering.tasks.append(task(("max_pool", spec), [x], results, [planes, strips], tiles))


POOLING: dict[str, Callable[[Lowering, Node], None]] = {"max_pool": _max_pool}
