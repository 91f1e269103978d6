"""Losses of class numbers, and of comparisons: pairs, triplets, distances and angles.

``reduction`` is ``"mean"`` (over samples), ``"sum"`` or ``"none"``.
"""

from __future__ import annotations

import warnings
from typing import Any

from chainrule.core.dtype import is_float
from chainrule.core.graph import Node
from chainrule.core.ops import functions, losses, shape
from chainrule.errors import LabelTypeError, OptionError, ShapeError, SoftmaxTwiceWarning
from chainrule.nn.functional_losses import as_tensor, reduced
from chainrule.tensor.functions import full, maximum, minimum, where
from chainrule.tensor.tensor import Tensor, wrap

__all__ = [
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "margin_ranking_loss",
    "multi_margin_loss",
    "nll_loss",
    "pairwise_distance",
    "triplet_margin_loss",
]


# ------------------------------------------------------------------------------ classes


def cross_entropy(
    logits: Tensor,
    labels: Any,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """L = -ln softmax(z)[label]; its gradient is softmax(z) - y, y one-hot.

    Args:
        logits: raw scores z, (batch, classes, ...) or (classes,): no softmax before.
        labels: class numbers, (batch, ...), int64 or int32; or a probability for each class, in
            the shape and type of the scores: L = -sum of y ln softmax(z).
        weight: how much each class counts, (classes,). The mean is then over these weights.
        ignore_index: samples with this label count for nothing (PyTorch's default is -100; here a
            label outside the classes is an error until it is named).
        reduction: "mean", "sum" or "none".
        label_smoothing: the share e of the truth that is spread over all classes: the target is
            (1 - e) y + e / classes.

    Raises:
        LabelTypeError: the labels are not whole numbers, nor of the shape of the scores.
        IndexRangeError: a label is not in 0 .. classes - 1 (when the loss is evaluated).
        SoftmaxTwiceWarning: the scores come out of a softmax.

    Example:
        >>> import chainrule as cr
        >>> round(cross_entropy(cr.zeros(2, 10), cr.tensor([3, 7])).item(), 4)  # ln 10
        2.3026

    Source of label smoothing: Szegedy et al., "Rethinking the Inception architecture", CVPR 2016.
    """
    target = as_tensor(labels)
    if not 0 <= label_smoothing <= 1:
        raise OptionError(name="label_smoothing", expected="0 to 1", got=label_smoothing)
    _warn_of_softmax(logits.node)
    if is_float(target.dtype) and target.shape == logits.shape:
        return _soft(logits, target, weight, ignore_index, reduction, float(label_smoothing))
    plain = weight is None and ignore_index is None and not label_smoothing
    if plain or is_float(target.dtype):  # a float is refused there
        return wrap(functions.cross_entropy(logits.node, target.node, reduction=reduction))
    counts = _Counts(target, weight, ignore_index, logits)
    each = wrap(functions.cross_entropy(logits.node, counts.labels.node, reduction="none"))
    each = each * counts.shares
    if label_smoothing:
        dim = _class_dim(logits)
        even = -(_by_class(weight, logits) * logits.log_softmax(dim)).mean(dim)
        each = (1 - label_smoothing) * each + label_smoothing * where(counts.kept, even, 0.0)
    return counts.reduced(each, reduction)


def nll_loss(
    log_probabilities: Tensor,
    labels: Any,
    weight: Any = None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """L = -(log-probability of the label): cross-entropy after ``log_softmax``.

    The arguments are those of :func:`cross_entropy`.
    """
    target = as_tensor(labels)
    functions.check_reduction(reduction)
    if is_float(target.dtype):
        raise LabelTypeError(op="nll_loss", got=target.dtype, shape=target.shape)
    if weight is None and ignore_index is None:
        return reduced(-_chosen(log_probabilities, target), reduction)
    counts = _Counts(target, weight, ignore_index, log_probabilities)
    each = -_chosen(log_probabilities, counts.labels) * counts.shares
    return counts.reduced(each, reduction)


def multi_margin_loss(
    scores: Tensor,
    labels: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Mean over the classes c other than the label of max(0, margin - z[label] + z[c])^p.

    Args:
        scores: z, (batch, classes) or (classes,).
        labels: class numbers, (batch,).
        p: 1 or 2.
        margin: by how much the label should win.
        weight: how much each class counts, (classes,).
        reduction: "mean", "sum" or "none".

    Source: Crammer and Singer, "Multiclass kernel-based vector machines", JMLR 2001.
    """
    if p not in (1, 2):
        raise OptionError(name="p", expected="1 or 2", got=p)
    target = as_tensor(labels)
    if is_float(target.dtype):
        raise LabelTypeError(op="multi_margin_loss", got=target.dtype, shape=target.shape)
    classes = scores.shape[-1]
    lacking = (margin - _chosen(scores, target).unsqueeze(-1) + scores).clamp(min=0.0)
    lacking = lacking.square() if p == 2 else lacking
    if weight is not None:
        lacking = lacking * _weight_of(weight, target, scores).unsqueeze(-1)
    own = wrap(shape.one_hot(target.long().node, classes, scores.dtype))
    return reduced((lacking * (1 - own)).sum(-1) / classes, reduction)


class _Counts:
    """How much each sample counts: by the weight of its class, and not at all if ignored."""

    def __init__(
        self, target: Tensor, weight: Any, ignore_index: int | None, scores: Tensor
    ) -> None:
        self.labels, self.kept = target, full(target.shape, True)
        if ignore_index is not None:
            self.kept = target != ignore_index
            self.labels = where(self.kept, target, 0)
        one = self.kept.to(scores.dtype)
        self.shares = one if weight is None else one * _weight_of(weight, self.labels, scores)

    def reduced(self, each: Tensor, reduction: str) -> Tensor:
        """The losses as one number; their mean is over what counts."""
        functions.check_reduction(reduction)
        if reduction == "mean":
            return each.sum() / self.shares.sum()
        return reduced(each, reduction)


def _soft(
    logits: Tensor,
    target: Tensor,
    weight: Any,
    ignore_index: int | None,
    reduction: str,
    smoothing: float,
) -> Tensor:
    """Cross-entropy of a probability for each class."""
    if ignore_index is not None:
        raise OptionError(name="ignore_index", expected="None with soft targets", got=ignore_index)
    if smoothing:
        target = (1 - smoothing) * target + smoothing / logits.shape[_class_dim(logits)]
    if weight is not None:
        target = target * _by_class(weight, logits)
    return wrap(losses.soft_cross_entropy(logits.node, target.node, reduction=reduction))


def _class_dim(z: Tensor) -> int:
    return 1 if z.ndim > 1 else 0


def _by_class(weight: Any, z: Tensor) -> Tensor | float:
    """The weights of the classes in a shape that stretches to the scores; 1 for None."""
    if weight is None:
        return 1.0
    return _weights(weight, z).reshape(-1, *[1] * (z.ndim - 1 - _class_dim(z)))


def _weights(weight: Any, z: Tensor) -> Tensor:
    given = as_tensor(weight)
    classes = z.shape[_class_dim(z)]
    if given.shape != (classes,):
        raise ShapeError(
            op="loss", expected=f"a weight for each of the {classes} classes, ({classes},)",
            got=given.shape, mend="",
        )  # fmt: skip
    return given.to(z.dtype)


def _weight_of(weight: Any, labels: Tensor, z: Tensor) -> Tensor:
    return wrap(shape.take(_weights(weight, z).node, labels.long().node))


def _chosen(scores: Tensor, labels: Tensor) -> Tensor:
    """The score at the label of each sample."""
    dim = _class_dim(scores)
    return scores.gather(dim, labels.long().unsqueeze(dim)).squeeze(dim)


def _warn_of_softmax(node: Node) -> None:
    while node.op.name in ("reshape", "cast", "pick") and node.inputs:
        node = node.inputs[0]
    if node.op.name == "softmax":
        warning = SoftmaxTwiceWarning(op="softmax").at(".".join(node.scope), node.source)
        warnings.warn(warning, stacklevel=3)


# ------------------------------------------------------------------------------ comparisons


def margin_ranking_loss(
    first: Tensor, second: Tensor, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - y (x1 - x2)): where y = 1 the first should be larger, where -1 the second."""
    y = as_tensor(target)
    return reduced((margin - y * (first - second)).clamp(min=0.0), reduction)


def cosine_similarity(x: Tensor, y: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x . y / (max(|x|, eps) max(|y|, eps)): 1 for the same direction, 0 for a right angle.

    Example:
        >>> import chainrule as cr
        >>> cosine_similarity(cr.tensor([[3.0, 4.0]]), cr.tensor([[6.0, 8.0]])).tolist()
        [1.0]
    """
    lengths = [maximum(v.norm(2, dim, keepdim=True), eps) for v in (x, y)]
    return (x / lengths[0] * (y / lengths[1])).sum(dim)


def cosine_embedding_loss(
    first: Tensor, second: Tensor, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 - cos where y = 1, max(0, cos - margin) where y = -1; cos of the angle between them.

    Args:
        first: (batch, features) or (features,).
        second: the same shape.
        target: 1 for pairs that belong together, -1 for others, (batch,).
        margin: how similar strangers may be, -1 to 1.
        reduction: "mean", "sum" or "none".
    """
    y = as_tensor(target)
    lengths = [v.square().sum(-1) + 1e-12 for v in (first, second)]
    cos = (first * second).sum(-1) / (lengths[0] * lengths[1]).sqrt()
    together = where(y == 1, 1 - cos, 0.0)
    return reduced(together + where(y == -1, (cos - margin).clamp(min=0.0), 0.0), reduction)


def pairwise_distance(
    x: Tensor, y: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x - y + eps over the last axis: (..., features) to (...)."""
    d = x - y + eps
    if p == 2:
        return d.norm(2, -1, keepdim)
    if p == 1:
        return d.abs().sum(-1, keepdim)
    if p == float("inf"):
        return d.abs().amax(-1, keepdim)
    return (d.abs() ** p).sum(-1, keepdim) ** (1 / p)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + |a - p| - |a - n|): what belongs together should be nearer, by a margin.

    Args:
        anchor: (batch, features) or (features,).
        positive: what belongs to the anchor, the same shape.
        negative: what does not, the same shape.
        margin: by how much.
        p: of the norm.
        eps: added to the differences.
        swap: take |p - n| in the place of |a - n| where it is smaller.
        reduction: "mean", "sum" or "none".

    Source: Schroff et al., "FaceNet", CVPR 2015.
    """
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduced((margin + near - far).clamp(min=0.0), reduction)
