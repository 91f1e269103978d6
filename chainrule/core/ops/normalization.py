"""Normalisation: entries made to have mean 0 and variance 1, then scaled and shifted.

    y = (x - mu) / sqrt(var + eps) * gamma + beta

Batch, layer and group normalisation differ only in the axes over which ``mu`` and ``var`` (over n,
not n - 1) are taken. ``gamma`` and ``beta`` have the axes of ``x``, of length 1 where they stretch.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.core.graph import Node, Shape, TensorType
from chainrule.core.op import SUM, Joint, Notation, Op, of_one_dtype
from chainrule.core.ops.arithmetic import sqrt
from chainrule.core.ops.functions import function, mean, square, var
from chainrule.core.ops.reduction import count, folded, sum
from chainrule.core.ops.shape import sum_to

_NOTATION = Notation(
    "({0} - mean) / std * {1} + {2}",
    r"\frac{{{0} - \mu}}{{\sqrt{{\sigma^2 + \epsilon}}}} {1} + {2}",
    SUM,
)


def _type(
    x: TensorType, gamma: TensorType, beta: TensorType, *, dims: Shape, eps: float
) -> tuple[TensorType, ...]:
    statistic = folded(x, dims=dims, keepdim=True)
    return x, statistic, statistic


def _normalised(
    x: Node, gamma: Node, beta: Node, *, dims: Shape, eps: float
) -> tuple[Node, Node, Node]:
    mu = mean(x, dims, keepdim=True)
    variance = var(x, dims, correction=0, keepdim=True)
    return (x - mu) * (1 / sqrt(variance + eps)) * gamma + beta, mu, variance


def _rule(
    g: Sequence[Node],
    y: Sequence[Node],
    x: Node,
    gamma: Node,
    beta: Node,
    *,
    dims: Shape,
    eps: float,
) -> Sequence[Node | None]:
    """Three paths lead from y to x: straight, through the variance, and through the mean."""
    _, mu, variance = y
    m = count(x, dims)
    centred, rstd = x - mu, 1 / sqrt(variance + eps)
    if gamma.shape == beta.shape == mu.shape:  # its own gradient has the same sums
        to_beta = sum(g[0], dims, keepdim=True)
        deviation = sum(g[0] * centred, dims, keepdim=True)
        to_gamma = deviation * rstd
        total, deviation = to_beta * gamma, deviation * gamma
    else:
        to_gamma, to_beta = sum_to(g[0] * (centred * rstd), gamma.shape), sum_to(g[0], beta.shape)
        straight = g[0] * gamma  # dL/d(normalised x)
        total = sum(straight, dims, keepdim=True)
        deviation = sum(straight * centred, dims, keepdim=True)
    to_variance = g[2] + deviation * (-0.5 * rstd * rstd * rstd)
    to_mean = g[1] - total * rstd
    to_x = g[0] * gamma * rstd + to_variance * (2 / m) * centred + to_mean / m
    return to_x, to_gamma, to_beta


def _normalisation(name: str) -> Op:
    """Results: y, the mean, and the variance over n."""
    return function(
        name,
        _normalised,
        Joint(_rule),
        _NOTATION,
        infer=_type,
        operands=of_one_dtype,
        arity=3,
    )


BATCH_NORM = _normalisation("batch_norm")  # Ioffe and Szegedy, 2015
LAYER_NORM = _normalisation("layer_norm")  # Ba, Kiros and Hinton, 2016
GROUP_NORM = _normalisation("group_norm")  # Wu and He, 2018


# ------------------------------------------------------------------ with given statistics


def _frozen(x: Node, mu: Node, variance: Node, gamma: Node, beta: Node, *, eps: float) -> Node:
    return (x - mu) * (1 / sqrt(variance + eps)) * gamma + beta


FROZEN_NORM = function(
    "batch_norm_inference",
    _frozen,
    None,
    Notation(
        "({0} - {1}) / sqrt({2} + {eps}) * {3} + {4}",
        r"\frac{{{0} - {1}}}{{\sqrt{{{2} + \epsilon}}}} {3} + {4}",
        SUM,
    ),
    operands=of_one_dtype,
    arity=5,
)


# ------------------------------------------------------------------ without the mean


def _rms(x: Node, gamma: Node, *, dims: Shape, eps: float) -> Node:
    return x * (1 / sqrt(mean(square(x), dims, keepdim=True) + eps)) * gamma


def _rms_rule(
    g: Node, y: Node, x: Node, gamma: Node, *, dims: Shape, eps: float
) -> Sequence[Node | None]:
    rstd = 1 / sqrt(mean(square(x), dims, keepdim=True) + eps)
    straight = g * gamma
    through = mean(straight * x, dims, keepdim=True) * (rstd * rstd * rstd)
    return straight * rstd - x * through, sum_to(g * (x * rstd), gamma.shape)


RMS_NORM = function(  # Zhang and Sennrich, 2019
    "rms_norm",
    _rms,
    Joint(_rms_rule),
    Notation(
        "{0} / rms({0}) * {1}",
        r"\frac{{{0}}}{{\operatorname{{rms}}({0})}} {1}",
        SUM,
    ),
    operands=of_one_dtype,
    arity=2,
)
