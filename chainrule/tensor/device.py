"""Devices: names that programs give, of which only the CPU is here."""

from __future__ import annotations

from typing import Any

from chainrule.errors import DeviceError, OptionError

_KINDS = ("cpu", "cuda", "mps")


class Device:
    """A name for a device, such as ``"cpu"`` or ``"cuda:0"``; only the CPU can be used.

    Example:
        >>> import chainrule.like_torch as torch
        >>> torch.device("cuda" if torch.cuda.is_available() else "cpu")
        device(type='cpu')
    """

    def __init__(self, name: Any = "cpu", index: int | None = None) -> None:
        kind, _, number = str(name).partition(":")
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


CPU = Device("cpu")


def is_device(value: object) -> bool:
    """Whether a value names a device, here or not."""
    return isinstance(value, Device) or (
        isinstance(value, str) and value.partition(":")[0] in _KINDS
    )


def require_cpu(device: object) -> None:
    """Raise unless the device is the CPU; None is."""
    if device is not None and str(device).partition(":")[0] != "cpu":
        raise DeviceError(got=device, mend='cr.set_executor("torch")')
