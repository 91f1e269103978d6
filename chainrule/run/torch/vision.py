"""How PyTorch computes convolution, pooling and what else networks for images need."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from chainrule.core.graph import Shape
from chainrule.core.ops.convolution import spread_length
from chainrule.run.torch.table import ROWS, row


def _padded(x: Tensor, low: Shape, high: Shape, spread: Shape, fill: float = 0) -> Tensor:
    """Spatial axes spread out, then padded or (below 0) cut."""
    if any(s > 1 for s in spread):
        spans = [spread_length(n, s) for n, s in zip(x.shape[2:], spread, strict=True)]
        out = x.new_zeros((*x.shape[:2], *spans))
        out[(..., *[slice(None, None, s) for s in spread])] = x
        x = out
    ends = [end for pair in zip(low, high, strict=True) for end in reversed(pair)]
    return functional.pad(x, ends[::-1], value=fill) if any(ends) else x


@row("convolution")
def _convolution(
    x: Tensor,
    w: Tensor,
    *,
    stride: Shape,
    low: Shape,
    high: Shape,
    dilation: Shape,
    spread: Shape,
    groups: int,
) -> Tensor:
    x = _padded(x, low, high, spread)
    rank = len(stride)
    if not x.numel() or not w.numel():
        lengths = [
            max((n - spread_length(k, d)) // s + 1, 0)
            for n, k, s, d in zip(x.shape[2:], w.shape[2:], stride, dilation, strict=True)
        ]
        return x.new_zeros((x.shape[0], w.shape[0], *lengths))
    zeros = [0] * rank
    return torch.convolution(x, w, None, stride, zeros, dilation, False, zeros, groups)


@row("max_pool")
def _max_pool(
    x: Tensor, *, kernel: Shape, stride: Shape, low: Shape, high: Shape, dilation: Shape
) -> tuple[Tensor, Tensor]:
    rank = len(kernel)
    wide = _padded(x, low, high, (1,) * rank, -torch.inf)
    pool = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[rank - 1]
    values, place = pool(wide, kernel, stride, 0, dilation, return_indices=True)
    found = torch.zeros_like(place)
    for n, before, i in zip(
        x.shape[2:], low, torch.unravel_index(place, wide.shape[2:]), strict=True
    ):
        found = found * n + (i - before).clamp(0, n - 1)
    return values, found


@row("adaptive_max_pool")
def _adaptive_max_pool(x: Tensor, *, size: Shape) -> tuple[Tensor, Tensor]:
    pools = (
        functional.adaptive_max_pool1d,
        functional.adaptive_max_pool2d,
        functional.adaptive_max_pool3d,
    )
    values, place = pools[len(size) - 1](x, size, return_indices=True)
    return values, place


@row("cumsum")
def _cumsum(x: Tensor, *, dim: int) -> Tensor:
    return x.cumsum(dim, dtype=x.dtype)


ROWS["atan"] = torch.atan
