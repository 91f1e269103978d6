"""The curves over the float32 bit patterns, on every kind of processor that runs here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bounds import ROUNDINGS
from cases import LIBRARY
from curves import CURVES, TINY, Curve, Sweep, graph, judged, sweep
from forced import TARGETS, forced, runs_here
from foreign import Foreign, emulated, run

from chainrule.core.graph import Graph, TensorType
from chainrule.core.op import input
from chainrule.core.ops import arithmetic as ops
from chainrule.run.native.plan import Plan
from chainrule.run.native.target import host

PAGE = Path(__file__).resolve().parents[2] / "docs" / "accuracy.md"


@pytest.mark.parametrize("target", ["host", "avx2", "sse2"])
@pytest.mark.parametrize("name", CURVES)
def test_error_over_all_bit_patterns(name: str, target: str) -> None:
    """NaN and infinity are exact; what would be subnormal may be 0. For others, fewer patterns."""
    chosen = host() if target == "host" else TARGETS[target]
    if not runs_here(chosen):
        pytest.skip("another family of processors")
    with forced(chosen):
        found = sweep(CURVES[name], thin=1 if target == "host" else 64)
    assert_within_bounds(CURVES[name], found)


def assert_within_bounds(curve: Curve, found: Sweep) -> None:
    if curve.units is not None:
        assert found.units <= curve.units, found
    if curve.share is not None:
        assert found.share <= curve.share, found
    assert found.broken == []


@pytest.mark.slow
def test_curves_on_arm(tmp_path: Path) -> None:
    """Under an emulator."""
    emulated()
    foreign = Foreign(TARGETS["neon"])
    graphs = {name: graph(curve, thin=64) for name, curve in CURVES.items()}
    runs: list[Any] = [(foreign.plan(each), [numbers], []) for each, numbers in graphs.values()]
    program = foreign.executable(tmp_path)
    found = run(program, tmp_path, runs)
    for (name, (_, numbers)), (y,) in zip(graphs.items(), found, strict=True):
        assert_within_bounds(CURVES[name], judged(CURVES[name], numbers, y))


def test_bounds_are_under_two_and_a_half_units() -> None:
    """Or a share of the argument that is about as small."""
    assert all((curve.units or 0) <= 2.5 for curve in CURVES.values())
    assert all((curve.share or 0) <= 1.5e-7 for curve in CURVES.values())


def test_every_function_of_one_number_is_swept() -> None:
    """Of those that compute: casts and truth values have no units."""
    others = {"cast", "logical_not", "isnan", "stop_gradient"}
    wanted = {name for name, op in LIBRARY.items() if op.elementwise and op.arity == 1}
    activations = {
        "sigmoid", "relu", "leaky_relu", "elu", "softplus", "silu", "gelu", "step", "square",
        "hardtanh", "hardsigmoid", "hardswish", "threshold", "hardshrink", "softshrink", "selu",
        "celu", "softsign", "log_sigmoid", "tanhshrink", "mish",
    }  # fmt: skip
    assert wanted - others <= CURVES.keys()
    assert activations <= CURVES.keys()


def test_the_error_analysis_of_the_ops_rests_on_these_bounds() -> None:
    """A unit in the last place is two roundings."""
    for name in ROUNDINGS.keys() & CURVES.keys():
        assert ROUNDINGS[name] == pytest.approx(2 * (CURVES[name].units or 0)), name


def test_the_page_names_every_curve_and_its_bound() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert {name: curve.bound for name, curve in CURVES.items()}.items() <= dict(rows).items()


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
    with np.errstate(all="ignore"):
        exact = np.power(base.astype(np.float64), exponent.astype(np.float64)).astype(np.float32)
    exact[np.abs(exact) < TINY] = 0
    found = np.where(np.abs(found) < TINY, np.float32(0), found)
    np.testing.assert_array_max_ulp(found[np.isfinite(exact)], exact[np.isfinite(exact)], 1)
    np.testing.assert_array_equal(found[~np.isfinite(exact)], exact[~np.isfinite(exact)])
