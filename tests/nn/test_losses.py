"""Losses and their options, against PyTorch in float64: values and the gradients of all inputs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import chainrule as cr
from chainrule import nn
from chainrule.errors import LabelTypeError, OptionError, ShapeError

REDUCTIONS = ("mean", "sum", "none")
random = np.random.default_rng(0)
Z, OTHER = random.normal(size=(4, 5)), random.normal(size=(4, 5))
P = 1 / (1 + np.exp(-OTHER))
COUNTS = random.poisson(2.0, (4, 5)).astype(float)
SIGNS = np.where(OTHER > 0, 1.0, -1.0)
LABELS = np.array([2, 0, 4, 2])
WEIGHT = np.array([0.5, 2.0, 1.0, 0.1, 3.0])
IMAGES, PIXELS = random.normal(size=(2, 5, 3, 2)), random.integers(0, 5, (2, 3, 2))
DISTRIBUTION = np.exp(OTHER) / np.exp(OTHER).sum(1, keepdims=True)


def compare(
    ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Any, learned: int | None = None
) -> None:
    """Value and gradients agree; ``learned``: how many of the inputs, from the first, have one."""
    count = len(arrays) if learned is None else learned
    a = [cr.tensor(x, requires_grad=i < count) for i, x in enumerate(arrays)]
    b = [torch.tensor(x, requires_grad=i < count) for i, x in enumerate(arrays)]
    y, z = ours(*a), theirs(*b)
    assert y.shape == tuple(z.shape)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-9, atol=1e-13)
    share = np.cos(np.arange(y.numel())).reshape(y.shape)
    (y * share).sum().backward()
    (z * torch.tensor(share)).sum().backward()
    for x, t in zip(a[:count], b[:count], strict=True):
        np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-9, atol=1e-13)


def as_module(name: str, *arrays: Any, learned: int | None = None, **options: Any) -> None:
    """The modules of both libraries, with the same options and the same state dict."""

    def tensors(make: Any) -> dict[str, Any]:
        arrays = {key: value for key, value in options.items() if isinstance(value, np.ndarray)}
        return {**options, **{key: make(value) for key, value in arrays.items()}}

    ours = getattr(nn, name)(**tensors(cr.tensor))
    theirs = getattr(torch.nn, name)(**tensors(torch.tensor))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    compare(ours, theirs, *arrays, learned=learned)


# Name, inputs, how many have a gradient, and the options that are tried.
CASES: list[tuple[str, tuple[Any, ...], int, list[dict[str, Any]]]] = [
    ("HuberLoss", (3 * Z, OTHER), 2, [{}, {"delta": 0.3}, {"delta": 2.5}]),
    ("SmoothL1Loss", (3 * Z, OTHER), 2, [{}, {"beta": 0.3}, {"beta": 0.0}]),
    ("PoissonNLLLoss", (Z, COUNTS), 1, [{}, {"full": True}]),
    (
        "PoissonNLLLoss",
        (np.exp(Z), COUNTS),
        1,
        [{"log_input": False}, {"log_input": False, "full": True, "eps": 1e-3}],
    ),
    ("GaussianNLLLoss", (Z, OTHER, P), 3, [{}, {"full": True}, {"eps": 0.4}]),
    ("GaussianNLLLoss", (Z, OTHER, P[:, :1]), 3, [{}, {"full": True, "eps": 0.4}]),
    ("BCELoss", (P, np.roll(P, 1)), 2, [{}, {"weight": WEIGHT}, {"weight": P.copy()}]),
    (
        "BCEWithLogitsLoss",
        (3 * Z, P),
        2,
        [
            {},
            {"weight": WEIGHT},
            {"pos_weight": WEIGHT},
            {"pos_weight": np.array(3.0)},
            {"weight": P.copy(), "pos_weight": WEIGHT},
        ],
    ),
    ("SoftMarginLoss", (Z, SIGNS), 1, [{}]),
    ("SoftMarginLoss", (Z[0], SIGNS[0]), 1, [{}]),
    ("HingeEmbeddingLoss", (Z, SIGNS), 1, [{}, {"margin": 0.4}, {"margin": 3.0}]),
    ("MultiLabelSoftMarginLoss", (Z, (P > 0.5) * 1.0), 1, [{}, {"weight": WEIGHT}]),
    ("MultiLabelSoftMarginLoss", (Z[0], (P[0] > 0.5) * 1.0), 1, [{}]),
    ("KLDivLoss", (np.log(P), DISTRIBUTION), 2, [{}, {"log_target": False}]),
    ("KLDivLoss", (np.log(P), np.log(DISTRIBUTION)), 2, [{"log_target": True}]),
    ("MarginRankingLoss", (Z[:, 0], OTHER[:, 0], SIGNS[:, 0]), 2, [{}, {"margin": 0.5}]),
    ("MarginRankingLoss", (Z, OTHER, SIGNS), 2, [{}, {"margin": 2.0}]),
    (
        "CosineEmbeddingLoss",
        (Z, OTHER, SIGNS[:, 1]),
        2,
        [{}, {"margin": -0.5}, {"margin": 0.3}],
    ),
    ("CosineEmbeddingLoss", (Z[0], OTHER[0], np.array(-1.0)), 2, [{"margin": -0.9}, {}]),
    (
        "TripletMarginLoss",
        (Z, OTHER, P),
        3,
        [{}, {"margin": 3.0}, {"p": 1.0}, {"p": 3.0}, {"swap": True, "margin": 2.0}, {"eps": 0.1}],
    ),
    ("TripletMarginLoss", (Z[0], OTHER[0], P[0]), 3, [{}]),
    (
        "CrossEntropyLoss",
        (Z, LABELS),
        1,
        [
            {},
            {"weight": WEIGHT},
            {"ignore_index": 2},
            {"ignore_index": 2, "weight": WEIGHT},
            {"label_smoothing": 0.1},
            {"label_smoothing": 0.3, "weight": WEIGHT},
            {"label_smoothing": 0.3, "ignore_index": 2},
            {"label_smoothing": 0.2, "ignore_index": 0, "weight": WEIGHT},
            {"label_smoothing": 1.0},
        ],
    ),
    ("CrossEntropyLoss", (Z, np.array([2, -100, 4, -100])), 1, [{"ignore_index": -100}]),
    ("CrossEntropyLoss", (Z[0], LABELS[0]), 1, [{"weight": WEIGHT, "label_smoothing": 0.1}]),
    (
        "CrossEntropyLoss",
        (IMAGES, PIXELS),
        1,
        [
            {"weight": WEIGHT},
            {"ignore_index": 3, "weight": WEIGHT},
            {"label_smoothing": 0.2, "ignore_index": 1, "weight": WEIGHT},
        ],
    ),
    (
        "CrossEntropyLoss",
        (Z, DISTRIBUTION),
        2,
        [
            {},
            {"weight": WEIGHT},
            {"label_smoothing": 0.2},
            {"label_smoothing": 0.2, "weight": WEIGHT},
        ],
    ),
    ("CrossEntropyLoss", (IMAGES, np.abs(IMAGES[::-1]).copy()), 2, [{}, {"weight": WEIGHT}]),
    ("CrossEntropyLoss", (Z[0], DISTRIBUTION[0]), 2, [{}, {"weight": WEIGHT}]),
    (
        "NLLLoss",
        (Z, LABELS),
        1,
        [{}, {"weight": WEIGHT}, {"ignore_index": 2}, {"ignore_index": 2, "weight": WEIGHT}],
    ),
    ("NLLLoss", (IMAGES, PIXELS), 1, [{"weight": WEIGHT, "ignore_index": 1}]),
    (
        "MultiMarginLoss",
        (Z, LABELS),
        1,
        [{}, {"p": 2}, {"margin": 0.3}, {"weight": WEIGHT}, {"p": 2, "weight": WEIGHT}],
    ),
    ("MultiMarginLoss", (Z[0], LABELS[0]), 1, [{}]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arrays", "learned", "options"),
    [
        pytest.param(name, arrays, learned, options, id=f"{name}-{number}-{i}")
        for number, (name, arrays, learned, all) in enumerate(CASES)
        for i, options in enumerate(all)
    ],
)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses(
    name: str, arrays: tuple[Any, ...], learned: int, options: dict[str, Any], reduction: str
) -> None:
    if name == "KLDivLoss" and reduction == "mean":  # PyTorch warns: it is not the divergence
        reduction = "batchmean"
    as_module(name, *arrays, learned=learned, reduction=reduction, **options)


def test_kl_mean_is_over_all_entries() -> None:
    ours = nn.KLDivLoss()(cr.tensor(np.log(P)), cr.tensor(DISTRIBUTION)).item()
    theirs = F.kl_div(torch.tensor(np.log(P)), torch.tensor(DISTRIBUTION), reduction="sum").item()
    assert ours == pytest.approx(theirs / P.size, rel=1e-12)


def test_kl_of_certain_targets() -> None:
    x, y = np.log(P), np.eye(4, 5)
    compare(
        lambda x, y: nn.functional.kl_div(x, y, reduction="sum"),
        lambda x, y: F.kl_div(x, y, reduction="sum"),
        x, y, learned=1,
    )  # fmt: skip


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_quantile_loss(q: float, reduction: str) -> None:
    """Koenker and Bassett's check function; its mean is scikit-learn's mean_pinball_loss."""

    def check(a: Any, y: Any) -> Any:
        d = y - a
        each = q * d * (d >= 0) + (q - 1) * d * (d < 0)
        return each if reduction == "none" else getattr(each, reduction)()

    compare(nn.QuantileLoss(q, reduction), check, Z, OTHER)
    from sklearn.metrics import mean_pinball_loss

    ours = nn.QuantileLoss(q)(cr.tensor(Z[0]), cr.tensor(OTHER[0])).item()
    assert ours == pytest.approx(mean_pinball_loss(OTHER[0], Z[0], alpha=q), rel=1e-12)


@pytest.mark.parametrize("alpha", [0.25, 0.9, -1.0])
@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_focal_loss(alpha: float, gamma: float, reduction: str) -> None:
    """Lin et al., 2017, equations 4 and 5."""

    def reference(z: Any, y: Any) -> Any:
        p = torch.sigmoid(z)
        p_t = torch.where(y == 1, p, 1 - p)
        alpha_t = torch.where(y == 1, alpha * y, 1 - alpha - y * 0) if alpha >= 0 else 1.0
        each = -alpha_t * (1 - p_t) ** gamma * torch.log(p_t)
        return each if reduction == "none" else getattr(each, reduction)()

    compare(
        lambda z, y: nn.functional.sigmoid_focal_loss(z, y, alpha, gamma, reduction),
        reference,
        Z,
        (P > 0.5) * 1.0,
        learned=1,
    )


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5, math.inf])
@pytest.mark.parametrize("keepdim", [False, True])
def test_pairwise_distance(p: float, keepdim: bool) -> None:
    as_module("PairwiseDistance", Z, OTHER, p=p, keepdim=keepdim, eps=1e-3)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_cosine_similarity(dim: int) -> None:
    as_module("CosineSimilarity", Z, OTHER, dim=dim)
    assert nn.CosineSimilarity(dim)(cr.zeros(4, 5), cr.ones(4, 5)).tolist() == [0.0] * (
        5 if dim == 0 else 4
    )


def test_a_batch_that_is_ignored_whole_has_no_mean() -> None:
    made = nn.CrossEntropyLoss(ignore_index=7)(cr.tensor(Z), cr.tensor([7, 7, 7, 7]))
    assert math.isnan(made.item())


def test_the_plain_loss_stays_one_node() -> None:
    """So the textbook's p - y is what is shown."""
    z = cr.tensor(Z)
    for made in (
        nn.functional.cross_entropy(z, cr.tensor(LABELS)),
        nn.functional.binary_cross_entropy_with_logits(z, cr.tensor(P)),
        nn.functional.binary_cross_entropy(cr.tensor(P), cr.tensor(P)),
        nn.functional.huber_loss(z, cr.tensor(P)),
    ):
        assert [x.op.name for x in made.node.inputs] == ["input", "input"]


@pytest.mark.parametrize(
    "name",
    [
        "HuberLoss", "SmoothL1Loss", "GaussianNLLLoss", "SoftMarginLoss", "HingeEmbeddingLoss",
        "MarginRankingLoss", "CosineEmbeddingLoss", "TripletMarginLoss", "PairwiseDistance",
        "CosineSimilarity", "PoissonNLLLoss", "KLDivLoss", "CrossEntropyLoss", "NLLLoss",
        "BCELoss", "BCEWithLogitsLoss", "MultiMarginLoss", "MultiLabelSoftMarginLoss",
    ],
)  # fmt: skip
def test_options_and_defaults_are_pytorchs(name: str) -> None:
    ours = inspect.signature(getattr(nn, name)).parameters
    theirs = inspect.signature(getattr(torch.nn, name)).parameters
    for word, parameter in ours.items():
        if word != "ignore_index":
            assert parameter.default == theirs[word].default, word
    old = ("size_average", "reduce")
    assert [w for w in theirs if w not in old] == list(ours)


def test_the_printed_loss() -> None:
    assert repr(nn.CrossEntropyLoss()) == "CrossEntropyLoss()"
    assert repr(nn.CrossEntropyLoss(ignore_index=3)) == "CrossEntropyLoss(ignore_index=3)"
    assert repr(nn.MSELoss("sum")) == "MSELoss(reduction='sum')"
    assert repr(nn.HuberLoss(delta=2.0)) == "HuberLoss(delta=2.0)"


# ------------------------------------------------------------------------------ messages


def test_what_does_not_fit() -> None:
    z, y = cr.tensor(Z), cr.tensor(LABELS)
    with pytest.raises(ShapeError, match=r"a weight for each of the 5 classes, \(5,\), but got"):
        nn.CrossEntropyLoss(cr.ones(3))(z, y)
    with pytest.raises(LabelTypeError, match="class labels must be whole numbers"):
        nn.CrossEntropyLoss(label_smoothing=0.1)(z, cr.tensor(LABELS.astype(float)))
    with pytest.raises(LabelTypeError, match="multi_margin_loss"):
        nn.MultiMarginLoss()(z, cr.tensor(LABELS.astype(float)))
    with pytest.raises(OptionError, match="ignore_index must be None with soft targets"):
        nn.CrossEntropyLoss(ignore_index=1)(z, cr.tensor(DISTRIBUTION))
    with pytest.raises(OptionError, match="label_smoothing must be 0 to 1, but got 2"):
        nn.CrossEntropyLoss(label_smoothing=2)(z, y)
    with pytest.raises(OptionError, match="did you mean 'mean'"):
        nn.CrossEntropyLoss(ignore_index=1, reduction="maen")(z, y)
    with pytest.raises(OptionError, match="delta must be more than 0"):
        nn.HuberLoss(delta=0)(z, z)
    with pytest.raises(OptionError, match="beta must be 0 or more"):
        nn.SmoothL1Loss(beta=-1)(z, z)
    with pytest.raises(OptionError, match="q must be between 0 and 1"):
        nn.QuantileLoss(1.0)(z, z)
    with pytest.raises(OptionError, match="p must be 1 or 2"):
        nn.MultiMarginLoss(p=3)(z, y)
    for loss in (nn.HuberLoss(), nn.HingeEmbeddingLoss(), nn.KLDivLoss("sum")):
        with pytest.raises(ShapeError, match="target of the prediction's shape"):
            loss(z, cr.tensor(Z[0]))
