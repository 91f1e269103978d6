"""What ``torch.save`` wrote, read without PyTorch and without running anything.

Both formats hold a pickle in which a tensor is a storage, an offset, a shape and strides; the
storages are kept outside the pickle. Since PyTorch 1.6 the file is a zip archive (``data.pkl``, and
a member for each storage); before, it was five pickles in a row, then the storages' bytes.

Source: ``torch/serialization.py`` and ``torch/_utils.py`` of PyTorch.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.graph import Array
from chainrule.formats.elements import ByteOrder, decode, item_size, memory_type
from chainrule.formats.files import Malformed
from chainrule.formats.pickles import MEND, Maker, Names, plain_key, unpickle

ZIP_MARK = b"PK\x03\x04"
MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
LEGACY_MARK = b"\x8a\x0a" + MAGIC.to_bytes(10, "little")  # among the first bytes


# ------------------------------------------------------------------------------ storages


@dataclass(frozen=True)
class Storage:
    """Numbers in a row, which tensors are views of; tied weights are views of the same."""

    array: Array


@dataclass(frozen=True)
class _StorageType:
    name: str


class _Storages:
    """The storages of a file by key, each made once."""

    def __init__(self, file_size: int, fill: Callable[[str, str, int], Array]) -> None:
        """``fill`` gives the array of a storage from its key, element type and length."""
        self.file_size = file_size
        self.fill = fill
        self.made: dict[str, tuple[str, int, Storage]] = {}
        self.bytes = 0

    def __call__(self, identity: Any) -> Storage:
        """The storage for ``("storage", type, key, device, length)``."""
        word, kind, key, _, length, *view = identity
        known = isinstance(kind, _StorageType) and isinstance(key, str)
        if word != "storage" or not known or type(length) is not int or any(view):
            raise Malformed(
                "it holds a module with its code, or views of storages",
                "它保存了带代码的模块或存储的视图",
                *MEND,
            )
        if key not in self.made:
            self.bytes += length * item_size(kind.name)
            if length < 0 or self.bytes > self.file_size:
                raise ValueError(f"storage {key[:40]} claims {length} entries, more than are there")
            self.made[key] = (kind.name, length, Storage(self.fill(key, kind.name, length)))
        *facts, storage = self.made[key]
        if facts != [kind.name, length]:
            raise ValueError(f"storage {key[:40]} has two types or lengths")
        return storage

    # -------------------------------------------------------------------------- tensors

    def tensor(
        self,
        storage: Storage,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        *_: Any,
    ) -> Array:
        """The view of a storage that a tensor is."""
        if not isinstance(storage, Storage):
            raise TypeError("a tensor without a storage")
        return self._view(storage.array, offset, size, stride)

    def tensor_of_bytes(
        self,
        storage: Storage,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        requires_grad: bool,
        hooks: Any,
        dtype: Any,
        *_: Any,
    ) -> Array:
        """A tensor of a type that has no storage type of its own: uint16, uint32, uint64."""
        if not isinstance(storage, Storage) or not isinstance(dtype, str):
            raise TypeError("a tensor without a storage or a type")
        name = dtype.removeprefix("torch.")
        if memory_type(name).itemsize != item_size(name):
            raise TypeError(f"{name} in a storage of bytes")
        return self._view(storage.array.view(memory_type(name)), offset, size, stride)

    def _view(self, array: Array, offset: int, size: Any, stride: Any) -> Array:
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError("a tensor whose shape and strides do not fit")
        count = math.prod(size)
        if count == 0:
            return np.empty(size, array.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        # A stride of 0 repeats entries: only so far that copying the tensor stays harmless.
        if last >= array.size or count * array.itemsize > max(self.file_size, array.nbytes):
            raise ValueError(f"a tensor of shape {size} reaches beyond its storage")
        steps = tuple(
            step * array.itemsize if n > 1 else 0 for n, step in zip(size, stride, strict=True)
        )
        return np.lib.stride_tricks.as_strided(array[offset:], size, steps)

    def names(self) -> Names:
        """What stands for the functions and classes that a checkpoint may name."""
        tensor, parameter = Maker(self.tensor), Maker(lambda data, *_: data)
        return {
            **_PLAIN,
            "torch._utils._rebuild_tensor": tensor,
            "torch._utils._rebuild_tensor_v2": tensor,
            "torch._utils._rebuild_tensor_v3": Maker(self.tensor_of_bytes),
            "torch._utils._rebuild_parameter": parameter,
            "torch._utils._rebuild_parameter_with_state": parameter,
            "torch._tensor._rebuild_from_type_v2": Maker(_of_type),
        }


def _of_type(maker: Maker, kind: Any, arguments: tuple[Any, ...], state: Any) -> Any:
    """A tensor or parameter with attributes, which are left out."""
    if not isinstance(maker, Maker):
        raise TypeError(f"it calls a {type(maker).__name__}")
    return maker.make(*arguments)


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    """As Python 2 wrote it, from pairs, which are taken out of their list: no content twice."""
    made = {plain_key(key): value for key, value in pairs}
    if pairs:
        pairs.clear()
    return made


def _refuse(*_: Any) -> Any:
    raise TypeError("it makes a tensor type")


_STORAGE_TYPES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8",
    "Bool": "bool",
}  # fmt: skip
_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")
_PLAIN: Names = {
    "collections.OrderedDict": Maker(_ordered_dict),
    "collections.Counter": Maker(lambda counts: counts),
    "torch.Size": Maker(lambda lengths: lengths),
    "torch.device": Maker(lambda *parts: ":".join(map(str, parts))),
    "torch.Tensor": Maker(_refuse),
    "torch.nn.parameter.Parameter": Maker(_refuse),
    "torch.storage.UntypedStorage": _StorageType("uint8"),
    **{f"torch.{word}Storage": _StorageType(name) for word, name in _STORAGE_TYPES.items()},
    **{f"torch.{name}": f"torch.{name}" for name in (*_DTYPES, "uint16", "uint32", "uint64")},
    "torch.bool": "torch.bool",
}


# ------------------------------------------------------------------------------ files


def read_zip(path: Path) -> Any:
    """The content of a file written by PyTorch 1.6 or later.

    Raises:
        Malformed, ValueError, KeyError, TypeError ... zipfile.BadZipFile: it is damaged.
    """
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise Malformed(
                "a zip archive, but not one of PyTorch: it has no data.pkl",
                "是 zip 压缩包,但不是 PyTorch 的:没有 data.pkl",
            )
        folder = pickles[0].removesuffix("data.pkl")

        def member(name: str) -> bytes:
            info = members[f"{folder}{name}"]
            stored = info.compress_type == zipfile.ZIP_STORED
            if not stored or not info.compress_size == info.file_size <= size:
                raise ValueError(f"{info.filename[:80]} is compressed, or longer than the file")
            return archive.read(info)

        order: ByteOrder
        order = ">" if f"{folder}byteorder" in members and member("byteorder") == b"big" else "<"

        def fill(key: str, name: str, length: int) -> Array:
            data = member(f"data/{key}")
            if len(data) != length * item_size(name):
                raise ValueError(f"storage {key} has {len(data)} bytes, not {length} entries")
            return decode(data, name, order)

        storages = _Storages(size, fill)
        return unpickle(io.BytesIO(member("data.pkl")), storages.names(), storages)


def read_legacy(path: Path) -> Any:
    """The content of a file written by PyTorch before 1.6.

    Raises:
        Malformed, ValueError, KeyError, TypeError ... EOFError: it is damaged.
    """
    size = os.path.getsize(path)
    with (
        open(path, "rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as file,
    ):
        if unpickle(file, {}) != MAGIC or unpickle(file, {}) != _PROTOCOL:
            raise Malformed(
                "a pickle, but not one of PyTorch", "是 pickle,但不是 PyTorch 的", *MEND
            )
        order: ByteOrder
        order = "<" if unpickle(file, {})["little_endian"] else ">"
        # The tensors come first, their numbers after: views are made of storages still empty.
        storages = _Storages(size, lambda key, name, length: np.zeros(length, memory_type(name)))
        content = unpickle(file, storages.names(), storages)
        keys = unpickle(file, {})
        if sorted(keys) != sorted(storages.made):
            raise ValueError("the storages are not those of the tensors")
        for key in keys:
            name, length, storage = storages.made[key]
            if int.from_bytes(file.read(8), "little" if order == "<" else "big") != length:
                raise ValueError(f"storage {key} does not have its {length} entries")
            data = file.read(length * item_size(name))
            if len(data) != length * item_size(name):
                raise EOFError(f"storage {key} is cut off")
            storage.array[:] = decode(data, name, order)
        return content
