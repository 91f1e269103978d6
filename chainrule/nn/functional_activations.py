"""The less common activation functions; ``nn.functional`` shows them too."""

from __future__ import annotations

from chainrule.core.op import located
from chainrule.core.ops import activations, functions, parts, random, shape
from chainrule.errors import OptionError, ShapeError
from chainrule.tensor.state import random_node
from chainrule.tensor.tensor import Tensor, wrap

__all__ = [
    "alpha_dropout",
    "celu",
    "dropout1d",
    "dropout2d",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "logsigmoid",
    "mish",
    "prelu",
    "relu6",
    "selu",
    "softshrink",
    "softsign",
    "tanhshrink",
    "threshold",
]


def hardtanh(z: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """z kept between two numbers; the slope is 1 strictly between them, else 0."""
    return wrap(activations.hardtanh(z.node, low=float(min_val), high=float(max_val)))


def relu6(z: Tensor) -> Tensor:
    """min(max(0, z), 6)."""
    return hardtanh(z, 0.0, 6.0)


def hardsigmoid(z: Tensor) -> Tensor:
    """relu6(z + 3) / 6: a sigmoid of straight lines."""
    return wrap(activations.hardsigmoid(z.node))


def hardswish(z: Tensor) -> Tensor:
    """z hardsigmoid(z). Source: Howard et al., 2019."""
    return wrap(activations.hardswish(z.node))


def threshold(z: Tensor, threshold: float, value: float) -> Tensor:
    """z where z > threshold, else ``value``."""
    return wrap(activations.threshold(z.node, limit=float(threshold), value=float(value)))


def hardshrink(z: Tensor, lambd: float = 0.5) -> Tensor:
    """z where abs(z) > lambd, else 0."""
    return wrap(activations.hardshrink(z.node, width=float(lambd)))


def softshrink(z: Tensor, lambd: float = 0.5) -> Tensor:
    """z moved towards 0 by ``lambd``, and 0 where it would cross."""
    if lambd < 0:
        raise located(OptionError(name="lambd", expected="0 or more", got=lambd))
    return wrap(activations.softshrink(z.node, width=float(lambd)))


def tanhshrink(z: Tensor) -> Tensor:
    """z - tanh(z)."""
    return wrap(activations.tanhshrink(z.node))


def softsign(z: Tensor) -> Tensor:
    """z / (1 + abs(z)), between -1 and 1."""
    return wrap(activations.softsign(z.node))


def logsigmoid(z: Tensor) -> Tensor:
    """ln sigmoid(z), exact for very negative z."""
    return wrap(activations.log_sigmoid(z.node))


def selu(z: Tensor) -> Tensor:
    """scale (z where z > 0, else alpha (exp(z) - 1)): keeps mean 0 and variance 1 over layers.

    Source: Klambauer et al., "Self-normalizing neural networks", 2017.
    """
    return wrap(activations.selu(z.node))


def celu(z: Tensor, alpha: float = 1.0) -> Tensor:
    """z where z > 0, else alpha (exp(z / alpha) - 1). Source: Barron, 2017."""
    return wrap(activations.celu(z.node, alpha=float(alpha)))


def mish(z: Tensor) -> Tensor:
    """z tanh(softplus(z)). Source: Misra, 2019."""
    return wrap(activations.mish(z.node))


def prelu(z: Tensor, weight: Tensor) -> Tensor:
    """z where z > 0, else weight z, the slope being learned.

    Args:
        z: (batch, channels, ...).
        weight: (1,), or (channels,).
    """
    w = weight.node
    if weight.numel() != 1:
        channels = z.shape[1] if z.ndim > 1 else z.numel()
        if weight.numel() != channels:
            raise located(
                ShapeError(
                    op="prelu",
                    expected=f"one slope, or one for each of {channels} channels",
                    got=weight.shape,
                    mend="",
                )
            )
        w = shape.reshape(w, (channels, *(1,) * (z.ndim - 2)))
    elif z.ndim == 0:
        w = shape.reshape(w, ())
    return wrap(activations.prelu(z.node, w))


def glu(x: Tensor, dim: int = -1) -> Tensor:
    """a sigmoid(b), where a and b are the halves of ``x`` along an axis.

    Source: Dauphin et al., "Language modeling with gated convolutional networks", 2017.
    """
    if x.ndim == 0 or x.shape[dim] % 2:
        raise located(
            ShapeError(op="glu", expected="an even number of entries", got=x.shape, mend="")
        )
    a, b = parts.split(x.node, x.shape[dim] // 2, dim)
    return wrap(a * functions.sigmoid(b))


# ---------------------------------------------------------------------------- dropout


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise located(OptionError(name="dropout p", expected="between 0 and 1", got=p))


def _channel_dropout(x: Tensor, p: float, training: bool, rank: int) -> Tensor:
    """Whole channels become 0: neighbours in a channel say nearly the same."""
    _check_probability(p)
    if x.ndim not in (rank + 1, rank + 2):
        raise located(
            ShapeError(
                op=f"dropout{rank}d",
                expected=f"an input (batch, channels, ...) with {rank} spatial axes",
                got=x.shape,
                mend="dropout() drops single entries",
            )
        )
    if not training or p == 0:
        return x
    lengths = (*x.shape[: x.ndim - rank], *(1,) * rank)
    u = random_node(random.random_uniform, lengths, dtype=x.dtype)
    return wrap(functions.dropout(x.node, shape.broadcast_to(u, x.shape), p=float(p)))


def dropout1d(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each channel of (batch, channels, length) becomes 0 with probability p, else x / (1 - p)."""
    return _channel_dropout(x, p, training, 1)


def dropout2d(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each channel of images becomes 0 with probability p, else x / (1 - p).

    Source: Tompson et al., "Efficient object localization using convolutional networks", 2015.
    """
    return _channel_dropout(x, p, training, 2)


def alpha_dropout(x: Tensor, p: float = 0.5, training: bool = False) -> Tensor:
    """For networks of SELU: dropped entries go to SELU's lower end; mean and variance stay.

    Source: Klambauer et al., "Self-normalizing neural networks", 2017.
    """
    _check_probability(p)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    low = -activations.SELU_ALPHA * activations.SELU_SCALE
    u = wrap(random_node(random.random_uniform, x.shape, dtype=x.dtype))
    kept = (u >= p).to(x.dtype)
    a = ((1 - p) * (1 + p * low * low)) ** -0.5
    y: Tensor = (x * kept + low * (1 - kept)) * a - a * p * low
    return y
