"""The idx format of the MNIST files: a header of sizes, then the numbers, row by row.

| bytes | content |
|---|---|
| 2 | zero |
| 1 | the element type: 8 is uint8, 9 int8, 11 int16, 12 int32, 13 float32, 14 float64 |
| 1 | the number of axes, d |
| 4 d | the size of each axis, big-endian |
| the rest | the elements, big-endian, last axis fastest |

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, Any

import numpy as np

from chainrule.errors import DataError

Path = str | os.PathLike[str]
Stream = IO[bytes] | gzip.GzipFile

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_MOST_AXES = 32  # as many as every NumPy can hold
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


def read_idx(path: Path, *, limit: int = 1 << 31) -> np.ndarray[Any, Any]:
    """The array in an idx file, plain or gzipped.

    The file is not trusted: the size it declares is checked before the data is read, and memory
    grows only with the bytes that are really there.

    Args:
        path: the file.
        limit: the largest array accepted, in bytes.

    Returns:
        The array, in the byte order of this machine.

    Raises:
        DataError: the file can't be read, is not idx, ends too early, or goes on after its end.
    """
    with opened(path) as stream:
        head = _exactly(path, stream, 4, "the header", "文件头")
        dtype = np.dtype(_TYPES.get(head[2], "V"))
        if head[:2] != b"\0\0" or head[2] not in _TYPES or head[3] > _MOST_AXES:
            raise damaged(
                path,
                f"not an idx file: it begins with {head.hex(' ')}, not with 00 00, an element type "
                "and the number of axes",
                f"不是 idx 文件:开头是 {head.hex(' ')},而不是 00 00、元素类型、维数",
            )
        sizes = _exactly(path, stream, 4 * head[3], "the sizes of the axes", "各维大小")
        shape = tuple(np.frombuffer(sizes, ">u4").tolist())
        # Sizes of 0 left out: an empty array of a vast shape is beyond NumPy too.
        if (vast := math.prod(n for n in shape if n) * dtype.itemsize) > limit:
            raise damaged(
                path,
                f"the header declares shape {shape}: {vast} bytes, where {limit} are allowed",
                f"文件头声明形状 {shape},共 {vast} 字节,上限是 {limit} 字节",
            )
        size = math.prod(shape) * dtype.itemsize
        data = _exactly(path, stream, size, f"an array of shape {shape}", f"形状 {shape} 的数组")
        if stream.read(1):
            raise damaged(
                path,
                f"there is more data after byte {4 + len(sizes) + size}, the end of the array "
                f"of shape {shape}",
                f"形状 {shape} 的数组在第 {4 + len(sizes) + size} 字节结束,但之后还有数据",
            )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


@contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """A file open for reading, unpacked if it is gzipped; what goes wrong inside is a DataError."""
    try:
        with open(path, "rb") as file:
            gzipped = file.read(2) == _GZIP
            file.seek(0)
            with gzip.open(file) if gzipped else nullcontext(file) as stream:
                try:
                    yield stream
                except (EOFError, OSError, zlib.error) as error:
                    at = stream.tell()
                    raise damaged(
                        path,
                        f"unreadable after byte {at}: {error}",
                        f"第 {at} 字节之后无法读取:{error}",
                    ) from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            path=path, problem=f"can't be opened: {reason}", problem_zh=f"无法打开:{reason}"
        ) from error


def damaged(path: Path, problem: str, problem_zh: str) -> DataError:
    """The error for a file whose content is wrong."""
    return DataError(
        path=path,
        problem=problem,
        problem_zh=problem_zh,
        mend="the file is damaged or another one; get it again",
        mend_zh="文件已损坏或不是所需的文件;请重新获取",
    )


def _exactly(path: Path, stream: Stream, count: int, what: str, what_zh: str) -> bytes:
    """The next ``count`` bytes. Read in pieces: a large ``count`` alone takes no memory."""
    data = bytearray()
    while len(data) < count and (piece := stream.read(min(_CHUNK, count - len(data)))):
        data += piece
    if len(data) < count:
        raise damaged(
            path,
            f"ends at byte {stream.tell()}, inside {what} ({len(data)} of {count} bytes are there)",
            f"在第 {stream.tell()} 字节处结束,{what_zh}不完整({count} 字节中只有 {len(data)} 字节)",
        )
    return bytes(data)
