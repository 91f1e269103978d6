"""The idx reader: right files load, damaged ones are named, and nothing else ever happens."""

from __future__ import annotations

import gzip
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.data import read_idx
from chainrule.errors import DataError

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array: np.ndarray) -> bytes:
    """An idx file written from its description."""
    sizes = np.array(array.shape, ">u4").tobytes()
    numbers = array.astype(array.dtype.newbyteorder(">")).tobytes()
    return bytes([0, 0, CODES[array.dtype.name], array.ndim]) + sizes + numbers


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx")


arrays = st.sampled_from(sorted(CODES)).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0),
        elements={"allow_nan": False} if "float" in dtype else None,
    )
)


@given(array=arrays, zipped=st.booleans())
def test_round_trip(folder: Path, array: np.ndarray, zipped: bool) -> None:
    path = folder / "array"
    path.write_bytes(packed(idx(array)) if zipped else idx(array))
    read = read_idx(path)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)
    assert read.flags.writeable


IMAGES = idx(np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5))


@given(
    data=st.data(),
    zipped=st.booleans(),
)
def test_a_changed_file_loads_or_is_named(folder: Path, data: st.DataObject, zipped: bool) -> None:
    content = bytearray(packed(IMAGES) if zipped else IMAGES)
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, max(len(content) - 1, 0)))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "delete"])):
            case "flip" if content:
                content[where] ^= data.draw(st.integers(1, 255))
            case "cut":
                del content[where:]
            case "insert":
                content[where:where] = data.draw(st.binary(min_size=1, max_size=4))
            case "delete":
                del content[where : where + 3]
    path = folder / "changed"
    path.write_bytes(content)
    try:
        array = read_idx(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else bytes(content)
        assert idx(array) == plain


@given(content=st.binary(max_size=64))
def test_any_bytes(folder: Path, content: bytes) -> None:
    path = folder / "any"
    path.write_bytes(content)
    try:
        assert idx(read_idx(path)) == content
    except DataError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "ends at byte 0, inside the header (0 of 4 bytes"),
        (IMAGES[:3], "ends at byte 3, inside the header (3 of 4 bytes"),
        (IMAGES[:9], "ends at byte 9, inside the sizes of the axes (5 of 12 bytes"),
        (IMAGES[:-1], "ends at byte 75, inside an array of shape (3, 4, 5) (59 of 60 bytes"),
        (IMAGES + b"\0", "more data after byte 76"),
        (b"\0\1" + IMAGES[2:], "not an idx file: it begins with 00 01 08 03"),
        (b"\0\0\7" + IMAGES[3:], "not an idx file"),
        (b"\0\0\x08\x80" + b"\0" * 512, "not an idx file"),
        (b"<!doctype html>", "not an idx file: it begins with 3c 21 64 6f"),
        (packed(IMAGES)[:-9], "unreadable after byte"),
        (packed(IMAGES)[:-8] + b"\0" * 8, "CRC check failed"),
        (packed(IMAGES) + b"rubbish", "unreadable after byte 76"),
        (packed(IMAGES)[:5], "unreadable after byte 0"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_idx(path)
    assert str(error.value).startswith(f"{path}: ")
    assert says in str(error.value)
    assert "Mend: " in str(error.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't be opened: No such file"):
        read_idx(tmp_path / "nothing")
    with pytest.raises(DataError, match="can't be opened"):
        read_idx(tmp_path)


def test_a_declared_size_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    huge = np.array([1 << 30], ">u4").tobytes()
    path.write_bytes(b"\0\0\x08\x01" + huge + b"few bytes")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="9 of 1073741824 bytes"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(1 << 31, 2), (2**32 - 1,) * 4, (0, *(2**32 - 1,) * 4)])
def test_more_than_the_limit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "huge"
    sizes = np.array(shape, ">u4").tobytes()
    path.write_bytes(bytes([0, 0, 8, len(shape)]) + sizes)
    with pytest.raises(DataError, match="the header declares shape"):
        read_idx(path)


def test_limit_is_in_bytes(tmp_path: Path) -> None:
    array = np.zeros((5, 7), np.int32)
    path = tmp_path / "array"
    path.write_bytes(idx(array))
    size = math.prod(array.shape) * 4
    assert read_idx(path, limit=size).shape == (5, 7)
    with pytest.raises(DataError, match=f"140 bytes, where {size - 1} are allowed"):
        read_idx(path, limit=size - 1)


def test_chinese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    path = tmp_path / "数据"
    path.write_bytes(b"\0\0")
    with pytest.raises(DataError, match="在第 2 字节处结束,文件头不完整"):
        read_idx(path)
