"""Training: the loop, its run folder, checkpoints that resume bit for bit, and measures."""

from __future__ import annotations

from chainrule.train import scores
from chainrule.train.callbacks import Callback, Progress
from chainrule.train.checkpoint import load_checkpoint, save_checkpoint
from chainrule.train.folder import RunFolder
from chainrule.train.metrics import Means, accuracy, measure
from chainrule.train.trainer import Trainer

__all__ = [
    "Callback",
    "Means",
    "Progress",
    "RunFolder",
    "Trainer",
    "accuracy",
    "load_checkpoint",
    "measure",
    "save_checkpoint",
    "scores",
]
