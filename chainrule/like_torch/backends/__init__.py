"""``torch.backends``: switches that are accepted and change nothing."""

from __future__ import annotations

from chainrule.like_torch.backends import cudnn, mps
from chainrule.like_torch.missing import refuse

__all__ = ["cudnn", "mps"]

__getattr__ = refuse(__name__)
