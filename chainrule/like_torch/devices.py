"""Devices: accepted, and always the CPU."""

from __future__ import annotations

from typing import Any

from chainrule.errors import OptionError
from chainrule.tensor.tensor import require_cpu

_KINDS = ("cpu", "cuda", "mps")


class device:
    """A name for a device, such as ``"cpu"`` or ``"cuda:0"``; only the CPU can be used.

    Example:
        >>> import chainrule.like_torch as torch
        >>> torch.device("cuda" if torch.cuda.is_available() else "cpu")
        device(type='cpu')
    """

    def __init__(self, name: Any = "cpu", index: int | None = None) -> None:
        kind, _, number = str(getattr(name, "type", name)).partition(":")
        if kind not in _KINDS or not (number.isdigit() or not number):
            raise OptionError(name="device", expected=", ".join(_KINDS), got=repr(name))
        self.type = kind
        self.index = int(number) if number else index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        number = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{number})"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def check_device(name: Any) -> None:
    """Accept the CPU and None; raise DeviceError for the rest."""
    if name is not None:
        require_cpu(getattr(name, "type", name))
