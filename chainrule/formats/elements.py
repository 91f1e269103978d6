"""Element types as files of weights store them, and what they become here."""

from __future__ import annotations

from typing import Literal

import numpy as np

from chainrule.core.graph import Array
from chainrule.formats.files import Malformed

# Names as in PyTorch; how NumPy reads the bytes. bfloat16 is the upper half of a float32.
_STORED = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "u2",
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1",
    "uint64": "u8", "uint32": "u4", "uint16": "u2", "uint8": "u1", "bool": "u1",
}  # fmt: skip
ByteOrder = Literal["<", ">"]
_BECOMES = {"float16": "float32", "bfloat16": "float32"}


def item_size(name: str) -> int:
    """Bytes of one entry in the file."""
    return np.dtype(_stored(name)).itemsize


def memory_type(name: str) -> np.dtype[np.generic]:
    """The type in memory: the stored one; the half-precision types become float32, exactly."""
    _stored(name)
    return np.dtype(_BECOMES.get(name, name))


def decode(data: bytes | bytearray, name: str, byte_order: ByteOrder = "<") -> Array:
    """The entries in some bytes, as an array of one axis that may be written to.

    >>> decode(bytes([0, 0x80, 0xC0, 0x3F]), "bfloat16")[1].item()
    1.5
    """
    stored: Array = np.frombuffer(data, np.dtype(_stored(name)).newbyteorder(byte_order))
    if name == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    if name == "bool":  # NumPy takes bytes other than 0 and 1 amiss
        return np.not_equal(stored, 0)
    return stored.astype(memory_type(name))


def _stored(name: str) -> str:
    if name not in _STORED:
        raise Malformed(
            f"its element type {name} is not supported",
            f"不支持其元素类型 {name}",
            "convert it to float32 in the program that wrote it",
            "请在写出该文件的程序中转换为 float32",
        )
    return _STORED[name]
