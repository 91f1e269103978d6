"""Data: where samples come from, and batches in a repeatable order; all NumPy arrays."""

from __future__ import annotations

from chainrule.data.batches import Batches
from chainrule.data.cache import cache_folder
from chainrule.data.idx import read_idx
from chainrule.data.images import channels_first, imagenet_classes, photo
from chainrule.data.sources import ImageSet, Split, digits, mnist, read_images

__all__ = [
    "Batches",
    "ImageSet",
    "Split",
    "cache_folder",
    "channels_first",
    "digits",
    "imagenet_classes",
    "mnist",
    "photo",
    "read_idx",
    "read_images",
]
