"""``torch.nn``: the library's layers and losses."""

from __future__ import annotations

from chainrule import nn as library
from chainrule.like_torch.missing import refuse
from chainrule.nn import *  # noqa: F403

# isort: split
# After the star, so that they are the ones that refuse what is missing.
import chainrule.like_torch.nn.functional as functional  # type: ignore[no-redef]
import chainrule.like_torch.nn.init as init  # type: ignore[no-redef]
import chainrule.like_torch.nn.utils as utils  # type: ignore[no-redef]

__all__ = ["functional", "init", "utils"]
__all__ += library.__all__

__getattr__ = refuse(__name__)
