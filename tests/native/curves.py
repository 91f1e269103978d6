"""The functions of one number, what they are in float64, and how far float32 may be from that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from chainrule.core.graph import Array, Graph, Node, TensorType
from chainrule.core.op import input
from chainrule.core.ops import activations, angles, functions
from chainrule.core.ops import arithmetic as ops
from chainrule.run.native.plan import Plan

STEP = 389
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Curve:
    """A function of one number.

    Attributes:
        op: from node to node.
        reference: the same in PyTorch, in float64.
        units: its error is at most so many units in the last place of the result;
        share: or at most so large a share of the argument's size, where digits cancel.
    """

    op: Callable[[Node], Node]
    reference: Callable[[torch.Tensor], torch.Tensor]
    units: float | None = None
    share: float | None = None

    @property
    def bound(self) -> str:
        """The bound in words."""
        return f"{self.units:g} ulp" if self.units is not None else f"{self.share:g} abs(x)"


def _sign(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.isnan(), x, x.sign())


def _power(exponent: float) -> Callable[[Node], Node]:
    return lambda x: ops.pow(x, exponent)


CURVES: dict[str, Curve] = {
    # exact
    "neg": Curve(ops.neg, torch.neg, 0),
    "abs": Curve(ops.abs, torch.abs, 0),
    "sign": Curve(ops.sign, _sign, 0),
    "floor": Curve(ops.floor, torch.floor, 0),
    "ceil": Curve(ops.ceil, torch.ceil, 0),
    "round": Curve(ops.round, torch.round, 0),
    "relu": Curve(functions.relu, torch.relu, 0),
    "step": Curve(functions.step, lambda x: (x >= 0).double(), 0),
    "hardtanh": Curve(lambda x: activations.hardtanh(x, low=-1.0, high=1.0), F.hardtanh, 0),
    "threshold": Curve(
        lambda x: activations.threshold(x, limit=0.5, value=2.0),
        lambda x: F.threshold(x, 0.5, 2), 0,
    ),
    "hardshrink": Curve(lambda x: activations.hardshrink(x, width=0.5), F.hardshrink, 0),
    # rounded once
    "sqrt": Curve(ops.sqrt, torch.sqrt, 0.5),
    "square": Curve(functions.square, torch.square, 0.5),
    "leaky_relu": Curve(
        lambda x: functions.leaky_relu(x, slope=0.125), lambda x: F.leaky_relu(x, 0.125), 0.5
    ),
    "softshrink": Curve(lambda x: activations.softshrink(x, width=0.5), F.softshrink, 0.5),
    # through float64
    "expm1": Curve(ops.expm1, torch.expm1, 0.51),
    "log1p": Curve(ops.log1p, torch.log1p, 0.51),
    "sin": Curve(ops.sin, torch.sin, 0.51),
    "cos": Curve(ops.cos, torch.cos, 0.51),
    "atan": Curve(angles.atan, torch.atan, 0.51),
    "x^3": Curve(_power(3.0), lambda x: x**3, 0.51),
    "x^1.5": Curve(_power(1.5), lambda x: x**1.5, 0.51),
    "x^-1.5": Curve(_power(-1.5), lambda x: x**-1.5, 0.51),
    # polynomials in float32
    "exp": Curve(ops.exp, torch.exp, 1.0),
    "log": Curve(ops.log, torch.log, 1.0),
    "tanh": Curve(ops.tanh, torch.tanh, 1.5),
    "erf": Curve(ops.erf, torch.erf, 1.2),
    # a few ops
    "sigmoid": Curve(functions.sigmoid, torch.sigmoid, 2.5),
    "softplus": Curve(
        functions.softplus, lambda z: torch.logaddexp(z, torch.zeros_like(z)), 1.6
    ),
    "log_sigmoid": Curve(activations.log_sigmoid, F.logsigmoid, 1.6),
    "softsign": Curve(activations.softsign, F.softsign, 1.5),
    "elu": Curve(lambda x: functions.elu(x, alpha=1.0), F.elu, 0.51),
    "celu": Curve(lambda x: activations.celu(x, alpha=0.5), lambda x: F.celu(x, 0.5), 0.51),
    "selu": Curve(activations.selu, F.selu, 2.5),
    "hardsigmoid": Curve(activations.hardsigmoid, F.hardsigmoid, 1.5),
    "hardswish": Curve(activations.hardswish, F.hardswish, 2.5),
    # digits cancel, or a factor near 0 is flushed to it
    "silu": Curve(functions.silu, F.silu, share=1.5e-7),
    "gelu": Curve(lambda x: functions.gelu(x, approximate="none"), F.gelu, share=1.5e-7),
    "gelu, tanh": Curve(
        lambda x: functions.gelu(x, approximate="tanh"), lambda x: F.gelu(x, approximate="tanh"),
        share=1.5e-7,
    ),
    "mish": Curve(activations.mish, F.mish, share=1.5e-7),
    "tanhshrink": Curve(activations.tanhshrink, F.tanhshrink, share=1.5e-7),
}  # fmt: skip


@lru_cache(maxsize=1)
def patterns() -> Array:
    """Every 389th float32 but the subnormal ones: zeros, infinities and NaN are among them."""
    bits = np.arange(0, 2**32, STEP, dtype=np.uint64).astype(np.uint32)
    extra = np.array([0, 2**31, 0x7F800000, 0xFF800000, 0x7FC00000, 0x00800000], np.uint32)
    numbers = np.concatenate([bits, extra]).view(np.float32)
    numbers = numbers[~np.isnan(numbers)]
    numbers = numbers[(np.abs(numbers) >= TINY) | (numbers == 0)]
    return np.append(numbers, np.float32(np.nan))


class Sweep(NamedTuple):
    """What a sweep found.

    Attributes:
        units, at: the largest error in units in the last place, and where.
        share: the largest error over the argument's size.
        broken: arguments where infinity or NaN is not exact, or where what would be subnormal is
            more than that.
    """

    units: float
    at: float
    share: float
    broken: list[float]


def graph(curve: Curve, thin: int = 1) -> tuple[Graph, Array]:
    """The curve as a graph, and every ``thin``-th of the patterns to run it on."""
    numbers = patterns()[::thin]
    x = input(TensorType(numbers.shape, numbers.dtype), "x")
    return Graph([x], [curve.op(x)]), numbers


def sweep(curve: Curve, thin: int = 1) -> Sweep:
    """The errors of a curve on the native engine."""
    made, numbers = graph(curve, thin)
    (found,) = Plan(made)([numbers], [])
    return judged(curve, numbers, found)


def judged(curve: Curve, numbers: Array, found: Array) -> Sweep:
    """How far what was found is from the curve in float64."""
    with np.errstate(all="ignore"):
        exact = curve.reference(torch.from_numpy(numbers.astype(np.float64))).numpy()
        rounded = exact.astype(np.float32)
        normal = np.isfinite(rounded) & (np.abs(exact) >= TINY)
        error = np.abs(found[normal].astype(np.float64) - exact[normal])
        error = np.maximum(error - TINY, 0)  # what a subnormal value on the way may cost
        units = error / np.spacing(np.abs(rounded[normal])).astype(np.float64)
        share = np.where(error > 0, error / np.abs(numbers[normal].astype(np.float64)), 0)
        worst = int(np.argmax(units))
        small = np.abs(exact) < TINY
        same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
        broken = (~normal & ~small & ~same) | (small & (np.abs(found) > TINY))
    return Sweep(
        float(units[worst]), float(numbers[normal][worst]), float(share.max()),
        [float(each) for each in numbers[broken]],
    )  # fmt: skip
