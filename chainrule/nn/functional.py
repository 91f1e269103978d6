"""Layers' functions without state: activations, losses, linear, dropout.

Losses take ``reduction``: ``"mean"`` (over all entries, or samples for class labels), ``"sum"`` or
``"none"``.
"""

from __future__ import annotations

import warnings
from typing import Any

from chainrule.core.dtype import int64, is_float
from chainrule.core.graph import Node
from chainrule.core.op import lift
from chainrule.core.ops import arithmetic, functions, random, shape
from chainrule.errors import LabelTypeError, OptionError, SoftmaxTwiceWarning
from chainrule.nn.functional_activations import (
    alpha_dropout,
    celu,
    dropout1d,
    dropout2d,
    glu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    logsigmoid,
    mish,
    prelu,
    relu6,
    selu,
    softshrink,
    softsign,
    tanhshrink,
    threshold,
)
from chainrule.nn.functional_attention import rotary_embedding, scaled_dot_product_attention
from chainrule.nn.functional_ctc import ctc_loss
from chainrule.nn.functional_embedding import embedding, embedding_bag
from chainrule.nn.functional_norm import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from chainrule.nn.functional_vision import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    interpolate,
    max_pool1d,
    max_pool2d,
    pad,
    pixel_shuffle,
)
from chainrule.tensor.functions import log_softmax, relu, sigmoid, softmax, tanh
from chainrule.tensor.state import random_node
from chainrule.tensor.tensor import Tensor, tensor, wrap

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "alpha_dropout",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cross_entropy",
    "ctc_loss",
    "dropout",
    "dropout1d",
    "dropout2d",
    "elu",
    "embedding",
    "embedding_bag",
    "gelu",
    "glu",
    "group_norm",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "instance_norm",
    "interpolate",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "pad",
    "pixel_shuffle",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "rotary_embedding",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softshrink",
    "softsign",
    "step",
    "tanh",
    "tanhshrink",
    "threshold",
]

# ---------------------------------------------------------------------------------- layers


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """z = x W^T + b.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,), or None.

    Returns:
        (..., out).

    Raises:
        LayerInputError: the last axis of x is not ``in``.
    """
    operands = (x.node, weight.node) if bias is None else (x.node, weight.node, bias.node)
    return wrap(functions.linear(*operands))


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each entry becomes 0 with probability p, else x / (1 - p); x itself outside training.

    Source: Srivastava et al., 2014.
    """
    if not 0 <= p <= 1:
        raise OptionError(name="dropout p", expected="between 0 and 1", got=p, mend="")
    if not training or p == 0:
        return x
    u = random_node(random.random_uniform, x.shape, dtype=x.dtype)
    return wrap(functions.dropout(x.node, u, p=float(p)))


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """1 in the column of the class, 0 elsewhere: (...) to (..., classes), int64."""
    return wrap(shape.one_hot(labels.node, num_classes, int64))


# ---------------------------------------------------------------------------------- activations


def step(z: Tensor) -> Tensor:
    """1 where z >= 0, else 0 (Heaviside; Rosenblatt, 1958). Its gradient is 0 everywhere."""
    return wrap(functions.step(z.node))


def leaky_relu(z: Tensor, negative_slope: float = 0.01) -> Tensor:
    """z where z > 0, else negative_slope z."""
    return wrap(functions.leaky_relu(z.node, slope=float(negative_slope)))


def elu(z: Tensor, alpha: float = 1.0) -> Tensor:
    """z where z > 0, else alpha (exp(z) - 1). Source: Clevert et al., 2015."""
    return wrap(functions.elu(z.node, alpha=float(alpha)))


def gelu(z: Tensor, approximate: str = "none") -> Tensor:
    """z Phi(z), Phi the normal distribution function. Source: Hendrycks and Gimpel, 2016."""
    return wrap(functions.gelu(z.node, approximate=approximate))


def silu(z: Tensor) -> Tensor:
    """z sigmoid(z), also called swish."""
    return wrap(functions.silu(z.node))


def softplus(z: Tensor) -> Tensor:
    """ln(1 + exp(z)), a smooth ReLU."""
    return wrap(functions.softplus(z.node))


# ---------------------------------------------------------------------------------- losses


def _target(prediction: Tensor, target: Any) -> Node:
    """The target as a node; whole numbers take the prediction's type, as weak data."""
    node = (target if isinstance(target, Tensor) else tensor(target)).node
    return node if is_float(node.dtype) else lift(node, prediction.dtype)


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


def binary_cross_entropy(prediction: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """L = -(y ln a + (1 - y) ln(1 - a)) of a probability a; logarithms are cut at -100."""
    node = _target(prediction, target)
    return wrap(functions.binary_cross_entropy(prediction.node, node, reduction=reduction))


def binary_cross_entropy_with_logits(z: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """Binary cross-entropy of sigmoid(z), exact for large z; its gradient is sigmoid(z) - y."""
    node = _target(z, target)
    return wrap(functions.binary_cross_entropy_with_logits(z.node, node, reduction=reduction))


def cross_entropy(logits: Tensor, labels: Any, reduction: str = "mean") -> Tensor:
    """L = -ln softmax(z)[label]; its gradient is softmax(z) - y, y one-hot.

    Args:
        logits: raw scores z, (batch, classes, ...) or (classes,): no softmax before.
        labels: class numbers, (batch, ...), int64 or int32.
        reduction: "mean", "sum" or "none".

    Raises:
        LabelTypeError: the labels are not whole numbers.
        IndexRangeError: a label is not in 0 .. classes - 1 (when the loss is evaluated).
        SoftmaxTwiceWarning: the scores come out of a softmax.

    Example:
        >>> import chainrule as cr
        >>> round(cross_entropy(cr.zeros(2, 10), cr.tensor([3, 7])).item(), 4)  # ln 10
        2.3026
    """
    target = labels if isinstance(labels, Tensor) else tensor(labels)
    made = wrap(functions.cross_entropy(logits.node, target.node, reduction=reduction))
    _warn_of_softmax(logits.node)
    return made


def nll_loss(log_probabilities: Tensor, labels: Any, reduction: str = "mean") -> Tensor:
    """L = -(log-probability of the label): cross-entropy after ``log_softmax``."""
    target = labels if isinstance(labels, Tensor) else tensor(labels)
    functions.check_reduction(reduction)
    if is_float(target.dtype):
        raise LabelTypeError(op="nll_loss", got=target.dtype, shape=target.shape)
    dim = 1 if log_probabilities.ndim > 1 else 0
    index = shape.unsqueeze(arithmetic.cast(target.node, "int64"), dim)
    chosen = shape.gather(log_probabilities.node, dim, index)
    return wrap(functions.reduce(-shape.squeeze(chosen, dim), reduction))


def _warn_of_softmax(node: Node) -> None:
    while node.op.name in ("reshape", "cast", "pick") and node.inputs:
        node = node.inputs[0]
    if node.op.name == "softmax":
        warning = SoftmaxTwiceWarning(op="softmax").at(".".join(node.scope), node.source)
        warnings.warn(warning, stacklevel=3)
