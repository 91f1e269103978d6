"""Activations, losses, linear and initial values, against PyTorch in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import nn
from chainrule.errors import (
    IndexRangeError,
    LabelTypeError,
    LayerInputError,
    OptionError,
    ShapeError,
    SoftmaxTwiceWarning,
)

Z = np.array([[-3.1, -0.4, 0.2, 1.7], [2.4, 0.9, -12.0, 12.0], [0.05, -0.7, 4.0, -1.1]])
P = 1 / (1 + np.exp(-Z / 3))
LABELS = np.array([2, 0, 3])


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: np.ndarray) -> None:
    """Value and all gradients agree to 1e-10."""
    a = [cr.tensor(x, requires_grad=True) for x in arrays]
    b = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, z = ours(*a), theirs(*b)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-10, atol=1e-14)
    assert y.shape == tuple(z.shape)
    weights = np.cos(np.arange(y.numel())).reshape(y.shape)
    (y * weights).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    for x, t in zip(a, b, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-10, atol=1e-14)


ACTIVATIONS = {
    "sigmoid": (nn.Sigmoid(), torch.nn.Sigmoid()),
    "tanh": (nn.Tanh(), torch.nn.Tanh()),
    "relu": (nn.ReLU(inplace=True), torch.nn.ReLU()),
    "leaky": (nn.LeakyReLU(), torch.nn.LeakyReLU()),
    "leaky 0.3": (nn.LeakyReLU(0.3), torch.nn.LeakyReLU(0.3)),
    "elu": (nn.ELU(), torch.nn.ELU()),
    "elu 0.5": (nn.ELU(0.5), torch.nn.ELU(0.5)),
    "gelu": (nn.GELU(), torch.nn.GELU()),
    "gelu tanh": (nn.GELU("tanh"), torch.nn.GELU("tanh")),
    "silu": (nn.SiLU(), torch.nn.SiLU()),
    "softplus": (nn.Softplus(), torch.nn.Softplus()),
    "softmax": (nn.Softmax(), torch.nn.Softmax(dim=-1)),
    "softmax 0": (nn.Softmax(dim=0), torch.nn.Softmax(dim=0)),
    "log_softmax": (nn.LogSoftmax(dim=1), torch.nn.LogSoftmax(dim=1)),
    "identity": (nn.Identity(), torch.nn.Identity()),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    ours, theirs = ACTIVATIONS[name]
    compare(ours, theirs, Z)


def test_step_is_rosenblatts() -> None:
    z = cr.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    y = nn.Step()(z)
    assert y.tolist() == [0, 1, 1]
    y.sum().backward()
    assert z.grad.tolist() == [0, 0, 0]


LOSSES = {
    "mse": (nn.MSELoss, torch.nn.MSELoss, Z),
    "l1": (nn.L1Loss, torch.nn.L1Loss, Z),
    "bce": (nn.BCELoss, torch.nn.BCELoss, P),
    "bce logits": (nn.BCEWithLogitsLoss, torch.nn.BCEWithLogitsLoss, Z),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_pairs(name: str, reduction: str) -> None:
    ours, theirs, prediction = LOSSES[name]
    target = np.roll(P, 1, axis=0)
    compare(ours(reduction=reduction), theirs(reduction=reduction), prediction, target)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
@pytest.mark.parametrize("kind", ["int64", "int32", "uint8"])
def test_losses_of_classes(name: str, reduction: str, kind: str) -> None:
    for z, labels in [
        (Z, LABELS),
        (Z[0], LABELS[0]),
        (np.random.default_rng(0).normal(size=(2, 4, 3)), np.array([[0, 1, 2], [3, 3, 0]])),
    ]:
        y = np.asarray(labels).astype(kind)
        compare(
            lambda z, y=y: getattr(nn, name)(reduction=reduction)(z, cr.tensor(y)),
            lambda z, y=y: getattr(torch.nn, name)(reduction=reduction)(
                z, torch.tensor(y.astype("int64"))
            ),
            z,
        )


def test_whole_number_targets_and_lists() -> None:
    loss = nn.BCEWithLogitsLoss()(cr.tensor(Z[0]), [1, 0, 1, 1])
    expected = torch.nn.BCEWithLogitsLoss()(
        torch.tensor(Z[0]), torch.tensor([1.0, 0, 1, 1]).double()
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_extreme_scores_stay_finite() -> None:
    z = np.array([[1000.0, -1000.0]])
    compare(
        lambda z: nn.functional.cross_entropy(z, cr.tensor([1])),
        lambda z: torch.nn.functional.cross_entropy(z, torch.tensor([1])),
        z,
    )
    compare(nn.BCEWithLogitsLoss(), torch.nn.BCEWithLogitsLoss(), z, np.array([[0.0, 1.0]]))
    ends = np.array([0.0, 1.0])
    compare(
        lambda a: nn.functional.binary_cross_entropy(a, cr.tensor([1.0, 1.0], cr.float64)),
        lambda a: torch.nn.functional.binary_cross_entropy(a, torch.ones(2).double()),
        ends,
    )


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape: tuple[int, ...], bias: bool) -> None:
    random = np.random.default_rng(0)
    x, w, b = random.normal(size=shape), random.normal(size=(2, 4)), random.normal(size=2)
    arrays = (x, w, b) if bias else (x, w)
    compare(nn.functional.linear, torch.nn.functional.linear, *arrays)


def test_flatten() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    compare(nn.Flatten(), torch.nn.Flatten(), x)
    compare(nn.Flatten(0, 1), torch.nn.Flatten(0, 1), x)
    compare(nn.Flatten(-2, -1), torch.nn.Flatten(-2, -1), x)


def test_dropout() -> None:
    cr.manual_seed(0)
    layer = nn.Dropout(0.25)
    y = layer(cr.ones(100, 100)).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.02)
    x = cr.tensor(np.ones(1000), requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()  # the mask of the forward pass
    layer.eval()
    assert layer(x) is x
    assert nn.Dropout(1.0)(cr.ones(3)).tolist() == [0, 0, 0]
    assert nn.Dropout(0.0)(cr.ones(3)).tolist() == [1, 1, 1]
    with pytest.raises(OptionError, match="Dropout p must be between 0 and 1, but got 2"):
        nn.Dropout(2)


# ------------------------------------------------------------------------------ initial values


def test_linear_starts_as_in_pytorch() -> None:
    cr.manual_seed(0)
    layer = nn.Linear(100, 400)
    for values in (layer.weight.numpy(), layer.bias.numpy()):
        assert np.abs(values).max() <= 0.1
        assert np.abs(values).max() > 0.099
        assert values.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.1)
        assert values.mean() == pytest.approx(0, abs=0.01)
    assert nn.Linear(3, 2, bias=False).bias is None
    assert nn.Linear(3, 2, dtype=cr.float64).weight.dtype == cr.float64


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("uniform_", {"a": -2.0, "b": 3.0}),
        ("normal_", {"mean": 1.0, "std": 2.0}),
        ("constant_", {"val": 4.0}),
        ("zeros_", {}),
        ("ones_", {}),
        ("xavier_uniform_", {"gain": 2.0}),
        ("xavier_normal_", {}),
        ("kaiming_uniform_", {"a": 0.3, "mode": "fan_out"}),
        ("kaiming_normal_", {"nonlinearity": "relu"}),
        ("kaiming_uniform_", {"nonlinearity": "tanh"}),
    ],
)
def test_initial_values_have_pytorchs_spread(name: str, options: dict[str, Any]) -> None:
    cr.manual_seed(0)
    torch.manual_seed(0)
    x, t = nn.Parameter(np.zeros((60, 40, 5))), torch.empty(60, 40, 5, dtype=torch.float64)
    given = {"value" if key == "val" else key: value for key, value in options.items()}
    assert getattr(nn.init, name)(x, **given) is x
    getattr(torch.nn.init, name)(t, **options)
    mine, theirs = x.numpy(), t.numpy()
    spread = max(theirs.std(), 1e-12)
    assert mine.std() == pytest.approx(theirs.std(), rel=0.03, abs=1e-12)
    assert mine.mean() == pytest.approx(theirs.mean(), abs=0.05 * spread)
    if "uniform" in name:
        assert mine.max() == pytest.approx(theirs.max(), abs=0.01 * spread)
        assert mine.min() == pytest.approx(theirs.min(), abs=0.01 * spread)


def test_gains() -> None:
    for name in ("linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert nn.init.calculate_gain("leaky_relu", 0.2) == torch.nn.init.calculate_gain(
        "leaky_relu", 0.2
    )
    with pytest.raises(OptionError, match="nonlinearity"):
        nn.init.calculate_gain("rule")
    with pytest.raises(ShapeError, match="at least 2 axes"):
        nn.init.xavier_uniform_(nn.Parameter([1.0]))


# ------------------------------------------------------------------------------ messages


def test_wrong_in_features(monkeypatch: pytest.MonkeyPatch) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.blocks = nn.ModuleList(
                [nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(5, 2))]
            )

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    with pytest.raises(LayerInputError) as caught:
        Net()(cr.ones(7, 4))
    line = caught.value.source.line
    assert str(caught.value) == (
        f"blocks.0.2, test_layers_losses.py:{line}: Linear expects 5 input features in the last "
        "axis, but got 3 (input shape (7, 3)).\n"
        "  Mend: make it Linear(3, ...), or let the layer before it give 5 features."
    )
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    assert str(caught.value) == (
        f"blocks.0.2, test_layers_losses.py:{line}: Linear 的最后一维需要 5 个输入特征,"
        "实际得到 3 个(输入形状 (7, 3))。\n  改法: 改成 Linear(3, ...),或让前一层输出 5 个特征。"
    )


def test_label_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = nn.CrossEntropyLoss()(cr.zeros(3, 10), cr.tensor([0, 10, 2]))
    with pytest.raises(IndexRangeError) as caught:
        loss.item()
    line = caught.value.source.line
    assert str(caught.value) == (
        f"test_layers_losses.py:{line}: cross_entropy: index 10 at position 1 is outside 0..9 "
        "(there are 10 classes).\n"
        "  Mend: labels and indices count from 0; check the data, or enlarge the classes to 11."
    )
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    assert "位置 1 的索引 10 超出 0..9(共有 10 个类别)" in str(caught.value)


def test_float_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabelTypeError) as caught:
        nn.functional.cross_entropy(cr.zeros(2, 3), cr.tensor([0.0, 1.0]))
    assert str(caught.value).split(": ", 1)[1] == (
        "cross_entropy: class labels must be whole numbers (int64 or int32), but got float32 of "
        "shape (2,).\n"
        "  Mend: labels.long() if they are class numbers; for yes/no targets use "
        "binary_cross_entropy_with_logits, for quantities use mse_loss."
    )
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    assert "类别标签必须是整数" in str(caught.value)
    monkeypatch.delenv("CHAINRULE_LANG")
    with pytest.raises(LabelTypeError, match="nll_loss"):
        nn.functional.nll_loss(cr.zeros(2, 3), cr.tensor([0.0, 1.0]))


def test_softmax_before_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Softmax(dim=1))
    with pytest.warns(SoftmaxTwiceWarning) as caught:
        nn.functional.cross_entropy(model(cr.ones(1, 2)), cr.tensor([0]))
    message = caught[0].message
    assert str(message).split(": ", 1)[1] == (
        "cross_entropy applies softmax itself, but its input is already a softmax: the model "
        "learns slowly.\n"
        "  Mend: give cross_entropy the raw scores (logits): remove the softmax at the end of the "
        "model."
    )
    assert str(message).startswith("1, test_layers_losses.py:")
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    assert "已经是 softmax 的结果" in str(message)


def test_misspelt_reduction() -> None:
    for loss in (
        nn.MSELoss("maen"),
        nn.CrossEntropyLoss(reduction="maen"),
        nn.NLLLoss(reduction="maen"),
    ):
        target = cr.zeros(2, 3) if isinstance(loss, nn.MSELoss) else cr.tensor([0, 1])
        with pytest.raises(OptionError, match="did you mean 'mean'"):
            loss(cr.zeros(2, 3), target)


def test_shapes_of_targets() -> None:
    with pytest.raises(
        ShapeError, match=r"target of the prediction's shape \(4, 1\), but got \(4,\)"
    ):
        nn.MSELoss()(cr.zeros(4, 1), cr.zeros(4))
    with pytest.raises(ShapeError, match="labels are class numbers, one per sample"):
        nn.CrossEntropyLoss()(cr.zeros(4, 3), cr.tensor([[0], [1], [2], [0]]))


def test_linear_sizes() -> None:
    with pytest.raises(OptionError, match="in_features must be at least 1, but got 0"):
        nn.Linear(0, 2)
