"""For ``torchvision``: MNIST, and the transforms that prepare it."""

from __future__ import annotations

from chainrule.like_torch.missing import refuse
from chainrule.like_torch.vision import datasets, transforms

__all__ = ["datasets", "transforms"]

__getattr__ = refuse(__name__)
