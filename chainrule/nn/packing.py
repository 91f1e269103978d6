"""Sequences of different lengths in one batch, under the names of ``torch.nn.utils.rnn``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.errors import OptionError
from chainrule.tensor.functions import arange, cat, full, stack, where
from chainrule.tensor.tensor import Tensor, tensor

__all__ = [
    "PackedSequence",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
]


class PackedSequence:
    """Padded sequences with their lengths: what recurrent layers take and give.

    Nothing is reordered: the padding stays, and the layers step over it. So
    ``layer(packed)`` is the same as ``layer(padded, lengths=lengths)``.

    Attributes:
        padded: (time, batch, ...).
        lengths: (batch,), int64.
    """

    def __init__(self, padded: Tensor, lengths: Tensor) -> None:
        self.padded = padded
        self.lengths = lengths

    @property
    def is_cuda(self) -> bool:
        return False

    def to(self, *_: object, **__: object) -> PackedSequence:
        """The sequences themselves; a device is accepted."""
        return self


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """A padded batch with its lengths; ``enforce_sorted`` is accepted: any order will do.

    Args:
        input: (time, batch, ...), or (batch, time, ...) with ``batch_first``.
        lengths: how many steps of each sequence count, 1 to time.

    Raises:
        OptionError: lengths that do not fit.

    Example:
        >>> import chainrule as cr
        >>> packed = pack_padded_sequence(cr.ones(3, 2, 4), [3, 1])
        >>> pad_packed_sequence(packed)[0][:, 1, 0].tolist()
        [1.0, 0.0, 0.0]
    """
    padded = input.transpose(0, 1) if batch_first else input
    return PackedSequence(padded, checked_lengths(lengths, *padded.shape[:2]))


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The padded batch, ``padding_value`` beyond each length, and the lengths.

    It is as long as its longest sequence, or as ``total_length``; inside a compiled step, where
    lengths are no numbers yet, as long as it was when it was packed.
    """
    padded, lengths = sequence.padded, sequence.lengths
    longest = padded.shape[0] if lengths.node.value is None else int(lengths.numpy().max())
    padded = padded[:longest]
    alive = mask(lengths, longest).reshape(*padded.shape[:2], *(1,) * (padded.ndim - 2))
    padded = where(alive, padded, padding_value)
    if total_length is not None:
        if total_length < longest:
            raise OptionError(name="total_length", expected=f"at least {longest}", got=total_length)
        rest = (total_length - longest, *padded.shape[1:])
        padded = cat([padded, full(rest, padding_value, dtype=padded.dtype)])
    return (padded.transpose(0, 1) if batch_first else padded), lengths


def pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0
) -> Tensor:
    """Tensors (length, ...) of different lengths as one: (time, batch, ...).

    Example:
        >>> import chainrule as cr
        >>> pad_sequence([cr.tensor([1, 2]), cr.tensor([3])], batch_first=True).tolist()
        [[1, 2], [3, 0]]
    """
    longest = max(x.shape[0] for x in sequences)
    rows = []
    for x in sequences:
        fill = full((longest - x.shape[0], *x.shape[1:]), padding_value, dtype=x.dtype)
        rows.append(cat([x, fill]))
    return stack(rows, 0 if batch_first else 1)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors (length, ...) of different lengths, padded and with their lengths."""
    lengths = tensor([x.shape[0] for x in sequences])
    return PackedSequence(pad_sequence(sequences), lengths)


def mask(lengths: Tensor, steps: int) -> Tensor:
    """(time, batch): whether a step is within its sequence."""
    inside: Tensor = arange(steps).unsqueeze(1) < lengths
    return inside


def checked_lengths(lengths: Any, steps: int, batch: int) -> Tensor:
    """Lengths as a tensor; those that are numbers already are checked."""
    made: Tensor = lengths if isinstance(lengths, Tensor) else tensor(np.asarray(lengths))
    fits = made.shape == (batch,) and made.dtype.kind in "iu"
    value = made.node.value
    if not fits or (value is not None and not ((value >= 1) & (value <= steps)).all()):
        raise OptionError(
            name="lengths",
            expected=f"{batch} whole numbers from 1 to {steps}",
            got=made.tolist() if value is not None else f"{made.dtype} of shape {made.shape}",
            mend="one length for each sequence of the batch",
        )
    return made
