"""Random numbers: the same seed gives the same bits, here and in a new process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr

PROGRAM = """
import chainrule as cr, numpy as np
from chainrule import nn, optim
cr.manual_seed(7)
model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 2))
optimizer = optim.Adam(model.parameters(), lr=0.01)
def step(x, y):
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss
step = cr.compile(step) if COMPILED else step
for _ in range(3):
    loss = step(cr.randn(5, 3), cr.randint(0, 2, (5,)))
print(loss.numpy().tobytes().hex(), *[p.numpy().tobytes().hex() for p in model.parameters()])
print(cr.rand(2).tolist(), cr.randn(2).tolist(), cr.randperm(5).tolist())
print(cr.rand_like(cr.ones(2)).tolist())
"""


def run(compiled: bool) -> str:
    program = PROGRAM.replace("COMPILED", str(compiled))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def test_new_processes_give_the_same_bits() -> None:
    """What is drawn is the same compiled and uncompiled; what is computed agrees to rounding."""
    uncompiled, compiled = run(compiled=False), run(compiled=True)
    assert run(compiled=False) == uncompiled
    assert run(compiled=True) == compiled
    trained, *drawn = uncompiled.splitlines()
    also_trained, *also_drawn = compiled.splitlines()
    assert drawn == also_drawn
    for a, b in zip(trained.split(), also_trained.split(), strict=True):
        floats = (np.frombuffer(bytes.fromhex(word), np.float32) for word in (a, b))
        np.testing.assert_allclose(*floats, rtol=1e-5, atol=1e-6)


def test_seeds_give_other_numbers() -> None:
    drawn = set()
    for seed in (0, 1, 2, -1, 2**31, 2**32, 2**63, 2**64 - 2):
        cr.manual_seed(seed)
        drawn.add(tuple(cr.rand(4).tolist()))
    assert len(drawn) == 8


def test_what_was_looked_at_changes_nothing() -> None:
    cr.manual_seed(0)
    a, b, c = cr.rand(2), cr.rand(2), cr.rand(2)
    expected = [c.tolist(), a.tolist(), b.tolist()]
    cr.manual_seed(0)
    a = cr.rand(2).tolist()
    b = cr.rand(2).tolist()
    cr.manual_seed(0)
    cr.rand(2)
    cr.rand(2)
    assert [cr.rand(2).tolist(), a, b] == expected


def test_a_draw_keeps_its_numbers() -> None:
    x = cr.rand(3)
    y = x + 1
    assert (y - 1).numpy() == pytest.approx(x.numpy(), abs=1e-6)
    assert x.tolist() == x.tolist()
    assert x.tolist() != cr.rand(3).tolist()


def test_distributions() -> None:
    cr.manual_seed(0)
    u, n = cr.rand(20_000).numpy(), cr.randn(20_000, dtype=cr.float64).numpy()
    assert u.min() >= 0
    assert u.max() < 1
    assert (u.mean(), u.var()) == (pytest.approx(0.5, abs=0.01), pytest.approx(1 / 12, rel=0.03))
    assert (n.mean(), n.var()) == (pytest.approx(0, abs=0.03), pytest.approx(1, rel=0.03))
    counts = np.bincount(cr.randint(0, 5, (20_000,)).numpy(), minlength=5)
    assert counts.sum() == 20_000
    assert (abs(counts - 4000) < 300).all()
    assert cr.randint(3, size=(4,)).shape == (4,)
    assert cr.randint(10, 12, (50,)).min().item() >= 10
    assert sorted(cr.randperm(1000).tolist()) == list(range(1000))


def test_wide_ranges_are_reached() -> None:
    cr.manual_seed(0)
    drawn = cr.randint(0, 2**31, (1000,)).numpy()
    assert len(np.unique(drawn)) == 1000
    assert len(np.unique(drawn % 128)) == 128  # low bits too
