"""Connectionist temporal classification: labels for a sequence, without saying which step is which.

Source: Graves et al., "Connectionist temporal classification", ICML 2006.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.core.ops.functions import check_reduction
from chainrule.errors import OptionError, ShapeError
from chainrule.tensor.functions import arange, cat, full, full_like, maximum, stack, where
from chainrule.tensor.scan import scan
from chainrule.tensor.tensor import Tensor, need_node, wrap

__all__ = ["ctc_loss"]

# ln of a probability of 0: finite, so that nothing becomes inf - inf.
_NEVER = -1e30


def ctc_loss(
    log_probs: Tensor,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """L = -ln P(labels): the probability of all paths that spell the labels, summed.

    A path has one symbol for each step; repeated symbols count once, blanks separate and vanish.
    With blanks around all labels, alpha[t, s] = p[t, label s] (alpha[t-1, s] + alpha[t-1, s-1] +
    alpha[t-1, s-2]), the last where label s is neither a blank nor equal to label s-2.

    Args:
        log_probs: logarithms of probabilities (after ``log_softmax``), (time, batch, classes) or
            (time, classes).
        targets: labels without blanks, (batch, most) or all one after the other, (total,).
        input_lengths: how many steps of each sequence count, (batch,).
        target_lengths: how many labels each sequence has, (batch,).
        blank: the number of the blank.
        reduction: "mean" (of each loss over its number of labels), "sum" or "none".
        zero_infinity: 0 instead of the infinite loss of labels that do not fit into their steps.

    Example:
        >>> import chainrule as cr
        >>> steps = cr.zeros(4, 1, 3).log_softmax(-1)
        >>> round(ctc_loss(steps, cr.tensor([[1, 2]]), [4], [2], reduction="sum").item(), 4)
        1.6864
    """
    check_reduction(reduction)
    single = log_probs.ndim == 2
    if single:
        log_probs = log_probs.unsqueeze(1)
    if log_probs.ndim != 3:
        raise ShapeError(
            op="ctc_loss", expected="log_probs (time, batch, classes)", got=log_probs.shape
        )
    time, batch, classes = log_probs.shape
    if not 0 <= blank < classes:
        raise OptionError(name="blank", expected=f"a class in 0..{classes - 1}", got=blank)
    steps, counts = (_lengths(x, batch) for x in (input_lengths, target_lengths))
    labels = _padded(wrap(need_node(targets)), counts, batch)
    spelled = _with_blanks(labels, blank)
    scores = log_probs.gather(2, spelled.unsqueeze(0).expand(time, *spelled.shape))
    scores = where(scores < _NEVER, _NEVER, scores)
    losses = -_forward(scores, _skips(spelled, blank), steps, counts)
    impossible = 0.0 if zero_infinity else float("inf")
    losses = where(losses > -_NEVER / 2, impossible, losses)
    if reduction == "none":
        return losses.squeeze(0) if single else losses
    if reduction == "sum":
        return losses.sum()
    return (losses / maximum(counts, 1).to(losses.dtype)).mean()


def _lengths(lengths: Any, batch: int) -> Tensor:
    made = wrap(need_node(lengths)).reshape(-1)
    if made.shape != (batch,):
        raise ShapeError(op="ctc_loss", expected=f"{batch} lengths", got=made.shape)
    return made.long()


def _padded(targets: Tensor, counts: Tensor, batch: int) -> Tensor:
    """Labels as (batch, most); what stands beyond a sequence's labels is never read."""
    targets = targets.long()
    if targets.ndim == 2:
        return targets
    if batch == 1:
        return targets.reshape(1, -1)
    before = wrap(need_node(np.tri(batch, k=-1, dtype=np.int64)))
    starts = (before * counts).sum(1, keepdim=True)
    last = targets.shape[0] - 1
    places = starts + arange(targets.shape[0])
    return targets[where(places > last, last, places)]


def _with_blanks(labels: Tensor, blank: int) -> Tensor:
    """(batch, most) to (batch, 2 most + 1): a blank before, between and after."""
    batch, most = labels.shape
    pairs = stack([full_like(labels, blank), labels], 2).reshape(batch, 2 * most)
    return cat([pairs, full((batch, 1), blank, dtype=labels.dtype)], 1)


def _skips(spelled: Tensor, blank: int) -> Tensor:
    """Whether a path may come to a symbol from the one before the last."""
    differs = (spelled[:, 2:] != spelled[:, :-2]) & (spelled[:, 2:] != blank)
    none = full((spelled.shape[0], min(2, spelled.shape[1])), False, dtype="bool")
    return cat([none, differs], 1)


def _forward(scores: Tensor, skips: Tensor, steps: Tensor, counts: Tensor) -> Tensor:
    """ln of the sum over all paths: alpha is carried over the steps."""
    time, batch, size = scores.shape
    alive = arange(time).unsqueeze(1) < steps
    never = full((batch, 2), _NEVER, dtype=scores.dtype)
    start = where(arange(size) == 0, 0.0, full((batch, size), _NEVER, dtype=scores.dtype))

    def body(alpha: Tensor, slices: tuple[Tensor, Tensor]) -> tuple[Tensor, None]:
        score, inside = slices
        back = cat([never, alpha], 1)
        skipped = where(skips, back[:, :size], _NEVER)
        after = _log_of_sum(stack([alpha, back[:, 1 : size + 1], skipped])) + score
        return where(inside.unsqueeze(1), after, alpha), None

    alpha, _ = scan(body, start, (scores, alive))
    ends = stack([2 * counts, maximum(2 * counts - 1, 0)], 1)
    last = alpha.gather(1, ends)
    only = (counts == 0).unsqueeze(1) & (arange(2) == 1)  # no labels: blanks alone
    return _log_of_sum(where(only, _NEVER, last).transpose(0, 1))


def _log_of_sum(x: Tensor) -> Tensor:
    """ln of the sum of exp over the first axis."""
    top = x.amax(0).detach()
    return (x - top).exp().sum(0).log() + top
