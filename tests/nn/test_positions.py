"""Positions: the formulas of the papers, and what they are for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

import chainrule as cr
from chainrule import nn
from chainrule.errors import IndexRangeError, ShapeError
from chainrule.nn import functional as F

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("width", [1, 6, 7])
def test_sinusoidal_is_the_formula(width: int) -> None:
    table = nn.SinusoidalPositions(width, max_len=50)(cr.zeros(50, width, dtype="float64"))
    for m in (0, 1, 17, 49):
        for i in range(width):
            angle = m / 10000 ** ((i - i % 2) / width)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert table[m, i].item() == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_added_positions() -> None:
    """A batch, chosen positions, a gradient; the table of waves is neither learned nor saved."""
    x = RNG.normal(size=(2, 3, 4))
    learned = nn.LearnedPositions(5, 4, dtype="float64")
    weight = learned.weight.numpy()
    assert 0.01 < weight.std() < 0.03
    np.testing.assert_array_equal(learned(cr.tensor(x)).numpy(), x + weight[:3])
    chosen = cr.tensor([4, 0, 4])
    np.testing.assert_array_equal(learned(cr.tensor(x), chosen).numpy(), x + weight[[4, 0, 4]])
    learned(cr.tensor(x), chosen).sum().backward()
    assert learned.weight.grad.numpy()[:, 0].tolist() == [2, 0, 0, 0, 4]
    waves = nn.SinusoidalPositions(4, 5, dropout=0.5)
    assert waves.state_dict() == {}
    assert list(waves.parameters()) == []
    assert (waves(cr.tensor(x)).numpy() == 0).any()
    waves.eval()
    rows = waves(cr.zeros(5, 4, dtype="float64")).numpy()[[4, 0, 4]]
    np.testing.assert_array_equal(waves(cr.tensor(x), chosen).numpy(), x + rows)


def test_too_many_positions() -> None:
    for layer in (nn.LearnedPositions(3, 2), nn.SinusoidalPositions(2, 3)):
        with pytest.raises(ShapeError, match="at most 3 tokens, but got 4"):
            layer(cr.ones(4, 2))
        with pytest.raises(IndexRangeError):
            layer(cr.ones(1, 2), cr.tensor([3])).numpy()


def angles(positions: np.ndarray, width: int, base: float) -> np.ndarray:
    return positions[:, None] * base ** (-2 * np.arange(width // 2) / width)


@pytest.mark.parametrize("base", [10000.0, 500.0])
def test_rotary_is_llamas(base: float) -> None:
    x, positions = RNG.normal(size=(2, 3, 5, 8)), np.array([0, 1, 2, 7, 30])
    turned = np.concatenate([angles(positions, 8, base)] * 2, -1)
    ours = nn.RotaryPositions(base)(cr.tensor(x), cr.tensor(positions))
    theirs, _ = apply_rotary_pos_emb(
        *[torch.tensor(x)] * 2,
        torch.tensor(np.cos(turned))[None],
        torch.tensor(np.sin(turned))[None],
    )
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-13)


def test_rotary_is_a_turn_of_complex_numbers() -> None:
    """The paper's pairs: neighbours, as real and imaginary part."""
    x = RNG.normal(size=(5, 6))
    pairs = x[:, 0::2] + 1j * x[:, 1::2]
    turned = pairs * np.exp(1j * angles(np.arange(5), 6, 10000.0))
    found = nn.RotaryPositions(interleaved=True)(cr.tensor(x)).numpy()
    np.testing.assert_allclose(found[:, 0::2], turned.real, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(found[:, 1::2], turned.imag, rtol=1e-9, atol=1e-13)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(0, 50), st.integers(0, 50))
def test_only_the_distance_counts(seed: int, interleaved: bool, a: int, b: int) -> None:
    q, k = np.random.default_rng(seed).normal(size=(2, 1, 6))

    def product(m: int, n: int) -> float:
        turned = [
            F.rotary_embedding(cr.tensor(x), cr.tensor([at]), interleaved=interleaved)
            for x, at in ((q, m), (k, n))
        ]
        return float((turned[0] * turned[1]).sum())

    assert product(a, b) == pytest.approx(product(a + 100, b + 100), rel=1e-9, abs=1e-11)


def test_rotary_gradient() -> None:
    x = cr.tensor(RNG.normal(size=(3, 4)))
    for interleaved in (False, True):
        assert cr.gradcheck(lambda x, i=interleaved: F.rotary_embedding(x, interleaved=i), (x,))
    with pytest.raises(ShapeError, match="an even width"):
        F.rotary_embedding(cr.ones(2, 3))
