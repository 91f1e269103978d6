"""Optimizers as chains of small transforms, and learning-rate schedules."""

from __future__ import annotations

from chainrule.optim.adaptive import (
    Adadelta,
    Adagrad,
    Adamax,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
    accumulate,
)
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.optim.optimizers import SGD, Adam, AdamW
from chainrule.optim.schedules import constant, cosine, step_decay

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Group",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "accumulate",
    "constant",
    "cosine",
    "step_decay",
]
