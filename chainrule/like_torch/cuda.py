"""``torch.cuda``: there is none here; programs that ask go on with the CPU."""

from __future__ import annotations

from chainrule.like_torch.missing import refuse

__path__: list[str] = []  # a package, so that a wrong import is answered in our words


def is_available() -> bool:
    """False: tensors are on the CPU."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Accepted; ``torch.manual_seed`` covers everything."""


def manual_seed_all(seed: int) -> None:
    """Accepted; ``torch.manual_seed`` covers everything."""


def empty_cache() -> None:
    """Accepted; there is no cache."""


def synchronize() -> None:
    """Accepted; there is nothing to wait for."""


__getattr__ = refuse(__name__)
