"""Element types, and what type two operands give (decision 14).

Types are NumPy's. Python numbers are weak: they take the type of the tensor beside them. Mixing
float32 and float64 *tensors* is an error that names the mend, since one of the two was a mistake.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import DTypeError, OptionError, closest

DType = np.dtype[Any]

float32: DType = np.dtype(np.float32)
float64: DType = np.dtype(np.float64)
int32: DType = np.dtype(np.int32)
int64: DType = np.dtype(np.int64)
uint8: DType = np.dtype(np.uint8)
uint32: DType = np.dtype(np.uint32)
bool_: DType = np.dtype(np.bool_)

DTYPES: dict[str, DType] = {
    "float32": float32,
    "float64": float64,
    "int32": int32,
    "int64": int64,
    "uint8": uint8,
    "uint32": uint32,
    "bool": bool_,
}
# ``dtype.name``, which NumPy makes anew each time.
NAMES = {dtype: name for name, dtype in DTYPES.items()}
_KNOWN = {dtype: dtype for dtype in DTYPES.values()}
_ALIASES = {"float": float32, "double": float64, "long": int64, "int": int32}
# Non-float types from narrow to wide; a float type is wider than all of them.
_INTEGERS = (bool_, uint8, uint32, int32, int64)

_default = float32


def default_dtype() -> DType:
    """The float type of new tensors and parameters: float32 unless changed."""
    return _default


def set_default_dtype(dtype: object) -> None:
    """Make ``float32`` or ``float64`` the type of new float tensors and parameters."""
    global _default
    chosen = as_dtype(dtype)
    if not is_float(chosen):
        raise OptionError(
            name="default dtype", expected="float32 or float64", got=chosen, mend="use cr.float32"
        )
    _default = chosen


def as_dtype(dtype: object) -> DType:
    """The library's element type for a name, a Python type or a NumPy type."""
    if isinstance(dtype, np.dtype) and dtype in _KNOWN:
        return _KNOWN[dtype]
    if dtype is float:
        return _default
    if dtype is int:
        return int64
    if isinstance(dtype, str):
        found = DTYPES.get(dtype) or _ALIASES.get(dtype)
        if found is None:
            near = closest(dtype, DTYPES)
            raise OptionError(
                name="dtype",
                expected=", ".join(DTYPES),
                got=repr(dtype),
                mend=f"did you mean {near}?" if near else "",
            )
        return found
    found = np.dtype(dtype)  # type: ignore[call-overload]
    if found.name not in DTYPES:
        raise DTypeError(
            op="dtype",
            expected=", ".join(DTYPES),
            got=found.name,
            mend="convert the data first, for example with array.astype('float32')",
        )
    return DTYPES[found.name]


def known_dtype(dtype: DType) -> DType | None:
    """The library's element type for NumPy's, in whatever order its bytes are; None if it has none.

    It asks for the name last, which NumPy works out anew each time.
    """
    return _KNOWN.get(dtype) or DTYPES.get(dtype.name)


def is_float(dtype: DType) -> bool:
    """Whether gradients exist for this type."""
    return dtype.kind == "f"


def promote(op: str, left: DType, right: DType) -> DType:
    """The common type of two tensors."""
    if left == right:
        return left
    if is_float(left) and is_float(right):
        raise DTypeError(
            op=op,
            expected="one float type",
            got=f"{left} and {right}",
            mend="x.double() or model.double() makes both float64; x.float() makes both float32",
        )
    if is_float(left) or is_float(right):
        return left if is_float(left) else right
    return _INTEGERS[max(_INTEGERS.index(left), _INTEGERS.index(right))]


def promote_scalar(dtype: DType, number: bool | int | float) -> DType:
    """The common type of a tensor and a weak Python number."""
    if dtype.kind == "f" or isinstance(number, bool):
        return dtype
    if isinstance(number, int):
        return int64 if dtype == bool_ else dtype
    return _default
