"""safetensors files: a header in JSON, then the bytes of the tensors.

Source: https://github.com/huggingface/safetensors, whose library checks and writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.graph import Array
from chainrule.formats.elements import decode
from chainrule.formats.files import write_safely

_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def read_safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays by name, and the metadata.

    Raises:
        SafetensorError: the file is damaged.
        Malformed: an element type that is not supported.
    """
    from safetensors import deserialize

    content = path.read_bytes()
    arrays = {
        name: decode(facts["data"], _NAMES.get(facts["dtype"], facts["dtype"])).reshape(
            facts["shape"]
        )
        for name, facts in deserialize(content)  # type: ignore[no-untyped-call]
    }
    length = int.from_bytes(content[:8], "little")
    return arrays, json.loads(content[8 : 8 + length]).get("__metadata__") or {}


def write_safetensors(
    path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays by name, and metadata, whole or not at all."""
    from safetensors.numpy import save

    plain = {name: _plain(np.asarray(value)) for name, value in arrays.items()}
    write_safely(path, save(plain, metadata=dict(metadata) if metadata else None))


def _plain(array: Array) -> Array:
    """The same numbers, one after the other, in the byte order of the machine."""
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")
