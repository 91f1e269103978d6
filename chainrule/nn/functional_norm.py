"""Normalisation as functions; ``nn.functional`` shows them too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from chainrule.core.graph import Node, Shape
from chainrule.core.op import located, pick
from chainrule.core.ops import normalization
from chainrule.core.ops.shape import full, reshape
from chainrule.errors import OptionError, ShapeError
from chainrule.tensor.tensor import Tensor, wrap
from chainrule.tensor.variable import VariableTensor

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"]


def _affine(x: Node, weight: Tensor | None, bias: Tensor | None, shape: Shape) -> tuple[Node, Node]:
    """gamma and beta under the axes of ``x``; 1 and 0 where they are not given."""
    parts = []
    for given, value in ((weight, 1), (bias, 0)):
        if given is None:
            parts.append(full(shape, value, x.dtype))
        elif given.numel() == math.prod(shape):
            parts.append(reshape(given.node, shape))
        else:
            raise located(
                ShapeError(
                    op="normalisation",
                    expected=f"weight and bias with {math.prod(shape)} entries "
                    f"for an input of shape {x.shape}",
                    got=given.shape,
                    mend="give the layer the number of features that its input has",
                )
            )
    return parts[0], parts[1]


def _channels(x: Node) -> Shape:
    """(1, channels, 1 ...): how one number for each channel stretches over ``x``."""
    if x.ndim < 2:
        raise located(
            ShapeError(
                op="normalisation", expected="an input (batch, channels, ...)", got=x.shape, mend=""
            )
        )
    return tuple(n if axis == 1 else 1 for axis, n in enumerate(x.shape))


def _move(running: Tensor | None, batch: Tensor, momentum: float | Tensor) -> None:
    """Write the running statistic, a step nearer to the batch's."""
    if isinstance(running, VariableTensor):
        running.copy_(running * (1 - momentum) + batch * momentum)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """y = (x - mu) / sqrt(var + eps) * weight + bias, for each channel.

    In training, mu and var are those of the batch (var over n). The running statistics move
    towards them: running = (1 - momentum) running + momentum batch, there with var over n - 1
    (Bessel's correction), as in PyTorch. Otherwise mu and var are the running statistics.

    Args:
        x: (batch, channels, ...).
        running_mean: (channels,), a buffer; None: nothing is kept.
        running_var: (channels,), a buffer; None: nothing is kept.
        weight: gamma, (channels,), or None for 1.
        bias: beta, (channels,), or None for 0.

    Raises:
        ShapeError: a channel with a single value in training: its variance says nothing.

    Source: Ioffe and Szegedy, "Batch normalization", 2015.
    """
    shape = _channels(x.node)
    gamma, beta = _affine(x.node, weight, bias, shape)
    if not training:
        if running_mean is None or running_var is None:
            raise located(
                OptionError(
                    name="running_mean and running_var", expected="given outside training", got=None
                )
            )
        mu, variance = _affine(x.node, running_mean, running_var, shape)
        return wrap(normalization.FROZEN_NORM(x.node, mu, variance, gamma, beta, eps=float(eps)))
    n = x.numel() // max(x.shape[1], 1)
    if n < 2:
        raise located(
            ShapeError(
                op="batch_norm",
                expected="more than one value per channel in training",
                got=x.shape,
                mend="use a larger batch (DataLoader(drop_last=True) drops a last single sample), "
                "or model.eval()",
            )
        )
    dims = tuple(axis for axis in range(x.ndim) if axis != 1)
    made = normalization.BATCH_NORM(x.node, gamma, beta, dims=dims, eps=float(eps))
    mean, var = (wrap(pick(made, index)).detach().reshape(-1) for index in (1, 2))
    _move(running_mean, mean, momentum)
    _move(running_var, var * (n / (n - 1)), momentum)
    return wrap(pick(made, 0))


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of each sample by its own mean and variance.

    Source: Ulyanov, Vedaldi and Lempitsky, "Instance normalization", 2016.
    """
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    n = math.prod(x.shape[2:])
    if n < 2:
        raise located(
            ShapeError(
                op="instance_norm",
                expected="more than one spatial value in training",
                got=x.shape,
                mend="",
            )
        )
    gamma, beta = _affine(x.node, weight, bias, _channels(x.node))
    dims = tuple(range(2, x.ndim))
    made = normalization.GROUP_NORM(x.node, gamma, beta, dims=dims, eps=float(eps))
    mean, var = (wrap(pick(made, index)).detach().reshape(*x.shape[:2]).mean(0) for index in (1, 2))
    _move(running_mean, mean, momentum)
    _move(running_var, var * (n / (n - 1)), momentum)
    return wrap(pick(made, 0))


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Each sample's channels in groups, each group by its own mean and variance.

    Args:
        x: (batch, channels, ...).
        num_groups: divides the channels.
        weight: gamma, (channels,), or None for 1.
        bias: beta, (channels,), or None for 0.

    Source: Wu and He, "Group normalization", 2018.
    """
    _channels(x.node)
    batch, channels, *spatial = x.shape
    if num_groups < 1 or channels % num_groups:
        raise located(
            OptionError(
                name="num_groups",
                expected=f"a number that divides the {channels} channels",
                got=num_groups,
                mend="",
            )
        )
    split = reshape(x.node, (batch, num_groups, channels // num_groups, *spatial))
    shape = (1, num_groups, channels // num_groups, *(1,) * len(spatial))
    gamma, beta = _affine(x.node, weight, bias, shape)
    dims = tuple(range(2, split.ndim))
    made = normalization.GROUP_NORM(split, gamma, beta, dims=dims, eps=float(eps))
    return wrap(reshape(pick(made, 0), x.shape))


def _last_axes(x: Node, shape: int | Sequence[int]) -> tuple[Shape, Shape]:
    """The normalised axes' numbers, and their lengths, which are the last of ``x``."""
    lengths = (shape,) if isinstance(shape, int) else tuple(shape)
    if not lengths or x.shape[x.ndim - len(lengths) :] != lengths:
        raise located(
            ShapeError(
                op="normalisation",
                expected=f"an input whose shape ends in {lengths}",
                got=x.shape,
                mend="normalized_shape is the shape of one sample's last axes",
            )
        )
    return tuple(range(x.ndim - len(lengths), x.ndim)), lengths


def layer_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Each sample by the mean and variance of its last axes.

    y = (x - mu) / sqrt(var + eps) * weight + bias, with var over n.

    Args:
        x: (..., *normalized_shape).
        weight: gamma, of ``normalized_shape``, or None for 1.
        bias: beta, of ``normalized_shape``, or None for 0.

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.nn import functional as F
        >>> F.layer_norm(cr.tensor([1.0, 3.0]), 2, eps=0).tolist()
        [-1.0, 1.0]
    """
    dims, lengths = _last_axes(x.node, normalized_shape)
    gamma, beta = _affine(x.node, weight, bias, lengths)
    return wrap(pick(normalization.LAYER_NORM(x.node, gamma, beta, dims=dims, eps=float(eps)), 0))


def rms_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """y = x / sqrt(mean of x^2 + eps) * weight, over the last axes; the mean stays.

    ``eps`` is the type's own (the distance from 1 to the next float) where it is not given.
    Source: Zhang and Sennrich, "Root mean square layer normalization", 2019.
    """
    dims, lengths = _last_axes(x.node, normalized_shape)
    gamma, _ = _affine(x.node, weight, None, lengths)
    least = float(np.finfo(x.dtype).eps) if eps is None else float(eps)
    return wrap(normalization.RMS_NORM(x.node, gamma, dims=dims, eps=least))
