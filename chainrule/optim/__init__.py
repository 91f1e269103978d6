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
from chainrule.optim.averaging import ExponentialMovingAverage
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.optim.optimizers import SGD, Adam, AdamW
from chainrule.optim.plateau import ReduceOnPlateau
from chainrule.optim.schedules import (
    constant,
    cosine,
    exponential,
    linear,
    multi_step,
    one_cycle,
    polynomial,
    sequential,
    step_decay,
    warm_restarts,
    warm_up,
)

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "ExponentialMovingAverage",
    "Group",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "ReduceOnPlateau",
    "accumulate",
    "constant",
    "cosine",
    "exponential",
    "linear",
    "multi_step",
    "one_cycle",
    "polynomial",
    "sequential",
    "step_decay",
    "warm_restarts",
    "warm_up",
]
