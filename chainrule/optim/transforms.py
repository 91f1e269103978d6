"""What an optimizer is made of: small pure functions from a gradient to an update.

A transform gets the update so far ``u`` (the gradient at first), the parameter ``p``, its own state
and the group's hyper-parameters; it returns the new update and the new state. An optimizer chains
them and ends with p - lr u.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from chainrule.core.graph import Array
from chainrule.tensor.functions import maximum, where
from chainrule.tensor.tensor import Tensor

State = Mapping[str, Tensor]
# Hyper-parameters of a group: float64 numbers without axes, and the parameter's step, from 1.
Hyper = Mapping[str, Tensor]


class Transform(Protocol):
    """One link of the chain.

    Attributes:
        reads: the hyper-parameters it reads; with ``"step"``, how many updates the parameter had.
    """

    @property
    def reads(self) -> tuple[str, ...]: ...

    def init(self, p: Tensor) -> dict[str, Array]:
        """State before the first step."""
        ...

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        """The next update and the next state."""
        ...


def cast(scalar: Tensor, like: Tensor) -> Tensor:
    """A float64 scalar at its use: in the parameter's type."""
    return scalar.to(like.dtype)


def unbiased(mean: Tensor, beta: Tensor, t: Tensor) -> Tensor:
    """A running mean that began at 0, freed from its bias: 1 / (1 - beta^t) mean.

    One number is divided, not every entry.
    """
    return cast(1 / (1 - beta**t), mean) * mean


@dataclass(frozen=True)
class Ascent:
    """-u: climb instead of descending."""

    reads: ClassVar[tuple[str, ...]] = ()

    def init(self, p: Tensor) -> dict[str, Array]:
        return {}

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        return -u, {}


@dataclass(frozen=True)
class WeightDecay:
    """u + weight_decay p: the gradient of (weight_decay / 2) |p|^2 added."""

    reads: ClassVar[tuple[str, ...]] = ("weight_decay",)

    def init(self, p: Tensor) -> dict[str, Array]:
        return {}

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        return u + cast(h["weight_decay"], p) * p, {}


@dataclass(frozen=True)
class Momentum:
    """v <- momentum v + (1 - dampening) u; the update is v, or u + momentum v (Nesterov).

    As in PyTorch, v starts as the first u. Source: Sutskever et al., 2013.
    """

    nesterov: bool = False

    reads: ClassVar[tuple[str, ...]] = ("momentum", "dampening", "step")

    def init(self, p: Tensor) -> dict[str, Array]:
        return {"momentum_buffer": np.zeros(p.shape, p.dtype)}

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        momentum = cast(h["momentum"], p)
        fresh = where(h["step"] == 1, 1.0, 1 - h["dampening"])
        v = momentum * state["momentum_buffer"] + cast(fresh, p) * u
        return (u + momentum * v if self.nesterov else v), {"momentum_buffer": v}


@dataclass(frozen=True)
class ScaleByAdam:
    """m-hat / (sqrt(v-hat) + eps), with running means m of u and v of u^2.

    m <- beta1 m + (1 - beta1) u, v <- beta2 v + (1 - beta2) u^2, and m-hat = m / (1 - beta1^t),
    v-hat = v / (1 - beta2^t) at step t. ``amsgrad`` puts the largest v so far in the place of v.

    Source: Kingma and Ba, "Adam", ICLR 2015; Reddi et al., "On the convergence of Adam and beyond",
    ICLR 2018 (AMSGrad).
    """

    amsgrad: bool = False

    reads: ClassVar[tuple[str, ...]] = ("beta1", "beta2", "eps", "step")

    def init(self, p: Tensor) -> dict[str, Array]:
        names = ["exp_avg", "exp_avg_sq", *["max_exp_avg_sq"] * self.amsgrad]
        return {name: np.zeros(p.shape, p.dtype) for name in names}

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        beta1, beta2, t = h["beta1"], h["beta2"], h["step"].to("float64")
        m = cast(beta1, p) * state["exp_avg"] + cast(1 - beta1, p) * u
        v = cast(beta2, p) * state["exp_avg_sq"] + cast(1 - beta2, p) * (u * u)
        fresh = {"exp_avg": m, "exp_avg_sq": v}
        if self.amsgrad:
            v = fresh["max_exp_avg_sq"] = maximum(state["max_exp_avg_sq"], v)
        root = unbiased(v, beta2, t).sqrt()
        return unbiased(m, beta1, t) / (root + cast(h["eps"], p)), fresh


@dataclass(frozen=True)
class ClipByValue:
    """Every entry of u kept within -clip_value and clip_value."""

    reads: ClassVar[tuple[str, ...]] = ("clip_value",)

    def init(self, p: Tensor) -> dict[str, Array]:
        return {}

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        bound = cast(h["clip_value"], p)
        return u.clamp(-bound, bound), {}
