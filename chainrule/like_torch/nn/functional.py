"""``torch.nn.functional``."""

from __future__ import annotations

from chainrule.like_torch.missing import refuse
from chainrule.nn.functional import *  # noqa: F403

__path__: list[str] = []

__getattr__ = refuse(__name__)
