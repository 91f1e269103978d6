"""``torch.save`` and ``torch.load``: safetensors files, without pickle.

Held are nested dicts and lists of tensors, NumPy arrays, numbers, text, truth values and None: a
``state_dict()``, or a checkpoint that joins several. A tuple comes back as a list.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import formats
from chainrule.errors import CheckpointError
from chainrule.nn import Module
from chainrule.optim import Optimizer
from chainrule.tensor.device import Device, require_cpu
from chainrule.tensor.tensor import Tensor, tensor
from chainrule.train.checkpoint import load_checkpoint, save_checkpoint

_WHOLE = "value"


def save(obj: Any, f: str | os.PathLike[str]) -> None:
    """Write to a file, whole or not at all.

    Args:
        obj: nested dicts and lists of tensors, arrays, numbers, text, booleans and None.
        f: the path.

    Raises:
        CheckpointError: something that such a file can't hold; names its place.
    """
    path = _path(f)
    _check(obj, "", path)
    save_checkpoint(path, {_WHOLE: obj})


def load(f: str | os.PathLike[str], map_location: Any = None, *, weights_only: bool = True) -> Any:
    """What :func:`save` wrote, or PyTorch; arrays come back as tensors.

    Args:
        f: the path.
        map_location: accepted; everything is on the CPU.
        weights_only: accepted; code is never loaded.

    Raises:
        CheckpointError: no such file, a damaged one, or one with more in it than plain data.
    """
    if isinstance(map_location, str | Device):
        require_cpu(map_location)
    path = _path(f)
    if _begins(path, b"PK\x03\x04") or _begins(path, b"\x80"):
        return _tensors(formats.read(path))  # PyTorch wrote it
    state = load_checkpoint(path)
    return _tensors(state[_WHOLE] if state.keys() == {_WHOLE} else state)


def _path(f: Any) -> Path:
    if isinstance(f, str | os.PathLike):
        return Path(f)
    raise CheckpointError(
        path=type(f).__name__,
        problem="a path is needed",
        problem_zh="需要文件路径",
        mend='torch.save(model.state_dict(), "model.pt")',
    )


def _begins(path: Path, mark: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(mark)) == mark
    except OSError:
        return False  # load_checkpoint says what is wrong with it


def _check(value: Any, place: str, path: Path) -> None:
    """Raise for what the file can't hold."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise _refused(key, f"the key {key!r} at {place or 'the top'}", path)
            _check(item, f"{place}[{key!r}]", path)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{place}[{index}]", path)
    elif not isinstance(
        value, Tensor | np.ndarray | np.generic | str | int | float | bool | None
    ) or (isinstance(value, np.ndarray) and value.dtype.kind not in "fiub"):
        raise _refused(value, place or "the top", path)


def _refused(value: Any, place: str, path: Path) -> CheckpointError:
    stateful = isinstance(value, Module | Optimizer) or hasattr(value, "state_dict")
    return CheckpointError(
        path=path,
        problem=f"can't hold a {type(value).__name__} ({place})",
        problem_zh=f"不能保存 {type(value).__name__}({place})",
        mend="save its .state_dict(), and load that into an object made anew"
        if stateful
        else "save numbers, text, tensors, and lists and dicts of them",
        mend_zh="保存它的 .state_dict(),再载入新建的对象"
        if stateful
        else "请保存数值、文本、张量,以及由它们组成的列表和字典",
    )


def _tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return tensor(value)
    if isinstance(value, dict):
        return {key: _tensors(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_tensors(item) for item in value]
    return value
