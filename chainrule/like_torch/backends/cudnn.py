"""``torch.backends.cudnn``: results here are reproducible always."""

from __future__ import annotations

deterministic = True
benchmark = False
enabled = False


def is_available() -> bool:
    """False: tensors are on the CPU."""
    return False
