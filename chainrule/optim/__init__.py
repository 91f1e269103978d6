"""Optimizers as chains of small transforms, and learning-rate schedules."""

from __future__ import annotations

from chainrule.optim.optimizer import Group, Optimizer
from chainrule.optim.optimizers import SGD, Adam, AdamW
from chainrule.optim.schedules import constant, cosine, step_decay

__all__ = ["SGD", "Adam", "AdamW", "Group", "Optimizer", "constant", "cosine", "step_decay"]
