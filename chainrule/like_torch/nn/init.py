"""``torch.nn.init``."""

from __future__ import annotations

from chainrule.like_torch.missing import refuse
from chainrule.nn.init import *  # noqa: F403

__path__: list[str] = []

__getattr__ = refuse(__name__)
