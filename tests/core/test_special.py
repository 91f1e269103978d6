"""The error function against the C library's, over the whole line."""

from __future__ import annotations

import math

import numpy as np

from chainrule.core.special import erf


def test_dense_sweep() -> None:
    x = np.concatenate(
        [
            np.linspace(-7, 7, 200_001),
            np.logspace(-300, 0, 2001),
            -np.logspace(-20, 1, 501),
            *(edge + np.arange(-50, 51) * 1e-15 for edge in (0.46875, 4.0, 6.0, -0.46875, -4.0)),
        ]
    )
    expected = np.array([math.erf(value) for value in x.tolist()])
    np.testing.assert_allclose(erf(x), expected, rtol=5e-16, atol=0)


def test_ends_and_signs() -> None:
    x = np.array([np.inf, -np.inf, 0.0, -0.0, np.nan, 1e300, -1e300])
    found = erf(x)
    np.testing.assert_array_equal(found, [1, -1, 0, 0, np.nan, 1, -1])
    assert np.signbit(found[:4]).tolist() == [False, True, False, True]


def test_never_beyond_one_and_never_falling() -> None:
    y = erf(np.linspace(-7, 7, 100_001))
    assert np.abs(y).max() <= 1
    assert np.diff(y).min() >= -1.2e-16


def test_float32_is_the_rounded_float64() -> None:
    x = np.linspace(-5, 5, 1001, dtype=np.float32)
    assert erf(x).dtype == np.float32
    assert np.array_equal(erf(x), erf(x.astype(np.float64)).astype(np.float32))


def test_scalar_and_empty() -> None:
    assert erf(np.array(0.5)).shape == ()
    assert erf(np.zeros((0, 3))).shape == (0, 3)
