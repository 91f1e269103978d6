"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from chainrule import nn
from chainrule.errors import OptionError, closest

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def mlp(sizes: Sequence[int], activation: str = "relu", dropout: float = 0.0) -> nn.Sequential:
    """A multilayer perceptron: linear layers with an activation function between them.

    a[0] = x flattened, z[l] = W[l] a[l-1] + b[l], a[l] = f(z[l]); the output is the last z: scores
    (logits) for ``cross_entropy``, or values for ``mse_loss``.

    Args:
        sizes: number of inputs, of neurons in each hidden layer, of outputs.
        activation: f, one of ``ACTIVATIONS``.
        dropout: probability of dropping an entry of a hidden layer in training.

    Shapes: input (batch, ...) with ``sizes[0]`` entries per sample, output (batch, sizes[-1]).

    Raises:
        OptionError: fewer than two sizes, or an unknown activation function.

    Example:
        >>> import chainrule as cr
        >>> mlp([4, 8, 3])(cr.ones(2, 4)).shape
        (2, 3)
    """
    if len(sizes) < 2:
        raise OptionError(name="sizes", expected="at least two numbers", got=list(sizes))
    if activation not in ACTIVATIONS:
        near = closest(activation, ACTIVATIONS)
        raise OptionError(
            name="activation",
            expected=f"one of {', '.join(ACTIVATIONS)}",
            got=repr(activation),
            mend=f"did you mean {near!r}?" if near else "",
        )
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(sizes[-2], sizes[-1]))
    return nn.Sequential(*layers)
