"""Losses as modules: ``loss(prediction, target)``; formulas: :mod:`chainrule.nn.functional`."""

from __future__ import annotations

from typing import Any

from chainrule.nn import functional
from chainrule.nn.module import Module
from chainrule.tensor.tensor import Tensor


class _Loss(Module):
    """A loss with its options, which are those of the function; ``weight`` is kept as a buffer.

    Attributes:
        name: of the function in :mod:`chainrule.nn.functional`.
    """

    name: str

    def _keep(self, **options: Any) -> None:
        self._options = tuple(options)
        for option, value in options.items():
            if option.endswith("weight"):
                self.register_buffer(option, value)
            else:
                setattr(self, option, value)

    def forward(self, *inputs: Any) -> Tensor:
        """The loss; a tensor without axes unless ``reduction="none"``."""
        options = {option: getattr(self, option) for option in self._options}
        made: Tensor = getattr(functional, self.name)(*inputs, **options)
        return made

    def extra_repr(self) -> str:
        shown = []
        for option in self._options:
            value = getattr(self, option)
            if not option.endswith("weight") and value != _DEFAULTS.get(option):
                shown.append(f"{option}={value!r}")
        return ", ".join(shown)


_DEFAULTS = {"reduction": "mean", "label_smoothing": 0.0}


# ------------------------------------------------------------------------------ quantities


class MSELoss(_Loss):
    """Mean squared error: for quantities (regression)."""

    name = "mse_loss"

    def __init__(self, reduction: str = "mean") -> None:
        self._keep(reduction=reduction)


class L1Loss(_Loss):
    """Mean absolute error: for quantities with outliers."""

    name = "l1_loss"

    def __init__(self, reduction: str = "mean") -> None:
        self._keep(reduction=reduction)


class HuberLoss(_Loss):
    """Squared error for small differences, absolute error for large ones."""

    name = "huber_loss"

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        self._keep(reduction=reduction, delta=delta)


class SmoothL1Loss(_Loss):
    """Huber's loss divided by beta, as for the boxes of detectors."""

    name = "smooth_l1_loss"

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        self._keep(reduction=reduction, beta=beta)


class QuantileLoss(_Loss):
    """For a quantile of what is predicted: .5 the median, .1 and .9 an interval."""

    name = "quantile_loss"

    def __init__(self, q: float = 0.5, reduction: str = "mean") -> None:
        self._keep(q=q, reduction=reduction)


class PoissonNLLLoss(_Loss):
    """For counts."""

    name = "poisson_nll_loss"

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-8,
        reduction: str = "mean",
    ) -> None:
        self._keep(log_input=log_input, full=full, eps=eps, reduction=reduction)


class GaussianNLLLoss(_Loss):
    """For quantities whose variance is predicted too: ``loss(mean, target, variance)``."""

    name = "gaussian_nll_loss"

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        self._keep(full=full, eps=eps, reduction=reduction)


# ------------------------------------------------------------------------------ yes or no


class BCELoss(_Loss):
    """Binary cross-entropy of probabilities: yes or no, after a sigmoid."""

    name = "binary_cross_entropy"

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        self._keep(weight=weight, reduction=reduction)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of raw scores: yes or no, the sigmoid included."""

    name = "binary_cross_entropy_with_logits"

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        self._keep(weight=weight, reduction=reduction, pos_weight=pos_weight)


class SoftMarginLoss(_Loss):
    """Binary cross-entropy of raw scores with the labels 1 and -1."""

    name = "soft_margin_loss"

    def __init__(self, reduction: str = "mean") -> None:
        self._keep(reduction=reduction)


class HingeEmbeddingLoss(_Loss):
    """For distances of pairs, alike (1) or not (-1)."""

    name = "hinge_embedding_loss"

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        self._keep(margin=margin, reduction=reduction)


class MultiLabelSoftMarginLoss(_Loss):
    """For samples with any number of classes: yes or no for each of them."""

    name = "multilabel_soft_margin_loss"

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        self._keep(weight=weight, reduction=reduction)


# ------------------------------------------------------------------------------ classes


class CrossEntropyLoss(_Loss):
    """Cross-entropy of raw scores with class numbers: one class of several, softmax included."""

    name = "cross_entropy"

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self._keep(
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
        )


class NLLLoss(_Loss):
    """Negative log-likelihood: cross-entropy after a log-softmax."""

    name = "nll_loss"

    def __init__(
        self, weight: Any = None, ignore_index: int | None = None, reduction: str = "mean"
    ) -> None:
        self._keep(weight=weight, ignore_index=ignore_index, reduction=reduction)


class MultiMarginLoss(_Loss):
    """The hinge loss of several classes: the label should win by a margin."""

    name = "multi_margin_loss"

    def __init__(
        self, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
    ) -> None:
        self._keep(p=p, margin=margin, weight=weight, reduction=reduction)


class KLDivLoss(_Loss):
    """How far one distribution is from another, given as logarithms of probabilities."""

    name = "kl_div"

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        self._keep(reduction=reduction, log_target=log_target)


# ------------------------------------------------------------------------------ comparisons


class MarginRankingLoss(_Loss):
    """For pairs of scores, of which the first (1) or the second (-1) should be larger."""

    name = "margin_ranking_loss"

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        self._keep(margin=margin, reduction=reduction)


class CosineEmbeddingLoss(_Loss):
    """For pairs of vectors that should point the same way (1) or not (-1)."""

    name = "cosine_embedding_loss"

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        self._keep(margin=margin, reduction=reduction)


class TripletMarginLoss(_Loss):
    """For an anchor, something that belongs to it, and something that does not."""

    name = "triplet_margin_loss"

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        self._keep(margin=margin, p=p, eps=eps, swap=swap, reduction=reduction)


class CosineSimilarity(_Loss):
    """The cosine of the angle between two tensors along an axis."""

    name = "cosine_similarity"

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        self._keep(dim=dim, eps=eps)


class PairwiseDistance(_Loss):
    """The p-norm of the difference of two tensors over the last axis."""

    name = "pairwise_distance"

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        self._keep(p=p, eps=eps, keepdim=keepdim)
