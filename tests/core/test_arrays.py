"""Where arrays lie, and who may write into a variable's."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.core.arrays import address, aligned, room
from chainrule.core.graph import Variable

F32 = np.dtype(np.float32)


@pytest.mark.parametrize(
    "array",
    [
        np.ones(3), np.ones((2, 3))[1:], np.ones(()), np.zeros((0, 4)), np.ones(5, np.int64)[::2],
        np.frombuffer(b"12345678", np.uint8),
    ],
)  # fmt: skip
def test_address(array: np.ndarray) -> None:
    assert address(array) == array.ctypes.data


@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (1000,)])
def test_arrays_that_start_on_a_cache_line(shape: tuple[int, ...]) -> None:
    for make in (aligned, room):
        array = make(shape, F32)
        assert array.shape == shape
        assert array.dtype == F32
        assert array.ctypes.data % 64 == 0
        assert array.flags.writeable
        assert array.flags.c_contiguous
    assert not aligned(shape, F32).any()


def test_private_arrays() -> None:
    cell = Variable(np.zeros(2, F32))
    assert not cell.is_private()  # whoever made it may have the array
    first = room((2,), F32)
    first[:] = 1
    cell.take(first)
    assert cell.is_private()
    version = cell.version
    cell.take(first)
    assert cell.version == version + 1
    read = cell.read()
    assert not cell.is_private()
    second = room((2,), F32)
    second[:] = 2
    cell.take(second)
    assert read.value is not None
    assert read.value.tolist() == [1, 1]
    assert cell.is_private()
    assert cell.value.tolist() == [2, 2]
    assert not cell.is_private()


def test_the_type_follows_the_value() -> None:
    cell = Variable(np.zeros(2, F32))
    cell.commit(np.zeros(2))
    assert cell.type == ((2,), np.dtype(np.float64))
