"""How good predictions are, in scikit-learn's words: functions of the truth and the prediction.

They take arrays, tensors or lists, the truth first, and compute in float64. Means over many batches
are not means of scores: collect the predictions of all batches, then score them once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from chainrule.core.graph import Array
from chainrule.errors import OptionError, ShapeError

__all__ = [
    "PrecisionRecall",
    "accuracy_score",
    "average_precision_score",
    "balanced_accuracy_score",
    "brier_score_loss",
    "confusion_matrix",
    "f1_score",
    "log_loss",
    "matthews_corrcoef",
    "max_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_pinball_loss",
    "mean_squared_error",
    "median_absolute_error",
    "precision_recall_fscore_support",
    "precision_score",
    "r2_score",
    "recall_score",
    "roc_auc_score",
    "root_mean_squared_error",
    "top_k_accuracy_score",
]


def _pair(name: str, y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Both as arrays of one shape, with at least one entry."""
    truth, prediction = np.asarray(y_true), np.asarray(y_pred)
    if truth.shape != prediction.shape or not truth.size:
        raise ShapeError(
            op=name, expected=f"a truth and a prediction of one shape, the truth's {truth.shape}, "
            "with at least one entry", got=prediction.shape,
            mend="scores.argmax(-1) gives class numbers; reshape(-1) drops an axis of length 1",
        )  # fmt: skip
    return truth, prediction


# ------------------------------------------------------------------------------ classes


def accuracy_score(y_true: Any, y_pred: Any) -> float:
    """The share of samples whose class is right.

    >>> accuracy_score([0, 1, 2, 2], [0, 2, 2, 2])
    0.75
    """
    truth, prediction = _pair("accuracy_score", y_true, y_pred)
    return float(np.mean(truth == prediction))


def confusion_matrix(y_true: Any, y_pred: Any, labels: Any = None) -> Array:
    """How many samples of each class (row) were taken for each class (column).

    Args:
        y_true: classes, (samples,).
        y_pred: predicted classes, (samples,).
        labels: the order of rows and columns; by default all classes that occur, sorted.

    >>> confusion_matrix([0, 1, 2, 2], [0, 2, 2, 2]).tolist()
    [[1, 0, 0], [0, 0, 1], [0, 0, 2]]
    """
    truth, prediction = _pair("confusion_matrix", y_true, y_pred)
    classes = np.unique(np.append(truth, prediction)) if labels is None else np.asarray(labels)
    order = np.argsort(classes, kind="stable")
    rows, columns = (_places(x.reshape(-1), classes, order) for x in (truth, prediction))
    known = (rows >= 0) & (columns >= 0)
    made = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(made, (rows[known], columns[known]), 1)
    return made


def _places(values: Array, classes: Array, order: Array) -> Array:
    """Where each value stands among the classes; -1 if it is none of them."""
    at = np.searchsorted(classes[order], values).clip(max=len(classes) - 1)
    return np.where(classes[order][at] == values, order[at], -1)


class PrecisionRecall(NamedTuple):
    """Precision, recall, F-score, and how many samples each class has."""

    precision: Any
    recall: Any
    fscore: Any
    support: Any


def precision_recall_fscore_support(
    y_true: Any,
    y_pred: Any,
    *,
    beta: float = 1.0,
    pos_label: Any = 1,
    average: str | None = None,
    zero_division: float = 0.0,
) -> PrecisionRecall:
    """Precision: the share of what was called a class that is one. Recall: the share of it found.

    F = (1 + beta^2) precision recall / (beta^2 precision + recall).

    Args:
        y_true: classes, (samples,).
        y_pred: predicted classes, (samples,).
        beta: how many times recall counts as precision.
        pos_label: the class that ``average="binary"`` looks at.
        average: None gives an array, one entry for each class in sorted order; "macro" their mean,
            "weighted" the mean by support, "micro" counts all classes together, "binary" looks at
            ``pos_label`` alone.
        zero_division: what stands for 0 / 0.

    >>> made = precision_recall_fscore_support([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], average="binary")
    >>> [round(float(x), 3) for x in made[:3]]
    [0.667, 0.667, 0.667]
    """
    averages = (None, "binary", "macro", "weighted", "micro")
    if average not in averages:
        raise OptionError(name="average", expected=f"one of {averages}", got=repr(average))
    classes = np.unique(np.append(np.asarray(y_true), np.asarray(y_pred)))
    table = confusion_matrix(y_true, y_pred, classes)
    right, called, support = np.diag(table), table.sum(0), table.sum(1)
    if average == "binary":
        chosen = classes == pos_label
        if not chosen.any() or len(classes) > 2:
            raise OptionError(
                name="pos_label", got=pos_label,
                expected=f"one of two classes (there are {classes.tolist()})",
                mend='average="macro", "weighted" or "micro" for several classes',
            )  # fmt: skip
        right, called, support = (counts[chosen].sum() for counts in (right, called, support))
    elif average == "micro":
        right, called, support = right.sum(), called.sum(), support.sum()
    precision = _ratio(right, called, zero_division)
    recall = _ratio(right, support, zero_division)
    fscore = _ratio((1 + beta**2) * right, beta**2 * support + called, zero_division)
    if average in ("macro", "weighted"):
        weights = support if average == "weighted" else np.ones_like(support)
        precision, recall, fscore = (
            float(np.average(x, weights=weights)) for x in (precision, recall, fscore)
        )
    return PrecisionRecall(precision, recall, fscore, support if average is None else None)


def _ratio(a: Any, b: Any, otherwise: float) -> Any:
    return np.where(np.asarray(b) == 0, otherwise, a / np.where(np.asarray(b) == 0, 1, b))[()]


def precision_score(y_true: Any, y_pred: Any, **options: Any) -> Any:
    """The share of what was called positive that is; options: see
    :func:`precision_recall_fscore_support` (``average="binary"`` unless given)."""
    options = {"average": "binary", **options}
    return precision_recall_fscore_support(y_true, y_pred, **options).precision


def recall_score(y_true: Any, y_pred: Any, **options: Any) -> Any:
    """The share of the positives that was found; options as in :func:`precision_score`."""
    options = {"average": "binary", **options}
    return precision_recall_fscore_support(y_true, y_pred, **options).recall


def f1_score(y_true: Any, y_pred: Any, **options: Any) -> Any:
    """2 precision recall / (precision + recall); options as in :func:`precision_score`."""
    options = {"average": "binary", **options}
    return precision_recall_fscore_support(y_true, y_pred, **options).fscore


def balanced_accuracy_score(y_true: Any, y_pred: Any) -> float:
    """The mean over the true classes of the share that was found: fair to rare classes.

    >>> balanced_accuracy_score([0, 0, 0, 1], [0, 0, 0, 0])
    0.5
    """
    table = confusion_matrix(y_true, y_pred)
    support = table.sum(1)
    return float(np.mean(np.diag(table)[support > 0] / support[support > 0]))


def matthews_corrcoef(y_true: Any, y_pred: Any) -> float:
    """The correlation of truth and prediction: 1 all right, 0 by chance, -1 all wrong.

    Source: Gorodkin, "Comparing two K-category assignments by a K-category correlation", 2004.
    """
    table = confusion_matrix(y_true, y_pred).astype(np.float64)
    truth, called, count = table.sum(1), table.sum(0), table.sum()
    shared = np.trace(table) * count - truth @ called
    spread = (count**2 - called @ called) * (count**2 - truth @ truth)
    return float(shared / np.sqrt(spread)) if spread > 0 else 0.0


# ------------------------------------------------------------------------------ probabilities


def top_k_accuracy_score(y_true: Any, y_score: Any, k: int = 2) -> float:
    """The share of samples whose class is among the k with the largest scores.

    Args:
        y_true: class numbers, (samples,).
        y_score: a score for each class, (samples, classes).
        k: how many guesses each sample has.

    >>> top_k_accuracy_score([0, 1], [[0.1, 0.3, 0.6], [0.2, 0.3, 0.5]], k=2)
    0.5
    """
    truth, scores = _scored("top_k_accuracy_score", y_true, y_score)
    best = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :k]
    return float(np.mean((best == truth[:, None]).any(1)))


def _scored(name: str, y_true: Any, y_score: Any) -> tuple[Array, Array]:
    """Class numbers, and a row of scores for each."""
    truth, scores = np.asarray(y_true), np.asarray(y_score, np.float64)
    if truth.ndim != 1 or scores.ndim != 2 or len(truth) != len(scores) or not len(truth):
        raise ShapeError(
            op=name, expected="class numbers (samples,) and scores (samples, classes)",
            got=f"{truth.shape} and {scores.shape}",
        )  # fmt: skip
    if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise OptionError(
            name="y_true", expected=f"class numbers in 0..{scores.shape[1] - 1}",
            got=f"{truth.dtype} from {truth.min()} to {truth.max()}",
        )  # fmt: skip
    return truth, scores


def log_loss(y_true: Any, y_pred: Any) -> float:
    """The mean of -ln(probability that was given to the truth): cross-entropy in nats.

    Args:
        y_true: class numbers, (samples,).
        y_pred: probabilities of each class, (samples, classes), or of class 1, (samples,).

    >>> round(log_loss([0, 1], [0.5, 0.5]), 4)
    0.6931
    """
    probabilities = np.asarray(y_pred, np.float64)
    if probabilities.ndim == 1:
        probabilities = np.stack([1 - probabilities, probabilities], 1)
    truth, probabilities = _scored("log_loss", y_true, probabilities)
    chosen = probabilities[np.arange(len(truth)), truth]
    smallest = np.finfo(np.float64).eps
    return float(-np.mean(np.log(np.clip(chosen, smallest, 1 - smallest))))


def brier_score_loss(y_true: Any, y_proba: Any) -> float:
    """The mean of (probability of class 1 - truth)^2, for the truths 0 and 1."""
    truth, probability = _pair("brier_score_loss", y_true, y_proba)
    return float(np.mean((probability - truth) ** 2))


def roc_auc_score(y_true: Any, y_score: Any) -> float:
    """The chance that a random positive has a larger score than a random negative; ties count half.

    The area under the ROC curve: the rate of true positives over the rate of false ones.

    Args:
        y_true: 0 and 1, (samples,).
        y_score: any score that is larger for class 1, (samples,); or, for several classes, a score
            for each, (samples, classes): then the mean over the classes, each against the rest.

    >>> roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75

    Source: Mann and Whitney, 1947; Hanley and McNeil, 1982.
    """
    if np.ndim(y_score) == 2:
        truth, scores = _scored("roc_auc_score", y_true, y_score)
        areas = [roc_auc_score(truth == c, scores[:, c]) for c in range(scores.shape[1])]
        return float(np.mean(areas))
    positive, score = _binary("roc_auc_score", y_true, y_score)
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # ties share the mean of their ranks
    ones = np.count_nonzero(positive)
    zeros = len(score) - ones
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def average_precision_score(y_true: Any, y_score: Any) -> float:
    """The sum over the thresholds of (gain in recall) x precision: the area under that curve.

    Args:
        y_true: 0 and 1, (samples,).
        y_score: any score that is larger for class 1, (samples,).

    >>> round(average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    positive, score = _binary("average_precision_score", y_true, y_score)
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(positive[order])
    last = np.append(np.diff(score[order]) != 0, True)  # ties are taken together
    precision = found[last] / (np.flatnonzero(last) + 1)
    return float(np.sum(np.diff(found[last], prepend=0) * precision) / found[-1])


def _binary(name: str, y_true: Any, y_score: Any) -> tuple[Array, Array]:
    truth, score = _pair(name, y_true, y_score)
    positive = truth.reshape(-1) == 1
    if not np.isin(truth, (0, 1)).all() or positive.all() or not positive.any():
        raise OptionError(
            name="y_true", expected="0 and 1, both there", got=np.unique(truth)[:5].tolist(),
            mend="measure it on more samples; one class alone has no ranking",
        )  # fmt: skip
    return positive, score.reshape(-1)


# ------------------------------------------------------------------------------ quantities


def mean_squared_error(y_true: Any, y_pred: Any) -> float:
    """The mean of (y-hat - y)^2.

    >>> mean_squared_error([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    truth, prediction = _quantities("mean_squared_error", y_true, y_pred)
    return float(np.mean((prediction - truth) ** 2))


def root_mean_squared_error(y_true: Any, y_pred: Any) -> float:
    """The root of the mean squared error, in the unit of y; several outputs: the mean of theirs."""
    truth, prediction = _quantities("root_mean_squared_error", y_true, y_pred)
    return float(np.mean(np.sqrt(np.mean((prediction - truth) ** 2, axis=0))))


def mean_absolute_error(y_true: Any, y_pred: Any) -> float:
    """The mean of |y-hat - y|."""
    truth, prediction = _quantities("mean_absolute_error", y_true, y_pred)
    return float(np.mean(np.abs(prediction - truth)))


def median_absolute_error(y_true: Any, y_pred: Any) -> float:
    """The median of |y-hat - y|: outliers do not count; several outputs: the mean of theirs."""
    truth, prediction = _quantities("median_absolute_error", y_true, y_pred)
    return float(np.mean(np.median(np.abs(prediction - truth), axis=0)))


def max_error(y_true: Any, y_pred: Any) -> float:
    """The largest |y-hat - y|."""
    truth, prediction = _quantities("max_error", y_true, y_pred)
    return float(np.max(np.abs(prediction - truth)))


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> float:
    """The mean of |y-hat - y| / |y|, as a share: 0.1 is 10 %."""
    truth, prediction = _quantities("mean_absolute_percentage_error", y_true, y_pred)
    smallest = np.finfo(np.float64).eps
    return float(np.mean(np.abs(prediction - truth) / np.maximum(np.abs(truth), smallest)))


def mean_pinball_loss(y_true: Any, y_pred: Any, alpha: float = 0.5) -> float:
    """The mean of alpha (y - y-hat) where too low, (1 - alpha) (y-hat - y) where too high."""
    truth, prediction = _quantities("mean_pinball_loss", y_true, y_pred)
    d = truth - prediction
    return float(np.mean(np.maximum(alpha * d, (alpha - 1) * d)))


def r2_score(y_true: Any, y_pred: Any) -> float:
    """1 - (sum of squared errors) / (sum of squares about the mean): 1 is perfect, 0 is the mean.

    Several outputs (columns): the mean of theirs.

    >>> r2_score([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    0.5
    """
    truth, prediction = _quantities("r2_score", y_true, y_pred)
    if len(truth) < 2:
        raise ShapeError(op="r2_score", expected="at least two samples", got=truth.shape)
    error = np.sum((truth - prediction) ** 2, axis=0)
    spread = np.sum((truth - truth.mean(0)) ** 2, axis=0)
    score = np.where(error == 0, 1.0, _ratio(-error, spread, -1.0) + 1)
    return float(np.mean(score))


def _quantities(name: str, y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    truth, prediction = _pair(name, y_true, y_pred)
    return truth.astype(np.float64), prediction.astype(np.float64)
