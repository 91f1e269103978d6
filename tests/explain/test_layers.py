"""Every layer and loss has a derivation, in both languages, and what it says is true."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.explain.document import Explanation, explain
from chainrule.explain.notation import value
from chainrule.explain.steps import Step

Make = Callable[[], nn.Module]


@dataclass
class Layer:
    """A layer inside a small trainable network, and an input's shape."""

    make: Make
    x: tuple[int, ...] = (3,)
    whole: bool = False  # the input is class numbers


class First(nn.Module):
    """The first of the results: a recurrent layer's output without its state."""

    def __init__(self, layer: nn.Module, *more: str) -> None:
        self.layer = layer

    def forward(self, x: Any) -> Any:
        made = self.layer(x)
        return made[0] if isinstance(made, tuple) else made


class Self(nn.Module):
    """A layer of several inputs, given the same one for all."""

    def __init__(self, layer: nn.Module, inputs: int) -> None:
        self.layer = layer
        self.inputs = inputs

    def forward(self, x: Any) -> Any:
        made = self.layer(*[x] * self.inputs)
        return made[0] if isinstance(made, tuple) else made


class Beside(nn.Module):
    """A layer or loss of two inputs or more, given arrays after the first, before any target."""

    def __init__(self, layer: nn.Module, *more: Any) -> None:
        self.layer = layer
        self.more = [cr.tensor(array) for array in more]
        self.reduction = "mean"

    def forward(self, x: Any, *target: Any) -> Any:
        if target:
            self.layer.reduction = self.reduction
        return self.layer(x, *self.more, *target)


class Variances(Beside):
    """A loss that takes arrays after the target."""

    def forward(self, x: Any, *target: Any) -> Any:
        self.layer.reduction = self.reduction
        return self.layer(x, *target, *self.more)


class Scaled(nn.Module):
    """What has no parameters, behind one: so that there is something to learn."""

    def __init__(self, layer: nn.Module) -> None:
        self.scale = nn.Parameter(np.array(0.8))
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x * self.scale)


class Spelled(nn.Module):
    """CTC of a sequence of two steps and one label."""

    reduction = "mean"

    def forward(self, scores: Any, label: Any) -> Any:
        loss = nn.CTCLoss(reduction=self.reduction)
        return loss(scores.log_softmax(-1), label, [2], [1])


IMAGE = (1, 2, 4, 4)
SERIES = (1, 2, 5)
WORDS = (2, 3, 4)
OTHERS = np.random.default_rng(8).normal(size=(2, 3))
SIGNS = np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]])

LAYERS: dict[str, Layer] = {
    "AdaptiveAvgPool2d": Layer(lambda: nn.AdaptiveAvgPool2d(2), IMAGE),
    "AdaptiveMaxPool2d": Layer(lambda: nn.AdaptiveMaxPool2d(2), IMAGE),
    "AlphaDropout": Layer(lambda: nn.AlphaDropout(0.4)),
    "AvgPool1d": Layer(lambda: nn.AvgPool1d(2), SERIES),
    "AvgPool2d": Layer(lambda: nn.AvgPool2d(2), IMAGE),
    "BatchNorm1d": Layer(lambda: nn.BatchNorm1d(3), (4, 3)),
    "BatchNorm2d": Layer(lambda: nn.BatchNorm2d(2), (2, 2, 2, 2)),
    "CELU": Layer(lambda: nn.CELU(1.5)),
    "Conv1d": Layer(lambda: nn.Conv1d(2, 2, 3, padding=1, groups=2), SERIES),
    "Conv2d": Layer(lambda: nn.Conv2d(2, 2, 3, stride=2, padding=1), IMAGE),
    "ConvTranspose1d": Layer(lambda: nn.ConvTranspose1d(2, 1, 3, stride=2), (1, 2, 3)),
    "ConvTranspose2d": Layer(lambda: nn.ConvTranspose2d(2, 1, 2, stride=2), (1, 2, 2, 2)),
    "CosineSimilarity": Layer(lambda: Beside(nn.CosineSimilarity(), OTHERS), (2, 3)),
    "Dropout": Layer(lambda: nn.Dropout(0.4)),
    "Dropout1d": Layer(lambda: nn.Dropout1d(0.4), SERIES),
    "Dropout2d": Layer(lambda: nn.Dropout2d(0.4), IMAGE),
    "ELU": Layer(nn.ELU),
    "Embedding": Layer(lambda: nn.Embedding(4, 2), (3,), whole=True),
    "EmbeddingBag": Layer(lambda: nn.EmbeddingBag(4, 2), (2, 3), whole=True),
    "Flatten": Layer(nn.Flatten, IMAGE),
    "GELU": Layer(nn.GELU),
    "GLU": Layer(nn.GLU, (4,)),
    "GRU": Layer(lambda: First(nn.GRU(4, 2)), WORDS),
    "GRUCell": Layer(lambda: First(nn.GRUCell(4, 2)), (2, 4)),
    "GroupNorm": Layer(lambda: nn.GroupNorm(2, 2), SERIES),
    "Hardshrink": Layer(nn.Hardshrink),
    "Hardsigmoid": Layer(nn.Hardsigmoid),
    "Hardswish": Layer(nn.Hardswish),
    "Hardtanh": Layer(nn.Hardtanh),
    "Identity": Layer(nn.Identity),
    "InstanceNorm1d": Layer(lambda: nn.InstanceNorm1d(2, affine=True), SERIES),
    "InstanceNorm2d": Layer(lambda: nn.InstanceNorm2d(2), IMAGE),
    "LSTM": Layer(lambda: First(nn.LSTM(4, 2)), WORDS),
    "LSTMCell": Layer(lambda: First(nn.LSTMCell(4, 2)), (2, 4)),
    "LayerNorm": Layer(lambda: nn.LayerNorm(3), (2, 3)),
    "LeakyReLU": Layer(nn.LeakyReLU),
    "LearnedPositions": Layer(lambda: nn.LearnedPositions(5, 4), WORDS),
    "Linear": Layer(lambda: nn.Linear(3, 2)),
    "LogSigmoid": Layer(nn.LogSigmoid),
    "LogSoftmax": Layer(lambda: nn.LogSoftmax(-1)),
    "MaxPool1d": Layer(lambda: nn.MaxPool1d(2), SERIES),
    "MaxPool2d": Layer(lambda: nn.MaxPool2d(2), IMAGE),
    "Mish": Layer(nn.Mish),
    "MultiheadAttention": Layer(
        lambda: Self(nn.MultiheadAttention(4, 2, batch_first=True), 3), WORDS
    ),
    "PReLU": Layer(nn.PReLU),
    "PairwiseDistance": Layer(lambda: Beside(nn.PairwiseDistance(), OTHERS), (2, 3)),
    "PixelShuffle": Layer(lambda: nn.PixelShuffle(2), (1, 4, 2, 2)),
    "RMSNorm": Layer(lambda: nn.RMSNorm(3), (2, 3)),
    "RNN": Layer(lambda: First(nn.RNN(4, 2)), WORDS),
    "RNNCell": Layer(lambda: First(nn.RNNCell(4, 2)), (2, 4)),
    "ReLU": Layer(nn.ReLU),
    "ReLU6": Layer(nn.ReLU6),
    "RotaryPositions": Layer(lambda: nn.RotaryPositions(4), WORDS),
    "SELU": Layer(nn.SELU),
    "SiLU": Layer(nn.SiLU),
    "Sigmoid": Layer(nn.Sigmoid),
    "SinusoidalPositions": Layer(lambda: nn.SinusoidalPositions(4), WORDS),
    "Softmax": Layer(lambda: nn.Softmax(-1)),
    "Softplus": Layer(nn.Softplus),
    "Softshrink": Layer(nn.Softshrink),
    "Softsign": Layer(nn.Softsign),
    "Step": Layer(nn.Step),
    "Tanh": Layer(nn.Tanh),
    "Tanhshrink": Layer(nn.Tanhshrink),
    "Threshold": Layer(lambda: nn.Threshold(0.1, -1.0)),
    "Transformer": Layer(
        lambda: Self(nn.Transformer(4, 2, 1, 1, 4, dropout=0.0, batch_first=True), 2), (1, 2, 4)
    ),
    "TransformerDecoder": Layer(
        lambda: Self(
            nn.TransformerDecoder(
                nn.TransformerDecoderLayer(4, 2, 4, dropout=0.0, batch_first=True), 1
            ),
            2,
        ),
        (1, 2, 4),
    ),
    "TransformerDecoderLayer": Layer(
        lambda: Self(nn.TransformerDecoderLayer(4, 2, 4, dropout=0.0, batch_first=True), 2),
        (1, 2, 4),
    ),
    "TransformerEncoder": Layer(
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True), 2
        ),
        (1, 2, 4),
    ),
    "TransformerEncoderLayer": Layer(
        lambda: nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True), (1, 3, 4)
    ),
    "Unflatten": Layer(lambda: nn.Unflatten(1, (2, 2)), (2, 4)),
    "Upsample": Layer(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (1, 1, 2, 2)),
    "ZeroPad2d": Layer(lambda: nn.ZeroPad2d(1), (1, 1, 2, 2)),
}

PROBABILITIES, SCORES, CLASSES = (2, 3), (2, 3), (2,)
# Losses: how to make them, and the target; the prediction is of shape (2, 3).
LOSSES: dict[str, tuple[Make, Any]] = {
    "BCELoss": (nn.BCELoss, np.full((2, 3), 0.3)),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss, np.full((2, 3), 0.3)),
    "CTCLoss": (Spelled, np.array([2])),
    "CosineEmbeddingLoss": (
        lambda: Beside(nn.CosineEmbeddingLoss(margin=-0.9), OTHERS),
        np.array([1.0, -1.0]),
    ),
    "CrossEntropyLoss": (nn.CrossEntropyLoss, np.array([2, 0])),
    "CrossEntropyLoss of weights": (
        lambda: nn.CrossEntropyLoss(np.array([0.5, 2.0, 1.0]), label_smoothing=0.1),
        np.array([2, 0]),
    ),
    "CrossEntropyLoss with ignored": (
        lambda: nn.CrossEntropyLoss(ignore_index=-100),
        np.array([2, -100]),
    ),
    "CrossEntropyLoss of soft targets": (nn.CrossEntropyLoss, np.full((2, 3), 0.3)),
    "GaussianNLLLoss": (
        lambda: Variances(nn.GaussianNLLLoss(), np.full((2, 3), 0.7)),
        np.full((2, 3), 0.3),
    ),
    "HingeEmbeddingLoss": (lambda: nn.HingeEmbeddingLoss(margin=2.0), SIGNS),
    "HuberLoss": (lambda: nn.HuberLoss(delta=0.4), np.full((2, 3), 0.3)),
    "KLDivLoss": (nn.KLDivLoss, np.full((2, 3), 1 / 3)),
    "L1Loss": (nn.L1Loss, np.full((2, 3), 0.3)),
    "MSELoss": (nn.MSELoss, np.full((2, 3), 0.3)),
    "MarginRankingLoss": (lambda: Beside(nn.MarginRankingLoss(0.5), OTHERS), SIGNS),
    "MultiLabelSoftMarginLoss": (nn.MultiLabelSoftMarginLoss, np.full((2, 3), 0.3)),
    "MultiMarginLoss": (nn.MultiMarginLoss, np.array([2, 0])),
    "NLLLoss": (nn.NLLLoss, np.array([2, 0])),
    "PoissonNLLLoss": (nn.PoissonNLLLoss, np.full((2, 3), 2.0)),
    "QuantileLoss": (lambda: nn.QuantileLoss(0.9), np.full((2, 3), 0.3)),
    "SmoothL1Loss": (lambda: nn.SmoothL1Loss(beta=0.4), np.full((2, 3), 0.3)),
    "SoftMarginLoss": (nn.SoftMarginLoss, SIGNS),
    "TripletMarginLoss": (lambda: Beside(nn.TripletMarginLoss(), OTHERS), OTHERS[::-1] + 1),
}
CONTAINERS = {"Module", "ModuleDict", "ModuleList", "Sequential"}


def check(made: Explanation) -> list[Step]:
    """Formulas give the numbers, gradients their central differences; both languages print."""
    for step in made.steps:
        for index in step.indices(12):
            line = step.line(index)
            assert line.result == step.array[index]
            np.testing.assert_allclose(value(line.formula), line.result, rtol=1e-8, atol=1e-11)
            if line.check is not None:
                np.testing.assert_allclose(line.result, line.check, rtol=1e-5, atol=1e-7)
    for lang in ("en", "zh"):
        made.settings = type(made.settings)(lang=lang)
        assert len(str(made).splitlines()) > 5
        assert len(made.markdown()) > 100
    return list(made.steps)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    case = LAYERS[name]
    cr.manual_seed(3)
    rng = np.random.default_rng(5)
    layer = case.make()
    model = layer if list(layer.parameters()) else Scaled(layer)
    model.double()
    x: Any = rng.integers(0, 4, case.x) if case.whole else rng.normal(size=case.x)
    prediction = model(cr.tensor(x))
    target = rng.normal(size=prediction.shape)
    steps = check(explain(model, x, target, loss=nn.MSELoss()))
    if name != "Step":
        learned = [step for step in steps if step.rule == "parameter_update"]
        assert len(learned) == len(list(model.parameters()))


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    make, target = LOSSES[name]
    cr.manual_seed(3)
    last = {
        "BCELoss": [nn.Sigmoid()],
        "NLLLoss": [nn.LogSoftmax(-1)],
        "KLDivLoss": [nn.LogSoftmax(-1)],
    }.get(name, [])
    model = nn.Sequential(nn.Linear(4, 3), *last).double()
    x = np.random.default_rng(5).normal(size=(2, 4))
    for reduction in ("mean", "sum"):
        loss = make()
        loss.reduction = reduction
        check(explain(model, x, target, loss=loss))


def test_every_layer_and_loss_is_here() -> None:
    names = {
        name
        for name in nn.__all__
        if inspect.isclass(getattr(nn, name)) and issubclass(getattr(nn, name), nn.Module)
    }
    assert names - CONTAINERS - set(LAYERS) - set(LOSSES) == set()
