"""Tasks of the ops that choose entries by number, and of random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from chainrule.core.dtype import float64, int64
from chainrule.core.graph import Node, Shape, TensorType
from chainrule.run.native.elementwise import IN_MEMORY
from chainrule.run.native.failures import NoKernelError, WideError
from chainrule.run.native.kernels.index import COLUMNS_PER_TILE, IndexSpec
from chainrule.run.native.kernels.randomness import BLOCKS_PER_TILE, RandomSpec
from chainrule.run.native.task import task
from chainrule.run.native.views import View

if TYPE_CHECKING:
    from chainrule.run.native.lower import Lowering

# Entries that a tile of :func:`_take` copies.
_TILE = 8192


def _sizes(shape: Shape, dim: int) -> tuple[int, int]:
    """How many entries there are before and after an axis."""
    return math.prod(shape[:dim]), math.prod(shape[dim + 1 :])


def _spec(lowering: Lowering, x: View, index: View, how: str = "") -> IndexSpec:
    memory = IN_MEMORY[x.dtype.name]
    return IndexSpec(memory, index.dtype.name, lowering.target.lanes, how)


def _take(lowering: Lowering, node: Node) -> None:
    x, index = (lowering.packed(child) for child in node.inputs)
    dim: int = node.attrs["dim"]
    outer, width = _sizes(x.shape, dim)
    count, size = index.size, x.shape[dim]
    per_tile = max(1, _TILE // max(width, 1))
    tiles = -(-count // per_tile)
    numbers = [count, size, width, per_tile, tiles]
    reads, writes = [x, index], [lowering.home(node), _errors(lowering)]
    spec = ("take", _spec(lowering, x, index))
    lowering.tasks.append(task(spec, reads, writes, numbers, outer * tiles, checks=True))


def _errors(lowering: Lowering) -> View:
    """The run's error flag."""
    return View(lowering.errors, int64, (1,), (1,))


def _take_add(lowering: Lowering, node: Node) -> None:
    g, index = (lowering.packed(child) for child in node.inputs)
    lowering.fill(lowering.home(node), 0)
    _scatter(lowering, node, g, index, "add")


def _put(lowering: Lowering, node: Node) -> None:
    x, index, values = node.inputs
    lowering.copy(lowering.view(x), lowering.home(node))
    _scatter(lowering, node, lowering.packed(values), lowering.packed(index), "put")


def _scatter(lowering: Lowering, node: Node, x: View, index: View, how: str) -> None:
    y = lowering.home(node)
    dim: int = node.attrs["dim"]
    outer, width = _sizes(y.shape, dim)
    tiles = -(-width // COLUMNS_PER_TILE)
    numbers = [index.size, y.shape[dim], width, tiles]
    spec = ("scatter", _spec(lowering, x, index, how))
    made = task(spec, [x, index], [y, _errors(lowering)], numbers, outer * tiles, True)
    made.reads.append(y.buffer)
    lowering.tasks.append(made)


def _gather(lowering: Lowering, node: Node) -> None:
    x, index = (lowering.packed(child) for child in node.inputs)
    dim: int = node.attrs["dim"]
    shape = _inside(x.shape, index.shape, dim)
    if shape != x.shape:
        x = lowering.gathered(x.slice((0,) * len(shape), (1,) * len(shape), shape))
    outer, width = _sizes(shape, dim)
    per_tile = max(1, _TILE // max(index.shape[dim] * width, 1))
    numbers = [index.shape[dim], shape[dim], width, outer, per_tile]
    tiles = -(-outer // per_tile) if index.size else 0
    writes = [lowering.home(node), _errors(lowering)]
    spec = ("gather", _spec(lowering, x, index))
    lowering.tasks.append(task(spec, [x, index], writes, numbers, tiles, checks=True))


def _inside(shape: Shape, index: Shape, dim: int) -> Shape:
    """The part of a tensor that an index reaches: all along ``dim``, its own lengths elsewhere."""
    return tuple(shape[axis] if axis == dim else n for axis, n in enumerate(index))


def _gather_add(lowering: Lowering, node: Node) -> None:
    g, index = (lowering.packed(child) for child in node.inputs)
    dim: int = node.attrs["dim"]
    y = lowering.home(node)
    lowering.fill(y, 0)
    shape = _inside(y.shape, index.shape, dim)
    part = y
    if shape != y.shape:  # added in a smaller tensor, which is then set into the zeros
        part = lowering.new(TensorType(shape, y.dtype))
        lowering.fill(part, 0)
    outer, width = _sizes(shape, dim)
    numbers = [index.shape[dim], shape[dim], width]
    spec = ("gather_add", _spec(lowering, g, index))
    tiles = outer if index.size else 0
    made = task(spec, [g, index], [part, _errors(lowering)], numbers, tiles, checks=True)
    made.reads.append(part.buffer)
    lowering.tasks.append(made)
    if part is not y:
        lowering.copy(part, y.slice((0,) * len(shape), (1,) * len(shape), shape))


def _random(lowering: Lowering, node: Node) -> None:
    if node.dtype == float64:
        raise WideError("random numbers of float64")
    seed, base = (lowering.packed(child) for child in node.inputs)
    if seed.dtype != int64 or base.dtype != int64:
        raise NoKernelError(f"a random seed of {seed.dtype}")
    blocks = -(-node.size // 4)
    numbers = [node.attrs["ordinal"], node.size]
    spec = ("random", RandomSpec(node.dtype.name, lowering.target.lanes))
    tiles = -(-blocks // BLOCKS_PER_TILE)
    lowering.tasks.append(task(spec, [seed, base], [lowering.home(node)], numbers, tiles))


INDEXING: dict[str, Callable[[Lowering, Node], None]] = {
    "take": _take, "take_add": _take_add, "put": _put, "gather": _gather,
    "gather_add": _gather_add, "random_bits": _random, "random_uniform": _random,
}  # fmt: skip
