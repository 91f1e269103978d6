"""``torch.distributions``: what policies and variational networks draw from.

``sample()`` draws without a gradient; ``log_prob`` and ``entropy`` have one, by the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from chainrule.core.dtype import default_dtype, is_float
from chainrule.errors import OptionError
from chainrule.like_torch import making
from chainrule.like_torch.missing import refuse
from chainrule.nn import functional
from chainrule.tensor.functions import log
from chainrule.tensor.tensor import Tensor, tensor

__all__ = ["Bernoulli", "Categorical", "Distribution", "Normal", "kl_divergence"]
__path__: list[str] = []


class Distribution:
    """Base of the distributions; ``batch_shape`` is the shape of one sample."""

    batch_shape: tuple[int, ...]

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Fresh numbers, (*sample_shape, *batch_shape), without a gradient."""
        raise NotImplementedError(f"{type(self).__name__} has no sample()")

    def log_prob(self, value: Any) -> Tensor:
        """ln of the probability, or of the density, of each entry."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob()")

    def entropy(self) -> Tensor:
        """The mean of -ln p."""
        raise NotImplementedError(f"{type(self).__name__} has no entropy()")


def _one_of(probs: Any, logits: Any) -> None:
    if (probs is None) == (logits is None):
        raise OptionError(name="probs or logits", expected="one of the two", got="both or neither")


def _inside(probs: Tensor) -> Tensor:
    """Probabilities kept off 0 and 1, so that their logarithms are finite."""
    eps = 1.1920929e-07 if probs.dtype.name == "float32" else 2.220446049250313e-16
    return probs.clamp(eps, 1 - eps)


class Categorical(Distribution):
    """One of n classes.

    Args:
        probs: (..., n), not negative; divided by their sum.
        logits: (..., n), of which the probabilities are the softmax.

    Example:
        >>> import chainrule.like_torch as torch
        >>> policy = torch.distributions.Categorical(torch.tensor([0.25, 0.25, 0.5]))
        >>> round(policy.log_prob(torch.tensor(2)).exp().item(), 6)
        0.5
    """

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None) -> None:
        _one_of(probs, logits)
        if probs is not None:
            self.probs: Tensor = probs / probs.sum(-1, keepdim=True)
            self.logits = _inside(self.probs).log()
        elif logits is not None:
            self.logits = logits - logits.logsumexp(-1, keepdim=True)
            self.probs = logits.softmax(-1)
        self.batch_shape = self.probs.shape[:-1]

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Class numbers, (*sample_shape, ...)."""
        rows = self.probs.detach().reshape(-1, self.probs.shape[-1])
        drawn = making.multinomial(rows, math.prod(sample_shape), replacement=True)
        made: Tensor = drawn.t().reshape(*sample_shape, *self.batch_shape)
        return made

    def log_prob(self, value: Any) -> Tensor:
        """ln of the probability of each class number."""
        value = value.long()
        logits = self.logits.expand(*value.shape, self.logits.shape[-1])
        return logits.gather(-1, value.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """-sum p ln p."""
        return -(self.logits * self.probs).sum(-1)


class Bernoulli(Distribution):
    """1 with a probability, else 0; ``logits`` are ln(p / (1 - p))."""

    def __init__(self, probs: Any = None, logits: Any = None) -> None:
        _one_of(probs, logits)
        if probs is not None:
            self.probs = _float(probs)
            inside = _inside(self.probs)
            self.logits = log(inside) - (-inside).log1p()
        else:
            self.logits = _float(logits)
            self.probs = self.logits.sigmoid()
        self.batch_shape = self.probs.shape

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """0 and 1 as floats."""
        probs = self.probs.detach()
        return making.bernoulli(probs.expand(*sample_shape, *self.batch_shape))

    def log_prob(self, value: Any) -> Tensor:
        """v ln p + (1 - v) ln(1 - p)."""
        return -_cross_entropy(self.logits.expand_as(value), value)

    def entropy(self) -> Tensor:
        """-p ln p - (1 - p) ln(1 - p)."""
        return _cross_entropy(self.logits, self.probs)


def _cross_entropy(logits: Any, probs: Any) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, probs, reduction="none")


class Normal(Distribution):
    """Normal numbers with a mean ``loc`` and a standard deviation ``scale``."""

    def __init__(self, loc: Any, scale: Any) -> None:
        loc, scale = _float(loc, scale), _float(scale, loc)
        self.batch_shape = (loc + scale).shape
        self.loc: Tensor = loc.expand(*self.batch_shape)
        self.scale: Tensor = scale.expand(*self.batch_shape)

    @property
    def mean(self) -> Tensor:
        """``loc``."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """``scale``."""
        return self.scale

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """loc + scale e with e from N(0, 1): a sample with a gradient by both."""
        eps = making.randn(*sample_shape, *self.batch_shape, dtype=self.loc.dtype)
        made: Tensor = self.loc + eps * self.scale
        return made

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """As :meth:`rsample`, without a gradient."""
        return self.rsample(sample_shape).detach()

    def log_prob(self, value: Any) -> Tensor:
        """-(v - loc)^2 / (2 scale^2) - ln scale - ln sqrt(2 pi)."""
        off = ((value - self.loc) ** 2) / (2 * self.scale**2)
        made: Tensor = -off - self.scale.log() - math.log(math.sqrt(2 * math.pi))
        return made

    def entropy(self) -> Tensor:
        """1/2 + ln sqrt(2 pi) + ln scale."""
        made: Tensor = 0.5 + 0.5 * math.log(2 * math.pi) + self.scale.log()
        return made


def _float(value: Any, beside: Any = None) -> Tensor:
    """A tensor of floats; a number takes the type of the tensor beside it."""
    kind = beside.dtype if isinstance(beside, Tensor) else default_dtype()
    made: Tensor = value if isinstance(value, Tensor) else tensor(value, kind)
    return made if is_float(made.dtype) else made.to(kind)


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """The mean of ln p - ln q under p; for two normals, or two categorical distributions.

    Raises:
        OptionError: other pairs.
    """
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio = (p.scale / q.scale) ** 2
        made: Tensor = 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log())
        return made
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return (p.probs * (p.logits - q.logits)).sum(-1)
    raise OptionError(
        name="the distributions", expected="two Normal or two Categorical",
        got=f"{type(p).__name__} and {type(q).__name__}",
    )  # fmt: skip


__getattr__ = refuse(__name__)
