"""Layers' functions without state: linear, dropout and activations here, the others by family."""

from __future__ import annotations

from chainrule.core.dtype import int64
from chainrule.core.ops import functions, random, shape
from chainrule.errors import OptionError
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
from chainrule.nn.functional_class_losses import (
    cosine_embedding_loss,
    cosine_similarity,
    cross_entropy,
    margin_ranking_loss,
    multi_margin_loss,
    nll_loss,
    pairwise_distance,
    triplet_margin_loss,
)
from chainrule.nn.functional_ctc import ctc_loss
from chainrule.nn.functional_embedding import embedding, embedding_bag
from chainrule.nn.functional_losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    gaussian_nll_loss,
    hinge_embedding_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    multilabel_soft_margin_loss,
    poisson_nll_loss,
    quantile_loss,
    sigmoid_focal_loss,
    smooth_l1_loss,
    soft_margin_loss,
)
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
from chainrule.tensor.tensor import Tensor, wrap

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
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "ctc_loss",
    "dropout",
    "dropout1d",
    "dropout2d",
    "elu",
    "embedding",
    "embedding_bag",
    "gaussian_nll_loss",
    "gelu",
    "glu",
    "group_norm",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hinge_embedding_loss",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "margin_ranking_loss",
    "max_pool1d",
    "max_pool2d",
    "mish",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "one_hot",
    "pad",
    "pairwise_distance",
    "pixel_shuffle",
    "poisson_nll_loss",
    "prelu",
    "quantile_loss",
    "relu",
    "relu6",
    "rms_norm",
    "rotary_embedding",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "sigmoid_focal_loss",
    "silu",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softplus",
    "softshrink",
    "softsign",
    "step",
    "tanh",
    "tanhshrink",
    "threshold",
    "triplet_margin_loss",
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
