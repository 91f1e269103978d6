"""The multilayer perceptron, and the summary of a network."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import OptionError
from chainrule.models import mlp, summary
from chainrule.models.mlp import ACTIVATIONS


def test_it_is_the_formula() -> None:
    model = mlp([6, 4, 3, 2], "tanh").double()
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    w = {name: value.numpy() for name, value in model.state_dict().items()}
    assert list(w) == ["1.weight", "1.bias", "3.weight", "3.bias", "5.weight", "5.bias"]
    a = np.tanh(x.reshape(5, 6) @ w["1.weight"].T + w["1.bias"])
    a = np.tanh(a @ w["3.weight"].T + w["3.bias"])
    z = a @ w["5.weight"].T + w["5.bias"]
    np.testing.assert_allclose(model(cr.tensor(x)).numpy(), z, rtol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation: str) -> None:
    model = mlp([3, 4, 2], activation)
    assert type(model[2]) is ACTIVATIONS[activation]
    assert model(cr.ones(1, 3)).shape == (1, 2)


def test_two_sizes_are_one_layer() -> None:
    assert [type(layer).__name__ for layer in mlp([3, 2])] == ["Flatten", "Linear"]


def test_dropout_after_every_hidden_layer() -> None:
    kinds = [type(layer).__name__ for layer in mlp([3, 4, 5, 2], dropout=0.5)]
    hidden = ["Linear", "ReLU", "Dropout"]
    assert kinds == ["Flatten", *hidden, *hidden, "Linear"]


def test_mistakes() -> None:
    with pytest.raises(OptionError, match="did you mean 'sigmoid'"):
        mlp([3, 2], "sigmiod")
    with pytest.raises(OptionError, match="at least two numbers"):
        mlp([3])


def test_summary_of_roles_shapes_and_parameters() -> None:
    model = mlp([64, 32, 16, 10], dropout=0.1)
    lines = str(summary(model, (8, 8))).splitlines()
    assert [line.split("  ")[0] for line in lines[2:-2]] == ["x", *"01234567"]
    assert lines[2].endswith("(batch, height: 8, width: 8)")
    found = summary(model, (8, 8))
    assert [layer.role for layer in found.layers] == ["input"] * 2 + ["hidden"] * 6 + ["output"]
    assert [layer.parameters for layer in found.layers if layer.parameters] == [2080, 528, 170]
    assert found.parameters == 2080 + 528 + 170


def test_summary_is_in_the_order_of_use_and_leaves_the_model_alone() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.last = nn.Linear(4, 1)
            self.first = nn.Linear(3, 4)
            self.last.bias = None

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            result: cr.Tensor = self.last(self.first(x).relu())
            return result

    model = Net()
    before = set(vars(model.first.eval().train()))
    found = summary(model, (3,))
    assert [(layer.path, layer.role, layer.parameters) for layer in found.layers] == [
        ("", "input", 0),
        ("first", "hidden", 16),
        ("last", "output", 4),
    ]
    assert set(vars(model.first)) == before
    assert model.first.training


def test_summary_of_a_shared_layer_counts_it_once() -> None:
    layer = nn.Linear(3, 3)
    found = summary(nn.Sequential({"a": layer, "b": nn.ReLU(), "c": layer}), (3,))
    assert found.parameters == 12


def test_summary_in_chinese_lines_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    text = str(summary(mlp([4, 3, 2]), (4,)))
    assert "输入层" in text
    assert "(批量, 特征: 3)" in text
    # Chinese letters take two columns.
    widths = {
        sum(2 if ord(letter) > 0x2E80 else 1 for letter in line)
        for line in text.splitlines()
        if not line.startswith(("x ", "0 ", "2 "))
    }
    assert len(widths) == 1
