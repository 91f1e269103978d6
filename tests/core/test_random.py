"""Philox against the published numbers, and what is made of its words."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases_random import philox as plain_philox
from cases_random import words
from oracle import input_nodes, run

from chainrule.core import random
from chainrule.core.ops.random import random_bits, random_normal, random_uniform
from chainrule.run.torch.table import philox as torch_philox

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)

# philox4x32-10 of Random123's kat_vectors: counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def parsed(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_known_answers(counter: str, key: str, result: str) -> None:
    column = np.array(parsed(counter), np.uint32).reshape(4, 1)
    k0, k1 = parsed(key)
    assert random.philox(column, (k0, k1)).reshape(-1).tolist() == parsed(result)
    tensors = [torch.tensor([word]) for word in parsed(counter)]
    assert [int(word) for word in torch_philox(tensors, (k0, k1))] == parsed(result)
    assert list(plain_philox(tuple(parsed(counter)), (k0, k1))) == parsed(result)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 1000])
@pytest.mark.parametrize(("seed", "draw"), [(0, 0), (7, 3), (-1, 2**40), (2**63 - 1, 2**63 - 1)])
def test_words_of_a_draw(seed: int, draw: int, count: int) -> None:
    assert random.random_words(seed, draw, count).tolist() == words(seed, draw, count)


def test_a_longer_draw_begins_with_the_shorter() -> None:
    assert np.array_equal(random.random_words(1, 2, 9), random.random_words(1, 2, 100)[:9])


def test_words_past_the_32nd_bit_of_the_block() -> None:
    """The block number fills two words of the counter."""
    counter = np.array([[0], [1], [5], [0]], np.uint32)
    expected = plain_philox((0, 1, 5, 0), (9, 0))
    assert random.philox(counter, (9, 0)).reshape(-1).tolist() == list(expected)


@pytest.mark.parametrize("executor", ["interpreter", "torch"])
def test_nodes_draw_these_words(executor: str) -> None:
    arrays = [np.array(-5), np.array(2**33)]
    seed, base = input_nodes(arrays)
    bits = random_bits(seed, base, ordinal=4, shape=(3, 5))
    half = random_uniform(seed, base, ordinal=4, shape=(15,), dtype=F32)
    full = random_uniform(seed, base, ordinal=4, shape=(15,), dtype=F64)
    found = run([bits, half, full], [seed, base], arrays, executor)
    expected = words(-5, 2**33 + 4, 15)
    assert found[0].reshape(-1).tolist() == expected
    assert found[1].tolist() == found[2].tolist() == [(word >> 8) / 2**24 for word in expected]


def test_executors_agree_on_bits_and_uniforms() -> None:
    """Bit for bit; normals come near (decision 12: 2 ulp, and a little for the libraries' cos)."""
    arrays = [np.array(11), np.array(0)]
    seed, base = input_nodes(arrays)
    outputs = [
        random_bits(seed, base, ordinal=0, shape=(1000,)),
        random_uniform(seed, base, ordinal=1, shape=(1000,), dtype=F32),
        random_normal(seed, base, ordinal=2, shape=(1000,), dtype=F64),
    ]
    ours, theirs = (run(outputs, [seed, base], arrays, name) for name in ("interpreter", "torch"))
    assert ours[0].tobytes() == theirs[0].tobytes()
    assert ours[1].tobytes() == theirs[1].tobytes()
    np.testing.assert_allclose(ours[2], theirs[2], rtol=1e-13, atol=1e-15)


def test_uniform_moments() -> None:
    """Mean 1/2, variance 1/12, no correlation of neighbours; 5 standard errors."""
    count = 200_000
    u = random.uniform(random.random_words(42, 0, count), F64)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / count)
    assert abs(u.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / count)
    centred = u - 0.5
    assert abs((centred[1:] * centred[:-1]).mean()) < 5 / 12 / math.sqrt(count)
    cells = np.histogram(u, 64, (0, 1))[0]
    chi_square = ((cells - count / 64) ** 2 / (count / 64)).sum()
    assert abs(chi_square - 63) < 5 * math.sqrt(2 * 63)


def test_draws_do_not_depend_on_each_other() -> None:
    a, b = (random.uniform(random.random_words(42, draw, 50_000), F64) - 0.5 for draw in (0, 1))
    c = random.uniform(random.random_words(43, 0, 50_000), F64) - 0.5
    for left, right in [(a, b), (a, c), (b, c)]:
        assert abs((left * right).mean()) < 5 / 12 / math.sqrt(50_000)


def test_normal_moments() -> None:
    count = 200_000
    arrays = [np.array(1), np.array(0)]
    seed, base = input_nodes(arrays)
    node = random_normal(seed, base, ordinal=0, shape=(count,), dtype=F64)
    (z,) = run([node], [seed, base], arrays)
    assert np.isfinite(z).all()
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**power).mean() - moment) < 5 * math.sqrt(variance / count)


def test_the_largest_uniform_is_below_one_in_both_types() -> None:
    top = np.array([0xFFFFFFFF, 0xFF], np.uint32)
    for dtype in (F32, F64):
        assert random.uniform(top, dtype).tolist() == [1 - 2**-24, 0.0]
