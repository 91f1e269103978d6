"""Tasks of sorting, of running sums, of the place of the largest, and of maxima over windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from chainrule.core.dtype import bool_, float32
from chainrule.core.graph import Array, Node, TensorType
from chainrule.run.native.failures import NoKernelError
from chainrule.run.native.kernels.bins import BinsSpec
from chainrule.run.native.kernels.columns import ArgmaxSpec
from chainrule.run.native.kernels.cumulative import CumsumSpec
from chainrule.run.native.kernels.sorting import SortSpec
from chainrule.run.native.task import task
from chainrule.run.native.views import View

if TYPE_CHECKING:
    from chainrule.run.native.lower import Lowering

# Rows are sorted in so many tiles, as long as their records take no more than so many bytes.
_SORT_TILES = 16
_SORT_ROOM = 1 << 24
# Entries of the input in a tile of windows.
_TILE = 1 << 14


def results_of(lowering: Lowering, node: Node) -> list[View]:
    """Where each result of an op with several goes; what nobody reads goes to spare room."""
    assert not isinstance(node.type, TensorType)
    picks = {each.attrs["index"]: each for each in lowering.fusion.picks.get(node, ())}
    return [
        lowering.home(picks[index]) if index in picks else lowering.new(type)
        for index, type in enumerate(node.type)
    ]


def _sort(lowering: Lowering, node: Node) -> None:
    x = lowering.packed(node.inputs[0])
    results = results_of(lowering, node)
    dim: int = node.attrs["dim"]
    count, step = x.shape[dim], math.prod(x.shape[dim + 1 :])
    if not x.size:
        return
    rows = x.size // count
    spec = SortSpec(x.dtype.name, node.attrs["descending"])
    room = spec.room(count)
    tiles = max(1, min(rows, _SORT_TILES, _SORT_ROOM // room))
    per_tile = -(-rows // tiles)
    tiles = -(-rows // per_tile)
    records = lowering.new(TensorType((tiles * room,), bool_))
    numbers = [rows, count, step, per_tile, room]
    lowering.tasks.append(task(("sort", spec), [x], [*results, records], numbers, tiles))


def _argmax(lowering: Lowering, node: Node) -> None:
    x = lowering.packed(node.inputs[0])
    dim: int = node.attrs["dim"]
    outer, cols = math.prod(x.shape[:dim]), math.prod(x.shape[dim + 1 :])
    count = x.shape[dim]
    numbers = [count, cols, count * cols, cols, 1]
    spec = ("argmax", ArgmaxSpec(x.dtype.name))
    tiles = outer if cols else 0
    lowering.tasks.append(task(spec, [x], [lowering.home(node)], numbers, tiles))


def _cumsum(lowering: Lowering, node: Node) -> None:
    x = lowering.packed(node.inputs[0])
    dim: int = node.attrs["dim"]
    outer, cols = math.prod(x.shape[:dim]), math.prod(x.shape[dim + 1 :])
    lanes = 1 if cols == 1 else lowering.target.lanes
    tiles = -(-cols // lanes)
    spec = ("cumsum", CumsumSpec(x.dtype.name, lanes))
    numbers = [x.shape[dim], cols, tiles]
    lowering.tasks.append(task(spec, [x], [lowering.home(node)], numbers, outer * tiles))


# ------------------------------------------------------------------------------ windows


def max_bins(lowering: Lowering, node: Node, tables: Sequence[Array], steps: Sequence[int]) -> None:
    """Append maxima over windows.

    Args:
        tables: for each spatial axis the windows' corners, starts and counts, as rows.
        steps: from one entry of a window to the next.
    """
    x = lowering.packed(node.inputs[0])
    if x.dtype != float32:
        raise NoKernelError(f"{node.op.name} of {x.dtype}")
    lengths, counts = x.shape[2:], [table.shape[1] for table in tables]
    planes = x.shape[0] * x.shape[1]
    per_tile = max(1, _TILE // max(math.prod(lengths), 1))
    made = [lowering.constant(table) for table in tables]
    lowering.tasks.append(
        task(
            ("max_bins", BinsSpec(tuple(steps), per_tile)), [x, *made], results_of(lowering, node),
            [planes, *lengths, *counts], -(-planes // per_tile),
        )
    )  # fmt: skip


def strided_windows(node: Node) -> tuple[list[Array], list[int]]:
    """The tables and steps of a max pooling, its windows cut where they hang over the ends."""
    x, at = node.inputs[0], node.attrs
    assert not isinstance(node.type, TensorType)
    tables = []
    for axis, kernel in enumerate(at["kernel"]):
        n, step = x.shape[2 + axis], at["dilation"][axis]
        corner = np.arange(node.type[0].shape[2 + axis]) * at["stride"][axis] - at["low"][axis]
        skipped = np.maximum(-corner + step - 1, 0) // step
        start = corner + skipped * step
        inside = np.maximum(n - start + step - 1, 0) // step
        count = np.clip(np.minimum(kernel - skipped, inside), 0, None)
        tables.append(np.array([np.clip(corner, 0, n - 1), start, count], np.int64))
    return tables, list(at["dilation"])


def _adaptive_max_pool(lowering: Lowering, node: Node) -> None:
    x = node.inputs[0]
    tables = []
    for n, size in zip(x.shape[2:], node.attrs["size"], strict=True):
        i = np.arange(size)
        start, stop = i * n // size, -(-(i + 1) * n // size)
        tables.append(np.array([start, start, stop - start], np.int64))
    max_bins(lowering, node, tables, [1] * len(tables))


ORDERING: dict[str, Callable[[Lowering, Node], None]] = {
    "argmax": _argmax, "sort": _sort, "cumsum": _cumsum, "adaptive_max_pool": _adaptive_max_pool,
}  # fmt: skip
