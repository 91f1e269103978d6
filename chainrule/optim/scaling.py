"""Transforms that give each entry a step of its own size, and what else optimizers chain.

State has the names that PyTorch gives it, so that its optimizers' state dicts fit. ``t`` is the
number of updates that the parameter had, this one included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chainrule.core.graph import Array
from chainrule.optim.transforms import Hyper, State, Transform, cast, unbiased
from chainrule.tensor.functions import maximum, where
from chainrule.tensor.tensor import Tensor


def _zeros(p: Tensor, *names: str) -> dict[str, Array]:
    return {name: np.zeros(p.shape, p.dtype) for name in names}


def _running_mean(kept: Tensor, mean: Tensor, value: Tensor) -> Tensor:
    """kept mean + (1 - kept) value."""
    return cast(kept, mean) * mean + cast(1 - kept, mean) * value


@dataclass(frozen=True)
class Velocity:
    """v <- momentum v + u; the update is v. (``Momentum`` also has dampening and Nesterov.)"""

    reads: ClassVar[tuple[str, ...]] = ("momentum",)

    def init(self, p: Tensor) -> dict[str, Array]:
        return _zeros(p, "momentum_buffer")

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        v = cast(h["momentum"], p) * state["momentum_buffer"] + u
        return v, {"momentum_buffer": v}


@dataclass(frozen=True)
class SignOfMean:
    """The sign of beta1 m + (1 - beta1) u; then m <- beta2 m + (1 - beta2) u.

    Source: Chen et al., "Symbolic discovery of optimization algorithms" (Lion), NeurIPS 2023.
    """

    reads: ClassVar[tuple[str, ...]] = ("beta1", "beta2")

    def init(self, p: Tensor) -> dict[str, Array]:
        return _zeros(p, "exp_avg")

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        m = state["exp_avg"]
        fresh = {"exp_avg": _running_mean(h["beta2"], m, u)}
        return _running_mean(h["beta1"], m, u).sign(), fresh


@dataclass(frozen=True)
class ScaleByAdagrad:
    """u / (sqrt(s) + eps) / (1 + (t - 1) lr_decay), with the sum s of all u^2 so far.

    Source: Duchi et al., "Adaptive subgradient methods", JMLR 2011.
    """

    start: float = 0.0

    reads: ClassVar[tuple[str, ...]] = ("lr_decay", "eps", "step")

    def init(self, p: Tensor) -> dict[str, Array]:
        return {"sum": np.full(p.shape, self.start, p.dtype)}

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        s = state["sum"] + u * u
        slower = 1 + (h["step"].to("float64") - 1) * h["lr_decay"]
        return u / (s.sqrt() + cast(h["eps"], p)) / cast(slower, p), {"sum": s}


@dataclass(frozen=True)
class ScaleByRMS:
    """u / (sqrt(v) + eps), with the running mean v of u^2.

    v <- alpha v + (1 - alpha) u^2; ``centered`` takes the square of the running mean of u from it,
    so that the root is a standard deviation. Source: Tieleman and Hinton, Lecture 6.5, 2012.
    """

    centered: bool = False

    reads: ClassVar[tuple[str, ...]] = ("alpha", "eps")

    def init(self, p: Tensor) -> dict[str, Array]:
        return _zeros(p, "square_avg", *["grad_avg"] * self.centered)

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        v = spread = _running_mean(h["alpha"], state["square_avg"], u * u)
        fresh = {"square_avg": v}
        if self.centered:
            mean = fresh["grad_avg"] = _running_mean(h["alpha"], state["grad_avg"], u)
            spread = v - mean * mean
        return u / (spread.sqrt() + cast(h["eps"], p)), fresh


@dataclass(frozen=True)
class ScaleByAdadelta:
    """sqrt(d + eps) / sqrt(v + eps) u, with running means v of u^2 and d of the updates' squares.

    Source: Zeiler, "ADADELTA: an adaptive learning rate method", 2012.
    """

    reads: ClassVar[tuple[str, ...]] = ("rho", "eps")

    def init(self, p: Tensor) -> dict[str, Array]:
        return _zeros(p, "square_avg", "acc_delta")

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        eps = cast(h["eps"], p)
        v = _running_mean(h["rho"], state["square_avg"], u * u)
        delta = (state["acc_delta"] + eps).sqrt() / (v + eps).sqrt() * u
        d = _running_mean(h["rho"], state["acc_delta"], delta * delta)
        return delta, {"square_avg": v, "acc_delta": d}


@dataclass(frozen=True)
class ScaleByMaximum:
    """m-hat / n, with n <- max(beta2 n, |u| + eps) in place of Adam's root mean square.

    Source: Kingma and Ba, "Adam", ICLR 2015, section 7.1 (Adamax).
    """

    reads: ClassVar[tuple[str, ...]] = ("beta1", "beta2", "eps", "step")

    def init(self, p: Tensor) -> dict[str, Array]:
        return _zeros(p, "exp_avg", "exp_inf")

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        m = _running_mean(h["beta1"], state["exp_avg"], u)
        n = maximum(cast(h["beta2"], p) * state["exp_inf"], u.abs() + cast(h["eps"], p))
        return unbiased(m, h["beta1"], h["step"].to("float64")) / n, {"exp_avg": m, "exp_inf": n}


@dataclass(frozen=True)
class ScaleByNAdam:
    """Adam that looks ahead by one momentum step, with a momentum mu that grows.

    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), M_t = mu_1 mu_2 ... mu_t, and the update is
    ((1 - mu_t) / (1 - M_t) u + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v-hat) + eps).

    Source: Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.
    """

    reads: ClassVar[tuple[str, ...]] = ("beta1", "beta2", "eps", "momentum_decay", "step")

    def init(self, p: Tensor) -> dict[str, Array]:
        return {"mu_product": np.ones((), np.float64), **_zeros(p, "exp_avg", "exp_avg_sq")}

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        t = h["step"].to("float64")
        now, following = (
            h["beta1"] * (1 - 0.5 * 0.96 ** (at * h["momentum_decay"])) for at in (t, t + 1)
        )
        product = state["mu_product"] * now
        m = _running_mean(h["beta1"], state["exp_avg"], u)
        v = _running_mean(h["beta2"], state["exp_avg_sq"], u * u)
        root = unbiased(v, h["beta2"], t).sqrt() + cast(h["eps"], p)
        ahead = cast((1 - now) / (1 - product), p) * u
        ahead = ahead + cast(following / (1 - product * following), p) * m
        return ahead / root, {"mu_product": product, "exp_avg": m, "exp_avg_sq": v}


@dataclass(frozen=True)
class ScaleByRAdam:
    """m-hat at first; then r m-hat / (sqrt(v-hat) + eps), once v has seen enough to be trusted.

    With rho = 2 / (1 - beta2) - 1 and rho_t = rho - 2 t beta2^t / (1 - beta2^t), from rho_t > 5 on,
    r^2 = (rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t). As in PyTorch, eps is added
    before v is freed from its bias.

    Source: Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020.
    """

    reads: ClassVar[tuple[str, ...]] = ("beta1", "beta2", "eps", "step")

    def init(self, p: Tensor) -> dict[str, Array]:
        return _zeros(p, "exp_avg", "exp_avg_sq")

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        beta1, beta2, t = h["beta1"], h["beta2"], h["step"].to("float64")
        m = _running_mean(beta1, state["exp_avg"], u)
        v = _running_mean(beta2, state["exp_avg_sq"], u * u)
        last = 2 / (1 - beta2) - 1
        rho = last - 2 * t * beta2**t / (1 - beta2**t)
        trusted = rho > 5
        safe = where(trusted, rho, 5.0)
        r = ((safe - 4) * (safe - 2) * last / ((last - 4) * (last - 2) * safe)).sqrt()
        root = cast(r * (1 - beta2**t).sqrt(), p) / (v.sqrt() + cast(h["eps"], p))
        return unbiased(m, beta1, t) * where(trusted, root, 1.0), {"exp_avg": m, "exp_avg_sq": v}


@dataclass(frozen=True)
class Accumulate:
    """Nothing, but at every so many steps what a chain makes of the mean of their gradients.

    Attributes:
        chain: the transforms; they count the updates, not the steps.
        every: how many steps make an update.
    """

    chain: tuple[Transform, ...]
    every: int

    @property
    def reads(self) -> tuple[str, ...]:
        """What the chain reads, and the step."""
        return ("step", *(name for link in self.chain for name in link.reads))

    def init(self, p: Tensor) -> dict[str, Array]:
        arrays = _zeros(p, "accumulated")
        for transform in self.chain:
            arrays |= transform.init(p)
        return arrays

    def update(self, u: Tensor, p: Tensor, state: State, h: Hyper) -> tuple[Tensor, State]:
        due = h["step"] % self.every == 0
        total = state["accumulated"] + u / self.every
        h = {**h, "step": (h["step"] + self.every - 1) // self.every}
        u, fresh = total, {"accumulated": where(due, 0.0, total)}
        for transform in self.chain:
            u, changed = transform.update(u, p, state, h)
            for name, value in changed.items():
                fresh[name] = where(due, value, state[name])
        return where(due, u, 0.0), fresh
