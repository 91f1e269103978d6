"""Losses as modules: ``loss(prediction, target)``; formulas: :mod:`chainrule.nn.functional`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from chainrule.nn import functional
from chainrule.nn.module import Module
from chainrule.tensor.tensor import Tensor


class _Loss(Module):
    """A loss with its reduction: "mean", "sum" or "none"."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Any) -> Tensor:
        """The loss; a tensor without axes unless ``reduction="none"``."""
        return type(self).function(prediction, target, self.reduction)

    def extra_repr(self) -> str:
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class MSELoss(_Loss):
    """Mean squared error: for quantities (regression)."""

    function = staticmethod(functional.mse_loss)


class L1Loss(_Loss):
    """Mean absolute error: for quantities with outliers."""

    function = staticmethod(functional.l1_loss)


class BCELoss(_Loss):
    """Binary cross-entropy of probabilities: yes or no, after a sigmoid."""

    function = staticmethod(functional.binary_cross_entropy)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of raw scores: yes or no, the sigmoid included."""

    function = staticmethod(functional.binary_cross_entropy_with_logits)


class CrossEntropyLoss(_Loss):
    """Cross-entropy of raw scores with class numbers: one class of several, softmax included."""

    function = staticmethod(functional.cross_entropy)


class NLLLoss(_Loss):
    """Negative log-likelihood: cross-entropy after a log-softmax."""

    function = staticmethod(functional.nll_loss)
