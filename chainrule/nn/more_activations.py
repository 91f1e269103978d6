"""The less common activation functions as layers: entry by entry, formulas as in PyTorch."""

from __future__ import annotations

import numpy as np

from chainrule.core.dtype import as_dtype, default_dtype
from chainrule.errors import OptionError
from chainrule.nn import functional_activations as functional
from chainrule.nn.module import Module, Parameter, takes_device
from chainrule.tensor.tensor import Tensor


class Softsign(Module):
    """a = z / (1 + abs(z)), between -1 and 1."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.softsign(z)


class LogSigmoid(Module):
    """a = ln sigmoid(z)."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.logsigmoid(z)


class Tanhshrink(Module):
    """a = z - tanh(z)."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.tanhshrink(z)


class ReLU6(Module):
    """a = min(max(0, z), 6)."""

    def __init__(self, inplace: bool = False) -> None:
        """``inplace`` is accepted; tensors never change."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.relu6(z)


class Hardsigmoid(Module):
    """a = relu6(z + 3) / 6: a sigmoid of straight lines."""

    def __init__(self, inplace: bool = False) -> None:
        """``inplace`` is accepted; tensors never change."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.hardsigmoid(z)


class Hardswish(Module):
    """a = z hardsigmoid(z): a swish of straight lines. Source: Howard et al., 2019."""

    def __init__(self, inplace: bool = False) -> None:
        """``inplace`` is accepted; tensors never change."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.hardswish(z)


class SELU(Module):
    """a = scale (z where z > 0, else alpha (exp(z) - 1)). Source: Klambauer et al., 2017."""

    def __init__(self, inplace: bool = False) -> None:
        """``inplace`` is accepted; tensors never change."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.selu(z)


class Mish(Module):
    """a = z tanh(ln(1 + exp(z))). Source: Misra, 2019."""

    def __init__(self, inplace: bool = False) -> None:
        """``inplace`` is accepted; tensors never change."""

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.mish(z)


class CELU(Module):
    """a = z where z > 0, else alpha (exp(z / alpha) - 1). Source: Barron, 2017."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.celu(z, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Hardtanh(Module):
    """a = z kept between ``min_val`` and ``max_val``."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        self.min_val = min_val
        self.max_val = max_val

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.hardtanh(z, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


class Hardshrink(Module):
    """a = z where abs(z) > lambd, else 0."""

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.hardshrink(z, self.lambd)

    def extra_repr(self) -> str:
        return f"lambd={self.lambd}"


class Softshrink(Module):
    """a = z moved towards 0 by ``lambd``, and 0 where it would cross."""

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.softshrink(z, self.lambd)

    def extra_repr(self) -> str:
        return f"lambd={self.lambd}"


class Threshold(Module):
    """a = z where z > threshold, else ``value``."""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self.threshold = threshold
        self.value = value

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.threshold(z, self.threshold, self.value)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, value={self.value}"


class GLU(Module):
    """a sigmoid(b), where a and b are the halves of the input along ``dim``.

    Source: Dauphin et al., "Language modeling with gated convolutional networks", 2017.
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Half as long along ``dim``."""
        return functional.glu(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class PReLU(Module):
    """a = z where z > 0, else weight z; the slope is learned, from ``init``.

    Args:
        num_parameters: 1, or the number of channels (axis 1), each with its own slope.
        init: the slope at the start.

    Source: He et al., "Delving deep into rectifiers", 2015.

    Example:
        >>> import chainrule as cr
        >>> PReLU()(cr.tensor([-4.0, 2.0])).tolist()
        [-1.0, 2.0]
    """

    @takes_device
    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: object = None) -> None:
        self.num_parameters = num_parameters
        kind = as_dtype(dtype) if dtype is not None else default_dtype()
        self.weight = Parameter(np.full(num_parameters, init, kind))

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        return functional.prelu(z, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


# ------------------------------------------------------------------------------ dropout


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        """``inplace`` is accepted; tensors never change."""
        if not 0 <= p <= 1:
            name = f"{type(self).__name__} p"
            raise OptionError(name=name, expected="between 0 and 1", got=p)
        self.p = p

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout1d(_Dropout):
    """In training, each channel of (batch, channels, length) becomes 0 with probability p."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return functional.dropout1d(x, self.p, self.training)


class Dropout2d(_Dropout):
    """In training, each channel of images becomes 0 with probability p.

    Neighbouring pixels say nearly the same, so that dropping single ones would change little.
    Source: Tompson et al., "Efficient object localization using convolutional networks", 2015.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return functional.dropout2d(x, self.p, self.training)


class AlphaDropout(_Dropout):
    """Dropout for networks of SELU: mean and variance stay. Source: Klambauer et al., 2017."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return functional.alpha_dropout(x, self.p, self.training)
