"""``torch.optim``: the library's optimizers."""

from __future__ import annotations

from chainrule.like_torch.missing import refuse
from chainrule.like_torch.optim import lr_scheduler, swa_utils
from chainrule.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
)

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "lr_scheduler",
    "swa_utils",
]

__getattr__ = refuse(__name__)
