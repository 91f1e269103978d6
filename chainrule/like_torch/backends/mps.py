"""``torch.backends.mps``: not here."""

from __future__ import annotations


def is_available() -> bool:
    """False: tensors are on the CPU."""
    return False


def is_built() -> bool:
    """False."""
    return False
