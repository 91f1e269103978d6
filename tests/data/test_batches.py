"""Batches: every row once, an order fixed by seed and epoch, a position that resumes exactly."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.data import Batches
from chainrule.errors import OptionError, ShapeError


def rows(batches: Batches) -> list[list[int]]:
    """The row numbers of the rest of an epoch, batch by batch."""
    return [batch.tolist() for (batch,) in batches]


settings = {
    "rows": st.integers(1, 40),
    "batch_size": st.integers(1, 45),
    "shuffle": st.booleans(),
    "seed": st.integers(0, 2**64 - 1),
}


@given(**settings)
def test_every_row_once(rows: int, batch_size: int, shuffle: bool, seed: int) -> None:
    x = np.arange(rows)
    batches = Batches([x, -x], batch_size, shuffle=shuffle, seed=seed)
    seen = []
    for a, b in batches:
        np.testing.assert_array_equal(a, -b)
        seen.append(a)
    assert [len(a) for a in seen[:-1]] == [batch_size] * (len(batches) - 1)
    assert len(seen) == len(batches) == math.ceil(rows / batch_size)
    order = np.concatenate(seen)
    np.testing.assert_array_equal(np.sort(order), x)
    if not shuffle:
        np.testing.assert_array_equal(order, x)


@given(**settings, taken=st.integers(0, 60), drop_last=st.booleans())
def test_resume_is_exact(
    rows: int, batch_size: int, shuffle: bool, seed: int, taken: int, drop_last: bool
) -> None:
    batch_size = min(batch_size, rows) if drop_last else batch_size

    def make() -> Batches:
        return Batches(
            [np.arange(rows)], batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last
        )

    def steps(batches: Batches, count: int) -> list[list[int]]:
        found: list[list[int]] = []
        while len(found) < count:
            for (batch,) in batches:
                found.append(batch.tolist())
                if len(found) == count:
                    break
        return found

    straight = steps(make(), taken + 10)
    first, second = make(), make()
    before = steps(first, taken)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + steps(second, 10) == straight


def test_a_state_taken_in_the_loop_names_the_next_batch() -> None:
    batches = Batches([np.arange(6)], 2, shuffle=False)
    for (batch,) in batches:
        if batch[0] == 2:
            break
    assert batches.state_dict()["batch"] == 2
    assert rows(batches) == [[4, 5]]
    assert (batches.epoch, batches.batch) == (1, 0)


def test_order_is_fixed_for_all_time() -> None:
    # Philox4x64 of NumPy, key (seed, epoch): these numbers must never change.
    batches = Batches([np.arange(10)], 10, seed=7)
    assert batches.order(0).tolist() == [8, 4, 1, 6, 3, 2, 7, 5, 9, 0]
    assert batches.order(1).tolist() == [3, 9, 1, 6, 2, 5, 4, 8, 0, 7]


def test_order_depends_on_seed_and_epoch() -> None:
    orders = {
        tuple(Batches([np.arange(50)], 10, seed=seed).order(epoch).tolist())
        for seed in (0, 1, 2**63, 2**64 - 1)
        for epoch in range(5)
    }
    assert len(orders) == 20


def test_first_places_are_even() -> None:
    firsts = [Batches([np.arange(4)], 1, seed=seed).order(0)[0] for seed in range(4000)]
    counts = np.bincount(firsts, minlength=4)
    # 5 standard deviations of a fair draw: sqrt(4000 * 1/4 * 3/4) = 27
    assert np.abs(counts - 1000).max() < 5 * 27.4


def test_drop_last() -> None:
    batches = Batches([np.arange(7)], 3, shuffle=False, drop_last=True)
    assert len(batches) == 2
    assert rows(batches) == [[0, 1, 2], [3, 4, 5]]


def test_no_rows() -> None:
    batches = Batches([np.zeros((0, 3))], 4)
    assert len(batches) == 0
    assert list(batches) == []


def test_batches_are_copies() -> None:
    x = np.arange(4)
    (batch,) = next(iter(Batches([x], 2, shuffle=False)))
    batch[:] = 9
    assert x.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ([], "got none"),
        ([np.zeros((3, 2)), np.zeros(4)], r"got \(3, 2\), \(4,\)"),
        ([np.zeros(())], r"got \(\)"),
    ],
)
def test_arrays_that_do_not_fit(arrays: list[np.ndarray], says: str) -> None:
    with pytest.raises(ShapeError, match=says):
        Batches(arrays, 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, but got 0"),
        ({"batch_size": 1, "seed": -1}, "seed must be"),
        ({"batch_size": 4, "drop_last": True}, "at most 3, the number of rows"),
    ],
)
def test_options_that_are_not_allowed(options: dict[str, int], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        Batches([np.arange(3)], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 1}, "seed must be 1 as in the saved position, but got 0"),
        ({"rows": 11}, "rows must be 11"),
        ({"batch_size": 3}, "batch_size must be 3"),
        ({"shuffle": 0}, "shuffle must be 0"),
        ({"batch": 6}, "batch 6"),
        ({"epoch": -1}, "epoch -1"),
    ],
)
def test_a_position_of_other_data(change: dict[str, int], says: str) -> None:
    batches = Batches([np.arange(10)], 2)
    with pytest.raises(OptionError, match=says):
        batches.load_state_dict({**batches.state_dict(), **change})
    assert (batches.epoch, batches.batch) == (0, 0)
