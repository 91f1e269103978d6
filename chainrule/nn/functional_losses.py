"""Losses of a prediction and a target of the same shape, entry by entry.

``reduction`` is ``"mean"`` (over all entries), ``"sum"`` or ``"none"``. A shape that differs is a
``ShapeError``: broadcasting in a loss is nearly always a mistake.
"""

from __future__ import annotations

import math
from typing import Any

from chainrule.core.dtype import is_float
from chainrule.core.graph import Node
from chainrule.core.op import lift
from chainrule.core.ops import functions, losses
from chainrule.errors import OptionError
from chainrule.tensor.functions import log, maximum, where
from chainrule.tensor.tensor import Tensor, tensor, wrap

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "multilabel_soft_margin_loss",
    "poisson_nll_loss",
    "quantile_loss",
    "sigmoid_focal_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
]


def as_tensor(values: Any) -> Tensor:
    """A tensor of what may be a tensor, an array, a list or a number."""
    return values if isinstance(values, Tensor) else tensor(values)


def _target(prediction: Tensor, target: Any) -> Node:
    """The target as a node; whole numbers take the prediction's type, as weak data."""
    node = as_tensor(target).node
    return node if is_float(node.dtype) else lift(node, prediction.dtype)


def reduced(each: Tensor, reduction: str) -> Tensor:
    """The losses of all entries as one number, or as they are."""
    functions.check_reduction(reduction)
    return wrap(functions.reduce(each.node, reduction))


# ------------------------------------------------------------------------------ quantities


def mse_loss(prediction: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """L = mean of (y-hat - y)^2 (the mean over all entries, without 1/2).

    Raises:
        ShapeError: the shapes differ; broadcasting here is nearly always a mistake.

    Example:
        >>> import chainrule as cr
        >>> mse_loss(cr.tensor([1.0, 2.0]), cr.tensor([0.0, 4.0])).item()
        2.5
    """
    return wrap(
        functions.mse_loss(prediction.node, _target(prediction, target), reduction=reduction)
    )


def l1_loss(prediction: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """L = mean of |y-hat - y|."""
    return wrap(
        functions.l1_loss(prediction.node, _target(prediction, target), reduction=reduction)
    )


def huber_loss(
    prediction: Tensor, target: Any, reduction: str = "mean", delta: float = 1.0
) -> Tensor:
    """d^2 / 2 where |d| < delta, else delta (|d| - delta / 2), with d = y-hat - y.

    Its gradient is d cut at -delta and delta: outliers do not pull harder than others.

    Example:
        >>> import chainrule as cr
        >>> huber_loss(cr.tensor([0.5, 4.0]), cr.tensor([0.0, 0.0]), reduction="none").tolist()
        [0.125, 3.5]

    Source: Huber, "Robust estimation of a location parameter", 1964.
    """
    if not delta > 0:
        raise OptionError(name="delta", expected="more than 0", got=delta)
    node = _target(prediction, target)
    made = losses.huber_loss(prediction.node, node, reduction=reduction, delta=float(delta))
    return wrap(made)


def smooth_l1_loss(
    prediction: Tensor, target: Any, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2: Huber's loss divided by beta.

    Source: Girshick, "Fast R-CNN", ICCV 2015.
    """
    if not beta >= 0:
        raise OptionError(name="beta", expected="0 or more", got=beta)
    if beta == 0:
        return l1_loss(prediction, target, reduction)
    node = _target(prediction, target)
    made = losses.smooth_l1_loss(prediction.node, node, reduction=reduction, beta=float(beta))
    return wrap(made)


def quantile_loss(
    prediction: Tensor, target: Any, q: float = 0.5, reduction: str = "mean"
) -> Tensor:
    """q (y - y-hat) where the prediction is below y, (1 - q) (y-hat - y) where above.

    Its minimum is the q-th quantile of y: .5 for the median, .1 and .9 for an interval.

    Example:
        >>> import chainrule as cr
        >>> quantile_loss(cr.tensor([1.0, 1.0]), cr.tensor([3.0, 0.0]), 0.75, "none").tolist()
        [1.5, 0.25]

    Source: Koenker and Bassett, "Regression quantiles", Econometrica 1978.
    """
    if not 0 < q < 1:
        raise OptionError(name="q", expected="between 0 and 1", got=q)
    node = _target(prediction, target)
    return wrap(losses.quantile_loss(prediction.node, node, reduction=reduction, q=float(q)))


def poisson_nll_loss(
    prediction: Tensor,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """-ln of the Poisson probability of a count y: exp(z) - y z for a predicted z = ln rate.

    Args:
        prediction: z, or (``log_input=False``) the rate r itself: r - y ln(r + eps).
        target: counts.
        log_input: whether the prediction is the logarithm of the rate.
        full: add ln y!, by Stirling's formula, where y > 1.
        eps: keeps the logarithm from 0.
        reduction: "mean", "sum" or "none".
    """
    y = wrap(_target(prediction, target))
    if log_input and not full:
        return wrap(losses.poisson_loss(prediction.node, y.node, reduction=reduction))
    if log_input:
        each = wrap(losses.poisson_loss(prediction.node, y.node, reduction="none"))
    else:
        each = prediction - y * log(prediction + eps)
    if full:
        large = where(y > 1, y, 2.0)  # no logarithm of 0 on the side that is not taken
        stirling = large * log(large) - large + 0.5 * log(2 * math.pi * large)
        each = each + where(y > 1, stirling, 0.0)
    return reduced(each, reduction)


def gaussian_nll_loss(
    prediction: Tensor,
    target: Any,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """-ln of the normal density: (ln v + (y-hat - y)^2 / v) / 2, for a predicted variance v.

    Args:
        prediction: the means.
        target: quantities of the same shape.
        var: variances, of the same shape, or one for each row: (..., 1).
        full: add ln(2 pi) / 2.
        eps: the least variance; below it the value is cut, the gradient goes on.
        reduction: "mean", "sum" or "none".

    Source: Nix and Weigend, "Estimating the mean and variance of the target distribution", 1994.
    """
    y, v = wrap(_target(prediction, target)), wrap(_target(prediction, var))
    v = v + (maximum(v, eps) - v).detach()
    each = 0.5 * (log(v) + (prediction - y).square() / v)
    return reduced(each + 0.5 * math.log(2 * math.pi) if full else each, reduction)


# ------------------------------------------------------------------------------ yes or no


def binary_cross_entropy(
    prediction: Tensor, target: Any, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """L = -(y ln a + (1 - y) ln(1 - a)) of a probability a; logarithms are cut at -100.

    Args:
        prediction: probabilities, after a sigmoid.
        target: 0 and 1, or probabilities.
        weight: how much each entry counts, in a shape that stretches to the prediction's.
        reduction: "mean", "sum" or "none".
    """
    node = _target(prediction, target)
    if weight is None:
        return wrap(functions.binary_cross_entropy(prediction.node, node, reduction=reduction))
    each = wrap(functions.binary_cross_entropy(prediction.node, node, reduction="none"))
    return reduced(each * as_tensor(weight), reduction)


def binary_cross_entropy_with_logits(
    z: Tensor, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """Binary cross-entropy of sigmoid(z), exact for large z; its gradient is sigmoid(z) - y.

    Args:
        z: raw scores: no sigmoid before.
        target: 0 and 1, or probabilities.
        weight: how much each entry counts, in a shape that stretches to z's.
        reduction: "mean", "sum" or "none".
        pos_weight: how many times a "yes" counts: number of "no" / number of "yes" balances them.
    """
    node = _target(z, target)
    made = functions.binary_cross_entropy_with_logits
    if weight is None and pos_weight is None:
        return wrap(made(z.node, node, reduction=reduction))
    if pos_weight is None:
        each = wrap(made(z.node, node, reduction="none"))
    else:
        y = wrap(functions.paired(made, z.node, node)[1])
        yes = wrap(functions.softplus((-z).node))  # -ln sigmoid(z)
        each = (1 - y) * z + (1 + (as_tensor(pos_weight) - 1) * y) * yes
    if weight is not None:
        each = each * as_tensor(weight)
    return reduced(each, reduction)


def sigmoid_focal_loss(
    z: Tensor, target: Any, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Tensor:
    """-alpha_t (1 - p_t)^gamma ln p_t: cross-entropy in which what is easy counts little.

    p_t is the probability of the right answer, sigmoid(z) or 1 - sigmoid(z); alpha_t is alpha for
    a "yes" and 1 - alpha for a "no" (alpha < 0: 1 for both).

    Example:
        >>> import chainrule as cr
        >>> z, y = cr.tensor([0.0, 4.0]), cr.tensor([1.0, 1.0])
        >>> [round(loss, 6) for loss in sigmoid_focal_loss(z, y).tolist()]
        [0.043322, 1e-06]

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017.
    """
    y = wrap(_target(z, target))
    each = binary_cross_entropy_with_logits(z, y, reduction="none")
    p = z.sigmoid()
    wrong = p * (1 - y) + (1 - p) * y
    each = each * wrong**gamma
    if alpha >= 0:
        each = each * (alpha * y + (1 - alpha) * (1 - y))
    return reduced(each, reduction)


def soft_margin_loss(prediction: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """ln(1 + exp(-y z)) for y = 1 or -1: binary cross-entropy with other labels."""
    node = _target(prediction, target)
    return wrap(losses.soft_margin_loss(prediction.node, node, reduction=reduction))


def hinge_embedding_loss(
    prediction: Tensor, target: Any, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """A distance d itself where y = 1 (similar), max(0, margin - d) where y = -1."""
    y = wrap(_target(prediction, target))
    functions.paired(losses.soft_margin_loss, prediction.node, y.node)  # one shape
    apart = where(y == 1, 0.0, (margin - prediction).clamp(min=0.0))
    return reduced(apart + where(y == -1, 0.0, prediction), reduction)


def multilabel_soft_margin_loss(
    z: Tensor, target: Any, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """For each sample, the mean over its classes of the binary cross-entropy of sigmoid(z).

    Args:
        z: raw scores, (..., classes).
        target: 0 and 1 for each class, in the same shape.
        weight: how much each class counts, (classes,).
        reduction: over the samples: "mean", "sum" or "none".
    """
    each = binary_cross_entropy_with_logits(z, target, weight, "none")
    return reduced(each.mean(-1), reduction)


# ------------------------------------------------------------------------------ distributions


def kl_div(
    prediction: Tensor, target: Any, reduction: str = "mean", log_target: bool = False
) -> Tensor:
    """y (ln y - x): how far the distribution exp(x) is from y; 0 where y = 0.

    Args:
        prediction: logarithms of probabilities x, after ``log_softmax``.
        target: probabilities y, or their logarithms.
        reduction: "batchmean" (the sum over the number of samples: the divergence itself),
            "mean" (over all entries), "sum" or "none".
        log_target: whether the target is given as logarithms.

    Example:
        >>> import chainrule as cr
        >>> x, y = cr.tensor([[0.5, 0.5]]), cr.tensor([[1.0, 0.0]])
        >>> round(kl_div(x.log(), y, reduction="batchmean").item(), 4)  # ln 2
        0.6931

    Source: Kullback and Leibler, "On information and sufficiency", 1951.
    """
    node = _target(prediction, target)
    loss = losses.kl_div_log if log_target else losses.kl_div
    if reduction != "batchmean":
        return wrap(loss(prediction.node, node, reduction=reduction))
    samples = prediction.shape[0] if prediction.ndim else 1
    return wrap(loss(prediction.node, node, reduction="sum")) / samples
