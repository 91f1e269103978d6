"""``torch.nn.utils.rnn``: sequences of different lengths."""

from __future__ import annotations

from chainrule.like_torch.missing import refuse
from chainrule.nn.packing import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)

__all__ = [
    "PackedSequence",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
]

__getattr__ = refuse(__name__)
