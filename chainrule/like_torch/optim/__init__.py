"""``torch.optim``: the library's optimizers."""

from __future__ import annotations

from chainrule.like_torch.missing import refuse
from chainrule.like_torch.optim import lr_scheduler
from chainrule.optim import SGD, Adam, AdamW, Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]

__getattr__ = refuse(__name__)
