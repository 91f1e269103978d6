"""``torch.accelerator``: there is none here."""

from __future__ import annotations

from chainrule.like_torch.missing import refuse

__path__: list[str] = []


def is_available() -> bool:
    """False: tensors are on the CPU."""
    return False


def current_accelerator() -> None:
    """None."""


__getattr__ = refuse(__name__)
