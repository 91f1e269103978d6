"""Cases of convolution, pooling, resampling, normalisation and cumulative sums."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from oracle import Case
from samples import INF, NAN, SHAPES, SPECIAL, between, grid, normal, truth, whole
from torch.nn import functional as F

from chainrule.core.op import pick
from chainrule.core.ops import normalization, parts, pooling, resampling
from chainrule.core.ops.angles import atan
from chainrule.core.ops.convolution import convolution, transposed_convolution

CASES: dict[str, list[Case]] = {}
KINKS: dict[str, list[Case]] = {}
SPECIALS: dict[str, list[Case]] = {}

ODD_LINE = np.array([[[1.0, NAN, 2.0, 0.5, INF, 1.0, 3.0, -INF, 2.0]]])

# ------------------------------------------------------------------------------ convolution

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d}


def _conv(x: Any, w: Any, **options: Any) -> Case:
    def reference(x: Any, w: Any) -> Any:
        with warnings.catch_warnings(action="ignore"):  # uneven "same" costs PyTorch a copy
            return CONV[x.ndim - 2](x, w, **options)

    return Case(lambda x, w: convolution(x, w, **options), reference, (x, w))


def _transposed(x: Any, w: Any, **options: Any) -> Case:
    return Case(
        lambda x, w: transposed_convolution(x, w, **options),
        lambda x, w: TRANSPOSED[x.ndim - 2](x, w, **options),
        (x, w),
    )


def _kernel(*shape: int) -> Any:
    return normal(*shape, seed=1)


CASES["convolution"] = [
    _conv(normal(2, 2, 7), _kernel(3, 2, 3)),
    _conv(normal(1, 2, 8), _kernel(4, 1, 3), stride=2, padding=1, groups=2),
    _conv(normal(2, 1, 6), _kernel(2, 1, 1), padding=2),  # zeros around a kernel of 1
    _conv(normal(0, 2, 5), _kernel(3, 2, 3)),
    _conv(normal(1, 1, 9), _kernel(1, 1, 2), stride=4, dilation=3),
    _conv(normal(1, 2, 6), _kernel(2, 2, 4), padding="same", dilation=1),
    _conv(normal(1, 2, 6), _kernel(2, 2, 3), padding="valid"),
    _conv(normal(2, 2, 4, 5), _kernel(3, 2, 2, 3), padding=(1, 0)),
    _conv(normal(1, 2, 6, 5), _kernel(2, 2, 3, 3), stride=(3, 2), padding=1),
    _conv(normal(1, 3, 5, 6), _kernel(3, 1, 3, 2), groups=3, dilation=(1, 2), padding="same"),
    _conv(normal(1, 4, 5, 5), _kernel(2, 2, 3, 3), stride=2, dilation=2, padding=2, groups=2),
    _conv(normal(1, 1, 3, 2, 3), _kernel(2, 1, 2, 2, 2)),
    _transposed(normal(1, 2, 4), _kernel(2, 3, 3), stride=2, padding=1, output_padding=1),
    _transposed(normal(1, 4, 3), _kernel(4, 1, 3), stride=3, groups=2, dilation=2),
    _transposed(normal(1, 2, 3, 2), _kernel(2, 1, 2, 3), stride=(2, 1), padding=(0, 1)),
]
SPECIALS["convolution"] = [_conv(ODD_LINE, np.array([[[1.0, 0.5]]]))]

# ------------------------------------------------------------------------------ pooling

MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _max(x: Any, *sizes: Any, **options: Any) -> Case:
    rank = x.ndim - 2
    return Case(
        lambda x: pooling.max_pool(x, *sizes, rank=rank, **options),
        lambda x: MAX[rank](x, *sizes, return_indices=True, **options),
        (x,),
    )


def _avg(x: Any, *sizes: Any, divisor: int | None = None, **options: Any) -> Case:
    rank = x.ndim - 2
    theirs = {"divisor_override": divisor} if divisor else {}
    return Case(
        lambda x: pooling.avg_pool(x, *sizes, rank=rank, divisor=divisor, **options),
        lambda x: AVG[rank](x, *sizes, **options, **theirs),
        (x,),
    )


TIES = np.array([[[[1.0, 1.0, 0.0], [1.0, 1.0, 2.0], [2.0, 2.0, 2.0]]]])
CASES["max_pool"] = [
    _max(grid(2, 1, 7), 3),
    _max(grid(1, 2, 8), 3, 2, 1),
    _max(grid(1, 2, 8), 2, 2, 0, 3),
    _max(grid(2, 2, 4, 6), 2),
    _max(grid(2, 3, 2, 2), 2),  # the plane is one window
    _max(grid(1, 2, 5, 6), (3, 2), (2, 1), (1, 0)),
    _max(grid(1, 1, 6, 7), 3, 2, 1, ceil_mode=True),
    _max(grid(1, 1, 5, 5), 2, 2, 0, 2, ceil_mode=True),
    _max(grid(1, 1, 5, 2), (2, 3), 2, (0, 1), ceil_mode=True),
    _max(grid(1, 1, 2, 2), 3, 2, ceil_mode=True),  # the only window hangs over
    _max(grid(0, 2, 4, 4), 2),
    _max(grid(1, 1, 4, 2, 4), 2),
]
KINKS["max_pool"] = [_max(TIES, 2, 1), _max(TIES, 3), _max(np.zeros((1, 1, 5)), 3, 2, 1)]
SPECIALS["max_pool"] = [_max(ODD_LINE, 2), _max(np.full((1, 1, 2), -INF), 2, 1, 1)]

CASES["avg_pool"] = [
    _avg(normal(2, 1, 7), 3),
    _avg(normal(1, 2, 8), 3, 2, 1),
    _avg(normal(2, 2, 4, 6), 2),
    _avg(normal(1, 2, 5, 6), (3, 2), (2, 1), (1, 0)),
    _avg(normal(1, 2, 5, 6), 3, 2, 1, count_include_pad=False),
    _avg(normal(1, 1, 6, 7), 3, 2, 1, ceil_mode=True),
    _avg(normal(1, 1, 6, 7), 3, 2, 1, ceil_mode=True, count_include_pad=False),
    _avg(normal(1, 1, 6, 8), 3, 2, ceil_mode=True),
    _avg(normal(1, 1, 5, 5), 2, 2, divisor=3),
    _avg(normal(0, 2, 4, 4), 2),
    _avg(normal(1, 1, 4, 2, 4), 2),
]
SPECIALS["avg_pool"] = [_avg(ODD_LINE, 2)]

_SIZES: list[tuple[Any, Any]] = [
    (grid(2, 1, 7), 3),
    (grid(1, 2, 5, 7), (2, 3)),
    (grid(1, 2, 3, 5), (4, 2)),  # more windows than rows
    (grid(1, 1, 7, 4), (3, None)),
    (grid(0, 1, 5, 4), (2, 3)),
]
ADAPTIVE_AVG = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d}
ADAPTIVE_MAX = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d}


def _adaptive_avg(x: Any, size: Any) -> Case:
    rank = x.ndim - 2
    return Case(
        lambda x: pooling.adaptive_avg_pool(x, size, rank=rank),
        lambda x: ADAPTIVE_AVG[rank](x, size),
        (x,),
    )


def _adaptive_max(x: Any, size: Any) -> Case:
    rank = x.ndim - 2
    return Case(
        lambda x: pooling.adaptive_max_pool(x, size, rank=rank),
        lambda x: ADAPTIVE_MAX[rank](x, size, return_indices=True),
        (x,),
    )


CASES["adaptive_avg_pool"] = [_adaptive_avg(*given) for given in _SIZES]
CASES["adaptive_max_pool"] = [_adaptive_max(*given) for given in _SIZES]
KINKS["adaptive_max_pool"] = [_adaptive_max(TIES, 2), _adaptive_max(np.zeros((1, 1, 5)), 3)]
SPECIALS["adaptive_avg_pool"] = [_adaptive_avg(np.full((1, 1, 5), NAN), 3)]
SPECIALS["adaptive_max_pool"] = [_adaptive_max(ODD_LINE, 4)]
CASES["max_pool"].append(_adaptive_max(grid(1, 2, 6, 4), (3, 2)))  # even windows
CASES["avg_pool"].append(_adaptive_avg(grid(1, 2, 6, 4), 1))

# ------------------------------------------------------------------------------ resampling


def _resized(x: Any, **options: Any) -> Case:
    return Case(
        lambda x: resampling.interpolate(x, **options),
        lambda x: F.interpolate(x, **options),
        (x,),
    )


CASES["upsample_nearest"] = [
    _resized(normal(1, 2, 5), scale_factor=2),
    _resized(normal(2, 1, 5), size=3),
    _resized(normal(1, 2, 3, 4), scale_factor=(2.5, 1.5)),
    _resized(normal(1, 2, 3, 4), size=(7, 9)),
    _resized(normal(0, 2, 3, 4), size=6),
]
CASES["upsample_linear"] = [
    _resized(normal(*shape), mode=mode, align_corners=align, **size)
    for shape, mode, size in [
        ((1, 2, 5), "linear", {"scale_factor": 2}),
        ((1, 2, 5), "linear", {"size": 1}),
        ((1, 2, 3, 4), "bilinear", {"scale_factor": 2}),
        ((1, 2, 3, 4), "bilinear", {"scale_factor": (2.3, 1.7)}),
        ((1, 1, 6, 5), "bilinear", {"size": (3, 8)}),
        ((1, 1, 1, 3), "bilinear", {"size": (2, 2)}),
        ((1, 1, 2, 2, 3), "trilinear", {"size": (3, 3, 2)}),
    ]
    for align in (True, False)
]
SPECIALS["upsample_nearest"] = [_resized(ODD_LINE, scale_factor=2)]
SPECIALS["upsample_linear"] = [
    _resized(np.full((1, 1, 4), NAN), mode="linear", align_corners=False, size=7)
]

# ------------------------------------------------------------------------------ sums

CASES["cumsum"] = [
    Case(lambda x, d=d: parts.cumsum(x, d), lambda x, d=d: x.cumsum(d), (x,))
    for x, d in [
        (normal(5), 0),
        (normal(2, 3, 4), -2),
        (normal(2, 0), 1),
        (whole(-5, 5, 3, 4), 1),
        (truth(6), 0),
    ]
]
SPECIALS["cumsum"] = [Case(lambda x: parts.cumsum(x, 2), lambda x: x.cumsum(2), (ODD_LINE,))]

# ------------------------------------------------------------------------------ normalisation


def _statistics(x: torch.Tensor, dims: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    with warnings.catch_warnings(action="ignore"):  # a batch of no samples
        return x.mean(dims, keepdim=True), x.var(dims, correction=0, keepdim=True)


def _results(node: Any) -> tuple[Any, ...]:
    return tuple(pick(node, i) for i in range(3))


def _batch_norm(x: Any, eps: float) -> Case:
    dims = tuple(axis for axis in range(x.ndim) if axis != 1)
    shape = tuple(n if axis == 1 else 1 for axis, n in enumerate(x.shape))

    def reference(x: Any, gamma: Any, beta: Any) -> Any:
        y = F.batch_norm(x, None, None, gamma.reshape(-1), beta.reshape(-1), True, 0.1, eps)
        return y, *_statistics(x, dims)

    return Case(
        lambda *xs: _results(normalization.BATCH_NORM(*xs, dims=dims, eps=eps)),
        reference,
        (x, normal(*shape, seed=4), normal(*shape, seed=5)),
    )


def _layer_norm(x: Any, count: int, eps: float) -> Case:
    dims = tuple(range(x.ndim))[x.ndim - count :]
    tail = x.shape[x.ndim - count :]

    def reference(x: Any, gamma: Any, beta: Any) -> Any:
        return F.layer_norm(x, tail, gamma, beta, eps), *_statistics(x, dims)

    return Case(
        lambda *xs: _results(normalization.LAYER_NORM(*xs, dims=dims, eps=eps)),
        reference,
        (x, normal(*tail, seed=4), normal(*tail, seed=5)),
    )


def _group_norm(x: Any, eps: float) -> Case:
    """``x`` is (batch, groups, channels of a group, ...)."""
    groups, width = x.shape[1:3]
    shape = (groups, width, *(1,) * (x.ndim - 3))
    dims = tuple(range(2, x.ndim))

    def reference(x: Any, gamma: Any, beta: Any) -> Any:
        merged = x.flatten(1, 2)
        y = F.group_norm(merged, groups, gamma.reshape(-1), beta.reshape(-1), eps)
        return y.reshape(x.shape), *_statistics(x, dims)

    return Case(
        lambda *xs: _results(normalization.GROUP_NORM(*xs, dims=dims, eps=eps)),
        reference,
        (x, normal(*shape, seed=4), normal(*shape, seed=5)),
    )


CASES["batch_norm"] = [
    _batch_norm(normal(4, 3), 1e-5),
    _batch_norm(normal(2, 3, 4), 1e-3),
    _batch_norm(10 * normal(3, 2, 2, 3), 1e-5),
]
CASES["layer_norm"] = [
    _layer_norm(normal(4, 5), 1, 1e-5),
    _layer_norm(normal(2, 3, 4), 2, 1e-3),
    _layer_norm(normal(0, 3), 1, 1e-5),
    _layer_norm(normal(6), 1, 1e-12),
]
CASES["group_norm"] = [
    _group_norm(normal(2, 2, 3, 4), 1e-5),
    _group_norm(normal(2, 3, 1, 2, 3), 1e-3),
    _group_norm(normal(2, 1, 4, 2), 1e-5),
]
ODD_ROWS = np.array([[1.0, NAN, 2.0], [1.0, INF, 2.0], [3.0, 3.0, 3.0], [1.0, -2.0, 5.0]])
SPECIALS["batch_norm"] = [_batch_norm(ODD_ROWS.T.copy(), 1e-5)]
SPECIALS["layer_norm"] = [_layer_norm(ODD_ROWS, 1, 1e-5)]
SPECIALS["group_norm"] = [_group_norm(ODD_ROWS[:, None].copy(), 1e-5)]


def _inference(x: Any, eps: float) -> Case:
    shape = tuple(n if axis == 1 else 1 for axis, n in enumerate(x.shape))

    def reference(x: Any, *rest: Any) -> Any:
        mean, var, gamma, beta = [part.reshape(-1) for part in rest]
        view = (-1, *(1,) * (x.ndim - 2))
        scaled = (x - mean.reshape(view)) / (var.reshape(view) + eps).sqrt()
        return scaled * gamma.reshape(view) + beta.reshape(view)

    statistics = (normal(*shape, seed=2), between(0.5, 2, *shape, seed=3))
    affine = (normal(*shape, seed=4), normal(*shape, seed=5))
    return Case(
        lambda *xs: normalization.FROZEN_NORM(*xs, eps=eps), reference, (x, *statistics, *affine)
    )


CASES["batch_norm_inference"] = [
    _inference(normal(4, 3), 1e-5),
    _inference(normal(2, 3, 2, 2), 1e-3),
    _inference(normal(0, 2, 3), 1e-5),
]
SPECIALS["batch_norm_inference"] = [_inference(ODD_ROWS, 1e-5)]


def _rms(x: Any, count: int, eps: float) -> Case:
    dims = tuple(range(x.ndim))[x.ndim - count :]
    tail = x.shape[x.ndim - count :]
    return Case(
        lambda *xs: normalization.RMS_NORM(*xs, dims=dims, eps=eps),
        lambda x, gamma: F.rms_norm(x, tail, gamma, eps),
        (x, normal(*tail, seed=4)),
    )


CASES["rms_norm"] = [
    _rms(normal(4, 5), 1, 1e-5),
    _rms(normal(2, 3, 4), 2, 1e-3),
    _rms(normal(0, 3), 1, 1e-5),
]
SPECIALS["rms_norm"] = [_rms(ODD_ROWS, 1, 1e-5)]

# ------------------------------------------------------------------------------ angles

CASES["atan"] = [Case(atan, torch.atan, (normal(*shape),)) for shape in SHAPES]
SPECIALS["atan"] = [Case(atan, torch.atan, (SPECIAL,))]
