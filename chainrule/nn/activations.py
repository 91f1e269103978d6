"""Activation functions as layers. ``z`` goes in, ``a`` comes out, entry by entry."""

from __future__ import annotations

from chainrule.nn import functional
from chainrule.nn.module import Module
from chainrule.tensor.tensor import Tensor


class Step(Module):
    """a = 1 where z >= 0, else 0: the perceptron's. No gradient passes it."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.step(z)


class Sigmoid(Module):
    """a = 1 / (1 + exp(-z)), between 0 and 1; da/dz = a (1 - a), at most 1/4."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.sigmoid(z)


class Tanh(Module):
    """a = tanh(z), between -1 and 1; da/dz = 1 - a^2."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.tanh(z)


class ReLU(Module):
    """a = max(0, z); da/dz = 1 where z > 0, else 0."""

    def __init__(self, inplace: bool = False) -> None:
        """``inplace`` is accepted; tensors never change."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.relu(z)


class LeakyReLU(Module):
    """a = z where z > 0, else negative_slope z."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = negative_slope

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.leaky_relu(z, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """a = z where z > 0, else alpha (exp(z) - 1)."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.elu(z, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Module):
    """a = z Phi(z), Phi the normal distribution function."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.gelu(z, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """a = z sigmoid(z), also called swish."""

    def __init__(self, inplace: bool = False) -> None:
        """``inplace`` is accepted; tensors never change."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.silu(z)


class Softplus(Module):
    """a = ln(1 + exp(z)), a smooth ReLU."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.softplus(z)


class Softmax(Module):
    """a_i = exp(z_i) / sum_j exp(z_j) along ``dim``: a probability distribution."""

    def __init__(self, dim: int | None = None) -> None:
        self.dim = -1 if dim is None else dim

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.softmax(z, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """a = ln softmax(z) along ``dim``."""

    def __init__(self, dim: int | None = None) -> None:
        self.dim = -1 if dim is None else dim

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.log_softmax(z, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
