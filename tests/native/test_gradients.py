"""First gradients and losses of the workloads against float64, and against PyTorch's own errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from gradients import LOSSES, MOST, compare_losses, first_step
from workloads import WORKLOADS


def slow(*quick: str) -> list[object]:
    """All workloads; those that take seconds are marked."""
    return [
        pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in WORKLOADS
    ]


@pytest.mark.parametrize("name", slow("W1", "W2", "W5"))
def test_first_gradients(name: str) -> None:
    """On the same sides of ReLU and max pooling: at most twice PyTorch's error.

    A rounding moves few entries to the other side: under one in a hundred thousand.
    """
    found = first_step(WORKLOADS[name])
    assert found.ratio <= MOST, found
    assert found.our_flips <= 1e-5 * found.entries, found


@pytest.mark.parametrize(
    ("name", "steps"), [("W1", 10), ("W2", 10), pytest.param("W4", 3, marks=pytest.mark.slow)]
)
def test_losses(name: str, steps: int) -> None:
    """Of some steps, near those of float64 on the same sides; the benchmark compares all."""
    found = compare_losses(WORKLOADS[name], steps)
    assert found[3] <= LOSSES / 100, found
