"""``torch.nn``: the library's layers and losses."""

from __future__ import annotations

from chainrule import nn as library
from chainrule.like_torch.missing import refuse
from chainrule.nn import *  # noqa: F403

# isort: split
# After the star, so that they are the ones that refuse what is missing.
from chainrule.like_torch.nn import functional, init, utils  # type: ignore[no-redef]

__all__ = ["functional", "init", "utils"]
__all__ += library.__all__

__getattr__ = refuse(__name__)
