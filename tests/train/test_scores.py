"""Scores against scikit-learn's."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn

import chainrule as cr
from chainrule.errors import OptionError, ShapeError
from chainrule.train import scores

RANDOM = np.random.default_rng(0)
LABELS = [
    (RANDOM.integers(0, 2, 50), RANDOM.integers(0, 2, 50)),
    (RANDOM.integers(0, 4, 60), RANDOM.integers(0, 4, 60)),
    (np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])),  # a class that is never predicted
    (np.array([3, 7, 7, 3]), np.array([3, 9, 7, 9])),  # one that never occurs
    (np.array([5, 5]), np.array([5, 5])),
]
RANKED = [
    (RANDOM.integers(0, 2, 80), RANDOM.normal(size=80)),
    (RANDOM.integers(0, 2, 80), RANDOM.integers(0, 4, 80)),  # many ties
    (np.array([0, 1]), np.array([0.3, 0.3])),
    (np.array([0, 1, 1]), np.array([2.0, 1.0, 0.0])),
]
QUANTITIES = [
    (RANDOM.normal(size=30), RANDOM.normal(size=30)),
    (RANDOM.normal(size=(20, 3)), RANDOM.normal(size=(20, 3))),
    (np.ones(5), np.ones(5)),
    (np.ones(5), np.arange(5.0)),  # a truth without spread
    (np.array([1, 2, 3]), np.array([2, 2, 5])),
]


@pytest.mark.parametrize(
    "name", ["accuracy_score", "confusion_matrix", "balanced_accuracy_score", "matthews_corrcoef"]
)
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_classes(name: str, labels: Any) -> None:
    ours, theirs = (getattr(m, name)(*labels) for m in (scores, sklearn))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_confusion_in_a_given_order() -> None:
    truth, prediction = LABELS[1]
    for order in ([2, 0, 3, 1], [3, 1], [0, 9]):
        np.testing.assert_array_equal(
            scores.confusion_matrix(truth, prediction, order),
            sklearn.confusion_matrix(truth, prediction, labels=order),
        )
    words = (["cat", "dog", "cat"], ["cat", "cat", "cat"])
    np.testing.assert_array_equal(scores.confusion_matrix(*words), sklearn.confusion_matrix(*words))


@pytest.mark.parametrize("average", [None, "macro", "micro", "weighted"])
@pytest.mark.parametrize("beta", [1.0, 2.0])
@pytest.mark.parametrize("zero_division", [0.0, 1.0])
@pytest.mark.parametrize("labels", LABELS)
def test_precision_recall(labels: Any, average: Any, beta: float, zero_division: float) -> None:
    options = {"beta": beta, "average": average, "zero_division": zero_division}
    ours = scores.precision_recall_fscore_support(*labels, **options)
    theirs = sklearn.precision_recall_fscore_support(*labels, **options)
    for a, b in zip(ours, theirs, strict=True):
        if b is None:
            assert a is None
        else:
            np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("name", ["precision_score", "recall_score", "f1_score"])
def test_binary(name: str) -> None:
    for labels in (LABELS[0], LABELS[2]):
        for pos_label in (0, 1):
            options = {"pos_label": pos_label, "zero_division": 0.0}
            ours, theirs = (getattr(m, name)(*labels, **options) for m in (scores, sklearn))
            assert ours == pytest.approx(theirs, rel=1e-12)
    ours, theirs = (getattr(m, name)(*LABELS[1], average="macro") for m in (scores, sklearn))
    assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("name", ["roc_auc_score", "average_precision_score"])
@pytest.mark.parametrize("ranked", RANKED)
def test_ranking(name: str, ranked: Any) -> None:
    ours, theirs = (getattr(m, name)(*ranked) for m in (scores, sklearn))
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_probabilities_of_several_classes() -> None:
    truth = np.append(np.arange(4), RANDOM.integers(0, 4, 40))
    raw = np.exp(RANDOM.normal(size=(44, 4)))
    p = raw / raw.sum(1, keepdims=True)
    assert scores.log_loss(truth, p) == pytest.approx(sklearn.log_loss(truth, p), rel=1e-12)
    assert scores.roc_auc_score(truth, p) == pytest.approx(
        sklearn.roc_auc_score(truth, p, multi_class="ovr"), rel=1e-12
    )
    for k in (1, 2, 3):
        assert scores.top_k_accuracy_score(truth, p, k=k) == pytest.approx(
            sklearn.top_k_accuracy_score(truth, p, k=k), rel=1e-12
        )


def test_probabilities_of_yes() -> None:
    truth, p = RANDOM.integers(0, 2, 30), RANDOM.uniform(size=30)
    for name in ("log_loss", "brier_score_loss"):
        ours, theirs = (getattr(m, name)(truth, p) for m in (scores, sklearn))
        assert ours == pytest.approx(theirs, rel=1e-12)
    certain = (np.array([0, 1]), np.array([1.0, 1.0]))
    assert scores.log_loss(*certain) == pytest.approx(sklearn.log_loss(*certain), rel=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "mean_squared_error", "root_mean_squared_error", "mean_absolute_error",
        "median_absolute_error", "mean_absolute_percentage_error", "mean_pinball_loss", "r2_score",
    ],
)  # fmt: skip
@pytest.mark.parametrize("pair", QUANTITIES)
def test_quantities(name: str, pair: Any) -> None:
    ours, theirs = (getattr(m, name)(*pair) for m in (scores, sklearn))
    assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-15)


def test_options_of_quantities() -> None:
    truth, prediction = QUANTITIES[0]
    assert scores.max_error(truth, prediction) == sklearn.max_error(truth, prediction)
    assert scores.mean_pinball_loss(truth, prediction, 0.9) == pytest.approx(
        sklearn.mean_pinball_loss(truth, prediction, alpha=0.9), rel=1e-12
    )


def test_tensors_are_taken() -> None:
    truth, prediction = LABELS[1]
    ours = scores.accuracy_score(cr.tensor(truth), cr.tensor(prediction))
    assert ours == sklearn.accuracy_score(truth, prediction)
    assert scores.r2_score(cr.tensor([1.0, 2.0]), cr.tensor([1.0, 2.0])) == 1.0


def test_names_and_order_are_scikit_learns() -> None:
    for name in scores.__all__:
        if name != "PrecisionRecall":
            ours = list(inspect.signature(getattr(scores, name)).parameters)
            theirs = inspect.signature(getattr(sklearn, name)).parameters
            assert [word for word in ours if word != "options"] == [
                word for word in theirs if word in ours
            ], name


def test_what_can_not_be_scored() -> None:
    with pytest.raises(ShapeError, match=r"the truth's \(2,\), .*but got \(2, 1\)"):
        scores.accuracy_score([0, 1], [[0], [1]])
    with pytest.raises(ShapeError, match="at least one entry"):
        scores.mean_squared_error([], [])
    with pytest.raises(ShapeError, match="at least two samples"):
        scores.r2_score([1.0], [2.0])
    with pytest.raises(OptionError, match=r"one of two classes \(there are \[0, 1, 2, 3\]\)"):
        scores.f1_score(*LABELS[1])
    with pytest.raises(OptionError, match="average must be one of"):
        scores.f1_score(*LABELS[1], average="mean")
    with pytest.raises(OptionError, match="0 and 1, both there, but got"):
        scores.roc_auc_score([1, 1], [0.1, 0.2])
    with pytest.raises(OptionError, match=r"class numbers in 0\.\.1"):
        scores.log_loss([0, 2], [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ShapeError, match=r"scores \(samples, classes\)"):
        scores.top_k_accuracy_score([0, 1], [0.1, 0.2])
