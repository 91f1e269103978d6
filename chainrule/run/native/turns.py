"""Copies in which the entries of two rows take turns."""

from __future__ import annotations

import math
from dataclasses import replace

from chainrule.core.dtype import float32
from chainrule.run.native.kernels.interleave import InterleaveSpec
from chainrule.run.native.tandem import sliced
from chainrule.run.native.task import Task, task
from chainrule.run.native.views import View, merged

# Entries of a tile.
_TILE = 8192


def take_turns(source: View, target: View) -> bool:
    """Whether a copy is of this kind: pairs of floats, the first and the second along memory."""
    return (
        source.dtype == float32 and source.shape[-1:] == (2,) and len(source.shape) > 1
        and source.strides[-2] == 1 and source.shape[-2] > 1 and target.is_contiguous
        and source.size > 0
    )  # fmt: skip


def interleaving(source: View, target: View, lanes: int) -> Task:
    """The task of such a copy."""
    *outer, cols, _ = source.shape
    lengths, (strides,) = merged(tuple(outer), [source.strides[:-2]])
    spec = ("interleave", InterleaveSpec(max(len(lengths), 1), lanes))
    count = math.prod(lengths)
    tile_rows = max(1, _TILE // (2 * cols))
    rest = [source.strides[-1], *lengths[1:], *(strides or (0,))]
    made = task(spec, [source], [target], [count, cols, tile_rows, *rest], -(-count // tile_rows))

    def cut(n: int) -> Task:
        return replace(made, numbers=[count, cols, count // n, *rest], tiles=n)

    return sliced(made, [source, target], count, cut)
