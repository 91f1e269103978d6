"""The loss of sequences whose labels have no places: speech, handwriting."""

from __future__ import annotations

from typing import Any

from chainrule.nn.functional_ctc import ctc_loss
from chainrule.nn.module import Module
from chainrule.tensor.tensor import Tensor


class CTCLoss(Module):
    """L = -ln P(labels), all ways to stretch the labels over the steps counted.

    Args:
        blank: the number of the blank.
        reduction: "mean" (of each loss over its number of labels), "sum" or "none".
        zero_infinity: 0 instead of the infinite loss of labels that do not fit into their steps.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> scores = cr.zeros(4, 1, 3).log_softmax(-1)
        >>> round(nn.CTCLoss(reduction="sum")(scores, cr.tensor([[1, 2]]), [4], [2]).item(), 4)
        1.6864

    Source: Graves et al., "Connectionist temporal classification", ICML 2006.
    """

    def __init__(
        self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False
    ) -> None:
        self.blank = blank
        self.reduction = reduction
        self.zero_infinity = zero_infinity

    def forward(
        self, log_probs: Tensor, targets: Any, input_lengths: Any, target_lengths: Any
    ) -> Tensor:
        """Arguments as of :func:`chainrule.nn.functional.ctc_loss`."""
        return ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            self.blank,
            self.reduction,
            self.zero_infinity,
        )

    def extra_repr(self) -> str:
        return f"blank={self.blank}, reduction={self.reduction!r}"
