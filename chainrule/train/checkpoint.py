"""One file that holds the whole state of a run, written so that a power cut can't harm it.

The state is nested dicts and lists of numbers, strings and arrays, as ``state_dict()`` gives them.
Arrays go into the safetensors file as tensors; all else stands, with their names in their places,
as JSON in its metadata. No pickle: loading a checkpoint runs no code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.errors import CheckpointError
from chainrule.formats.safetensors import read_safetensors, write_safetensors
from chainrule.tensor.tensor import Tensor

_METADATA = "chainrule"
_TENSOR = "$tensor"
_ITEMS = "$items"


def save_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a state under a temporary name, wait until it is on the disk, then give it its name.

    Whatever stood under the name before stays whole until the new file is.

    Args:
        path: the file, conventionally ``*.safetensors``.
        state: nested dicts and lists of tensors, arrays, numbers, strings, booleans and None.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    described = _describe(state, "", arrays)
    write_safetensors(Path(path), arrays, {_METADATA: json.dumps(described)})


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state in a file written by :func:`save_checkpoint`; tensors come back as arrays.

    Raises:
        CheckpointError: no such file, or it is damaged, or was written by something else.
    """
    from safetensors import SafetensorError

    path = Path(path)
    try:
        arrays, metadata = read_safetensors(path)
        state = _restore(json.loads(metadata[_METADATA]), arrays)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(state, dict):
        raise _damaged(path, TypeError(f"its state is a {type(state).__name__}, not a dict"))
    return state


def _describe(value: Any, name: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """What JSON can hold of a value; its arrays are put into ``arrays``, under their path."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        while name in arrays:  # {"a/b": x, "a": {"b": y}}
            name += "_"
        arrays[name] = np.asarray(value)
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        items = [(key, _describe(item, f"{name}/{key}", arrays)) for key, item in value.items()]
        plain = all(isinstance(key, str) and not key.startswith("$") for key in value)
        return dict(items) if plain else {_ITEMS: items}
    if isinstance(value, list | tuple):
        return [_describe(item, f"{name}/{index}", arrays) for index, item in enumerate(value)]
    return value


def _restore(value: Any, arrays: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_restore(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return arrays[value[_TENSOR]]
    if _ITEMS in value:
        return {key: _restore(item, arrays) for key, item in value[_ITEMS]}
    return {key: _restore(item, arrays) for key, item in value.items()}


def _damaged(path: Path, error: Exception) -> CheckpointError:
    missing = isinstance(error, FileNotFoundError)
    return CheckpointError(
        path=path,
        problem="there is no such checkpoint" if missing else f"not a whole checkpoint ({error})",
        problem_zh="没有这个检查点" if missing else f"检查点不完整({error})",
        mend="resume from an older file in the same folder",
        mend_zh="请用同一文件夹中较早的文件继续",
    )
