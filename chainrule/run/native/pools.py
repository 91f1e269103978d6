"""Tasks of max pooling and of its gradient, where they are no steps of chains (``winners``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from chainrule.core.dtype import float32
from chainrule.core.graph import Node, TensorType
from chainrule.run.native.indexing import INDEXING
from chainrule.run.native.kernels.pooling import PoolSpec
from chainrule.run.native.kernels.shapes import ROOM
from chainrule.run.native.kernels.windows import Axis, Slab
from chainrule.run.native.ordering import max_bins, strided_windows
from chainrule.run.native.tandem import sliced
from chainrule.run.native.task import Task, task
from chainrule.run.native.views import View

if TYPE_CHECKING:
    from chainrule.run.native.lower import Lowering

# Entries of the input in a tile.
_TILE = 1 << 14
# Numbers that the copy of a plane may take.
_COPY = 1 << 15


def _has_vectors(node: Node) -> bool:
    """Whether there are one or two spatial axes, and a row of windows goes into a copy."""
    if len(node.attrs["kernel"]) > 2 or node.inputs[0].dtype != float32:
        return False
    return Slab(*_axes(node), 1).size <= ROOM


def _axes(node: Node) -> tuple[Axis, Axis]:
    """The two spatial axes of a max pooling; a single one stands in a row."""
    (x,) = node.inputs
    assert not isinstance(node.type, TensorType)
    at, shape = node.attrs, node.type[0].shape
    rank = len(at["kernel"])
    found = [
        Axis(
            x.shape[2 + i], at["kernel"][i], at["stride"][i], at["low"][i], at["dilation"][i], 1,
            shape[2 + i],
        )
        for i in range(rank)
    ]  # fmt: skip
    rows, columns = found if rank == 2 else [Axis(1, 1, 1, 0, 1, 1, 1), *found]
    return rows, columns


def _spec(lowering: Lowering, node: Node, places: bool) -> PoolSpec:
    rows, columns = _axes(node)
    strip = rows.positions
    while strip > 1 and Slab(rows, columns, strip).size > _COPY:
        strip = -(-strip // 2)
    planes = max(1, _TILE // max(rows.length * columns.length, 1))
    return PoolSpec(rows, columns, strip, planes, places, lowering.target.lanes)


def _max_pool(lowering: Lowering, node: Node) -> None:
    if not _has_vectors(node):
        max_bins(lowering, node, *strided_windows(node))
        return
    assert not isinstance(node.type, TensorType)
    picks = {each.attrs["index"]: each for each in lowering.fusion.picks.get(node, ())}
    spec = _spec(lowering, node, 1 in picks)
    x = lowering.packed(node.inputs[0])
    results = [
        lowering.home(picks[index]) if index in picks else lowering.new(node.type[index])
        for index in ((0, 1) if 1 in picks else (0,))
    ]
    planes = x.shape[0] * x.shape[1]
    strips = -(-spec.rows.positions // spec.strip)
    tiles = -(-planes // spec.planes) * strips
    made = task(("max_pool", spec), [x], results, [planes, strips], tiles)
    lowering.tasks.append(_sliced(made, [x, *results]))


def _gather_add(lowering: Lowering, node: Node) -> None:
    """The way back through a max pooling, where windows do not overlap; else as for any index."""
    g, index = node.inputs
    pooling = _pooling(lowering, node)
    if pooling is None:
        INDEXING["gather_add"](lowering, node)
        return
    spec = _spec(lowering, pooling, True)._replace(strip=1)
    views = [lowering.packed(g), lowering.packed(index)]
    planes = g.shape[0] * g.shape[1]
    tiles = -(-planes // spec.planes)
    home = lowering.home(node)
    made = task(("max_unpool", spec), views, [home], [planes], tiles)
    lowering.tasks.append(_sliced(made, [*views, home]))


def _sliced(made: Task, views: Sequence[View]) -> Task:
    """The task, which may be cut between planes."""
    name, spec = made.spec
    planes, strips = (*made.numbers, 1)[:2]

    def cut(count: int) -> Task:
        at_once = math.gcd(planes // count, spec.planes)
        new = (name, spec._replace(planes=at_once))
        return replace(made, spec=new, tiles=planes // at_once * strips)

    return sliced(made, views, planes, cut)


def _pooling(lowering: Lowering, node: Node) -> Node | None:
    """The max pooling whose places these are, if its windows stand side by side."""
    g, index = node.inputs
    picked = index
    while picked.op.name == "reshape":
        picked = picked.inputs[0]
    if picked.op.name != "pick" or picked.inputs[0].op.name != "max_pool":
        return None
    pooling = picked.inputs[0]
    if not _has_vectors(pooling):
        return None
    x = pooling.inputs[0]
    shape = (*x.shape[:2], math.prod(x.shape[2:]))
    if picked.attrs["index"] != 1 or g.dtype != float32 or not index.size:
        return None
    is_plane = node.attrs["dim"] == 2 and node.shape == shape and g.shape[:2] == shape[:2]
    is_whole = index.shape == g.shape and index.size == picked.size
    return (
        pooling if is_plane and is_whole and _spec(lowering, pooling, True).tiles_planes else None
    )


POOLING: dict[str, Callable[[Lowering, Node], None]] = {
    "max_pool": _max_pool, "gather_add": _gather_add,
}  # fmt: skip
