"""Layers of feed-forward networks."""

from __future__ import annotations

import math

import numpy as np

from chainrule.core.dtype import as_dtype, default_dtype
from chainrule.errors import OptionError
from chainrule.nn import functional, init
from chainrule.nn.module import Module, Parameter, takes_device
from chainrule.tensor.tensor import Tensor


class Linear(Module):
    """z = x W^T + b.

    Shapes: x (..., in_features), weight (out_features, in_features), bias (out_features,),
    z (..., out_features). Both start from U(-k, k), k = 1 / sqrt(in_features), as in PyTorch.

    Raises:
        LayerInputError: the last axis of the input is not ``in_features``.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Linear(3, 2)(cr.ones(5, 3)).shape
        (5, 2)
    """

    @takes_device
    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: object = None
    ) -> None:
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            if value < 1:
                raise OptionError(name=name, expected="at least 1", got=value, mend="")
        self.in_features = in_features
        self.out_features = out_features
        kind = as_dtype(dtype) if dtype is not None else default_dtype()
        self.weight = Parameter(np.zeros((out_features, in_features), kind))
        self.bias = Parameter(np.zeros(out_features, kind)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Identity(Module):
    """The input itself."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Arguments are accepted and not used, so that it can stand in for another layer."""

    def forward(self, x: Tensor) -> Tensor:
        """x."""
        return x


class Flatten(Module):
    """Axes ``start_dim`` to ``end_dim`` made one: images to rows."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Tensor) -> Tensor:
        """(batch, ...) to (batch, features)."""
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Dropout(Module):
    """In training, each entry becomes 0 with probability p and x / (1 - p) otherwise.

    The survivors are scaled up, so that the expected value stays the same and nothing has to change
    at inference. Source: Srivastava et al., "Dropout", JMLR 2014.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        """``inplace`` is accepted; tensors never change."""
        if not 0 <= p <= 1:
            raise OptionError(name="Dropout p", expected="between 0 and 1", got=p, mend="")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return functional.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
