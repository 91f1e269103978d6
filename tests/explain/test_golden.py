"""Explanations as golden files, in both languages: read them, they are the product."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

import chainrule as cr
from chainrule import nn
from chainrule.explain import cases
from chainrule.explain.document import Explanation, explain

Golden = Callable[[str, str], None]

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "exam": ("exam", {}),
    "exam-steps": ("exam", {"steps": 4, "lr": 0.1}),
    "exam-mse": ("exam", {"loss": "mse"}),
    "exam-y0": ("exam", {"settings": {"y": 0, "x1": 0}}),
    "exam-full": ("exam", {"full": True}),
    "perceptron": ("perceptron", {}),
    "perceptron-low-price": ("perceptron", {"settings": {"x1": 0.3}}),
    "two-layers": ("two-layers", {"full": True, "lr": 0.5}),
}


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", SETTINGS)
def test_cases_as_text(name: str, lang: str, golden: Golden) -> None:
    case, settings = SETTINGS[name]
    golden(f"{name}.{lang}.txt", str(cases.build(case, lang=lang, **settings)))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_markdown(lang: str, golden: Golden) -> None:
    golden(f"exam.{lang}.md", cases.build("exam", lang=lang).markdown())


def test_json(golden: Golden) -> None:
    document = json.loads(
        cases.build("exam", lang="zh").json(), parse_float=lambda x: f"{float(x):.5g}"
    )
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    golden("exam.json", re.sub(r'"line": "(\w+\.py):\d+"', r'"line": "\1:LINE"', text))


def classifier() -> Explanation:
    """Three classes, a batch of two, dropout: softmax, one-hot and sums over samples."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Dropout(0.5), nn.Linear(3, 3))
    model.load_state_dict(
        {
            "0.weight": [[0.5, -0.4], [0.3, 0.8], [-0.6, 0.2]],
            "0.bias": [0.1, -0.1, 0.3],
            "3.weight": [[0.4, 0.1, -0.3], [-0.2, 0.6, 0.5], [0.3, -0.5, 0.2]],
            "3.bias": [0.0, 0.1, -0.1],
        }
    )
    x = cr.tensor([[1.0, 2.0], [0.5, -1.5]], dtype="float64")
    return explain(model.double(), x, [2, 0], loss=nn.CrossEntropyLoss(), lang="en", full=True)


def test_a_classifier_with_dropout(golden: Golden) -> None:
    golden("classifier.en.txt", str(classifier()))


def test_a_network_without_layers(golden: Golden) -> None:
    w = cr.tensor([1.0, 2.0], requires_grad=True)

    def model(x: Any) -> Any:
        return (w * x).sin() + w

    made = explain(model, [3.0, 4.0], [0.0, 1.0], loss=lambda p, y: ((p - y) ** 2).sum(), lang="en")
    golden("without-layers.en.txt", str(made))
