"""The curves over the float32 bit patterns: the largest error, in units in the last place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from chainrule.core.graph import Array, Graph, Node, TensorType
from chainrule.core.op import input
from chainrule.core.ops import angles, functions
from chainrule.core.ops import arithmetic as ops
from chainrule.run.native.plan import Plan

STEP = 389
TINY = float(np.finfo(np.float32).tiny)

Reference = Callable[[torch.Tensor], torch.Tensor]

# name: (op, PyTorch's in float64, most units in the last place). Seen on AVX-512: exp .97, log .77,
# expm1 .50, log1p .50, sin .50, cos .50, atan .50, tanh 1.30, erf .99, sigmoid 2.28, softplus 1.43.
CURVES: dict[str, tuple[Callable[..., Node], Reference, float]] = {
    "sqrt": (ops.sqrt, torch.sqrt, 0.5),
    "exp": (ops.exp, torch.exp, 1.0),
    "expm1": (ops.expm1, torch.expm1, 0.51),
    "log": (ops.log, torch.log, 1.0),
    "log1p": (ops.log1p, torch.log1p, 0.51),
    "sin": (ops.sin, torch.sin, 0.51),
    "cos": (ops.cos, torch.cos, 0.51),
    "atan": (angles.atan, torch.atan, 0.51),
    "tanh": (ops.tanh, torch.tanh, 1.5),
    "erf": (ops.erf, torch.erf, 1.0),
    "sigmoid": (functions.sigmoid, torch.sigmoid, 2.5),
    "softplus": (functions.softplus, lambda z: torch.logaddexp(z, torch.zeros_like(z)), 1.6),
    "floor": (ops.floor, torch.floor, 0.0),
    "ceil": (ops.ceil, torch.ceil, 0.0),
    "round": (ops.round, torch.round, 0.0),
    "abs": (ops.abs, torch.abs, 0.0),
    "sign": (ops.sign, lambda x: torch.where(x.isnan(), x, x.sign()), 0.0),
    "relu": (functions.relu, torch.relu, 0.0),
}


@pytest.fixture(scope="module")
def patterns() -> Array:
    """Every 389th float32 but the subnormal ones: zeros, infinities and NaN are among them."""
    bits = np.arange(0, 2**32, STEP, dtype=np.uint64).astype(np.uint32)
    extra = np.array([0, 2**31, 0x7F800000, 0xFF800000, 0x7FC00000, 0x00800000], np.uint32)
    numbers = np.concatenate([bits, extra]).view(np.float32)
    numbers = numbers[~np.isnan(numbers)]
    numbers = numbers[(np.abs(numbers) >= TINY) | (numbers == 0)]
    return np.append(numbers, np.float32(np.nan))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize("name", CURVES)
def test_error_over_all_bit_patterns(name: str, patterns: Array) -> None:
    op, reference, most = CURVES[name]
    exact = reference(torch.from_numpy(patterns.astype(np.float64))).numpy()
    x = input(TensorType(patterns.shape, patterns.dtype), "x")
    (found,) = Plan(Graph([x], [op(x)]))([patterns], [])
    rounded = exact.astype(np.float32)
    normal = np.isfinite(rounded) & (np.abs(exact) >= TINY)
    units = np.abs(found[normal].astype(np.float64) - exact[normal]) / np.spacing(
        np.abs(rounded[normal])
    ).astype(np.float64)
    worst = int(np.argmax(units))
    assert units[worst] <= most, f"{units[worst]:.3f} units at {patterns[normal][worst]!r}"
    # Infinity and NaN are exact; what would be subnormal may be 0.
    small = np.abs(exact) < TINY
    np.testing.assert_array_equal(found[~normal & ~small], rounded[~normal & ~small])
    assert (np.abs(found[small]) <= TINY).all()


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_and_silu_lose_digits_in_the_tail_only(approximate: str, patterns: Array) -> None:
    """z times something near 0: bounded by what erf and sigmoid lose there, relative to |z|."""
    x = input(TensorType(patterns.shape, patterns.dtype), "x")
    outputs = [functions.gelu(x, approximate=approximate), functions.silu(x)]
    found = Plan(Graph([x], outputs))([patterns], [])
    wide = torch.from_numpy(patterns.astype(np.float64))
    gelu = torch.nn.functional.gelu(wide, approximate=approximate).numpy()
    silu = torch.nn.functional.silu(wide).numpy()
    inside = np.abs(patterns) < 1e6
    for got, exact in zip(found, (gelu, silu), strict=True):
        error = np.abs(got[inside] - exact[inside])
        assert (error <= 3e-7 * np.abs(patterns[inside]) + TINY).all()


def test_pow() -> None:
    """Every sign of base and exponent, whole and half exponents, against NumPy in float64."""
    rng = np.random.default_rng(0)
    special = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 2, -2, 0.5, -0.5, 3, -3, 1e30])
    base, exponent = (grid.reshape(-1) for grid in np.meshgrid(special, special))
    base = np.concatenate([base, np.exp(rng.uniform(-20, 20, 20000))]).astype(np.float32)
    more = rng.choice([-3, -2, -0.5, 0.5, 1.5, 2, 3, 7.25], 20000)
    exponent = np.concatenate([exponent, more]).astype(np.float32)
    a, b = (input(TensorType(base.shape, base.dtype), name) for name in "ab")
    (found,) = Plan(Graph([a, b], [ops.pow(a, b)]))([base, exponent], [])
    exact = np.power(base.astype(np.float64), exponent.astype(np.float64)).astype(np.float32)
    exact[np.abs(exact) < TINY] *= 0
    found = np.where(np.abs(found) < TINY, found * 0, found)
    np.testing.assert_array_max_ulp(found[np.isfinite(exact)], exact[np.isfinite(exact)], 1)
    np.testing.assert_array_equal(found[~np.isfinite(exact)], exact[~np.isfinite(exact)])
