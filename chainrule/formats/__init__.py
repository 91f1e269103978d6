"""Files of weights: safetensors, and the checkpoints of PyTorch, both old and new.

The format is told by the content, not by the ending of the name. PyTorch is not needed, and no
code in a file is ever run.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.graph import Array
from chainrule.formats.files import Malformed, refusal
from chainrule.formats.safetensors import read_safetensors, write_safetensors
from chainrule.formats.torch_checkpoint import LEGACY_MARK, ZIP_MARK, read_legacy, read_zip

__all__ = ["load", "read", "save"]


def load(path: str | os.PathLike[str], key: str = "") -> dict[str, Array]:
    """The arrays of a state dict by name: ``model.load_state_dict(load(path))``.

    float16 and bfloat16 become float32; all other types stay.

    Args:
        path: a safetensors file, or what ``torch.save`` wrote, in either of its formats.
        key: where the state dict stands in a checkpoint that holds more (dots lead deeper).

    Raises:
        CheckpointError: no such file; it is damaged, of no known format, or holds something else.

    Example:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(pathlib.Path(folder) / "w.safetensors", {"weight": np.eye(2)})
        ...     load(pathlib.Path(folder) / "w.safetensors")["weight"].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    content = read(path)
    for part in key.split(".") if key else ():
        inside = content.items() if isinstance(content, Mapping) else ()
        places = {str(name): value for name, value in inside}
        if part not in places:
            raise refusal(Path(path), _holds_else(content, f"there is no {key!r} in it"))
        content = places[part]
    if not isinstance(content, Mapping):
        raise refusal(Path(path), _holds_else(content, "it is no state dict"))
    arrays = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray | int | float):
            raise refusal(Path(path), _holds_else(content, "it is no state dict of tensors"))
        arrays[name] = np.asarray(value)
    return arrays


def read(path: str | os.PathLike[str]) -> Any:
    """All that a file holds: dicts, lists, numbers and text, with arrays for tensors.

    Raises:
        CheckpointError: no such file; it is damaged, or of no known format.
    """
    from safetensors import SafetensorError

    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(32)
        if head.startswith(ZIP_MARK):
            return read_zip(path)
        if LEGACY_MARK in head:
            return read_legacy(path)
        if head[8:9] == b"{":
            return read_safetensors(path)[0]
        raise Malformed(
            "neither a safetensors file nor a checkpoint of PyTorch",
            "既不是 safetensors 文件,也不是 PyTorch 的检查点",
            "PyTorch: torch.save(model.state_dict(), path); "
            "others: safetensors.numpy.save_file(arrays, path)",
            "PyTorch 用 torch.save(model.state_dict(), path);"
            "其他用 safetensors.numpy.save_file(arrays, path)",
        )
    except _DAMAGE as error:
        raise refusal(path, error) from error
    except SafetensorError as error:
        raise refusal(path, error) from error


# What a reader meets when bytes are not what they should be.
_DAMAGE = (
    OSError, EOFError, ValueError, TypeError, LookupError, OverflowError, RecursionError,
    NotImplementedError, RuntimeError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def save(
    path: str | os.PathLike[str],
    state: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a state dict as a safetensors file, whole or not at all.

    Args:
        path: the file, conventionally ``*.safetensors``.
        state: tensors or arrays by name, as ``model.state_dict()`` gives them.
        metadata: texts that are kept beside them.
    """
    write_safetensors(Path(path), state, metadata)


def _holds_else(content: Any, problem: str) -> Malformed:
    """Says what there is instead, without printing values."""
    found = type(content).__name__
    if isinstance(content, Mapping):
        names = [f"{key} ({type(value).__name__})" for key, value in list(content.items())[:8]]
        found = f"a dict with {', '.join(names)}" if names else "an empty dict"
    return Malformed(
        f"{problem}; it holds {found}",
        f"其中没有所需的 state dict;它包含 {found}",
        "name the part that is one: load(path, key=...); or see all with read(path)",
        "请指明其中的部分:load(path, key=...);或用 read(path) 查看全部",
    )
