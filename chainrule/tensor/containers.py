"""The containers around the values that go into a compiled step, and around those it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from chainrule.errors import OptionError
from chainrule.tensor.tensor import Tensor
from chainrule.tensor.variable import VariableTensor


class Mark:
    """Stands for a dynamic value inside a structure."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


TENSOR, NUMBER = Mark("tensor"), Mark("number")
_DATA = (np.ndarray, np.generic, float)


def is_dynamic(value: Any) -> bool:
    """Whether it is a value that may differ from call to call, not part of the structure."""
    if isinstance(value, Tensor):
        return not isinstance(value, VariableTensor)  # a variable is itself, not its value
    return isinstance(value, _DATA)


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same containers with every dynamic value changed."""
    if is_dynamic(value):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return _rebuilt(type(value), [mapped(item, change) for item in value])
    return value


def _rebuilt(kind: type, items: list[Any]) -> Any:
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def flattened(value: Any, leaves: list[Any]) -> Any:
    """The dynamic values, in order; returned: a hashable structure with marks in their places."""
    kind = type(value)
    if kind is tuple or kind is list:
        return (kind, tuple([flattened(item, leaves) for item in value]))
    if is_dynamic(value):
        leaves.append(value)
        return NUMBER if isinstance(value, float) else TENSOR
    if isinstance(value, dict):
        return (dict, tuple([(key, flattened(item, leaves)) for key, item in value.items()]))
    if isinstance(value, list | tuple):
        return (kind, tuple([flattened(item, leaves) for item in value]))
    if isinstance(value, VariableTensor):
        return (VariableTensor, value.variable)
    try:
        hash(value)
    except TypeError:
        raise OptionError(
            name="an argument of a compiled function",
            expected="a tensor, array, number, string, or a list, tuple or dict of them",
            got=kind.__name__,
            mend="pass its parts, or read it from inside the function",
        ) from None
    return (kind, value)


def collected(value: Any, tensors: list[Tensor]) -> Any:
    """The tensors of what is returned, in order; returned: its structure with marks."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return TENSOR
    if isinstance(value, dict):
        return {key: collected(item, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return _rebuilt(type(value), [collected(item, tensors) for item in value])
    return value


def filled(structure: Any, values: Iterator[Tensor]) -> Any:
    """The containers of a structure with tensors in the places of the marks."""
    if structure is TENSOR:
        return next(values)
    if isinstance(structure, dict):
        return {key: filled(item, values) for key, item in structure.items()}
    if isinstance(structure, list | tuple):
        return _rebuilt(type(structure), [filled(item, values) for item in structure])
    return structure
