"""``torch.utils``."""

from __future__ import annotations

from chainrule.like_torch.missing import refuse
from chainrule.like_torch.utils import data

__all__ = ["data"]

__getattr__ = refuse(__name__)
