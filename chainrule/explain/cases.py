"""The course page's cases, as ordinary networks: the perceptron, the exam, two layers of two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chainrule.errors import OptionError, closest
from chainrule.explain.document import Explanation, explain
from chainrule.nn import (
    BCELoss,
    L1Loss,
    Linear,
    Module,
    MSELoss,
    Sequential,
    Sigmoid,
    Step,
)


@dataclass(frozen=True)
class Case:
    """A network with an input, a target, and names a person would use.

    Attributes:
        title: what it is about, by language.
        model: makes the network with the page's weights.
        features, units, classes: names by language.
    """

    title: Mapping[str, str]
    model: Callable[[], Module]
    x: list[float]
    y: list[float] | None
    loss: str | None
    features: Mapping[str, tuple[str, ...]]
    classes: Mapping[str, tuple[str, ...]]
    units: Mapping[str, tuple[str, ...]]


LOSSES: dict[str, Callable[[], Module]] = {"bce": BCELoss, "mse": MSELoss, "l1": L1Loss}


def neuron(weights: list[float], bias: float, activation: Module) -> Sequential:
    """One neuron with given weights."""
    layer = Linear(len(weights), 1)
    layer.load_state_dict({"weight": [weights], "bias": [bias]})
    return Sequential(layer, activation)


def two_by_two() -> Sequential:
    """2 inputs, 2 hidden and 2 output neurons, all sigmoid: the textbook's first network."""
    model = Sequential(Linear(2, 2), Sigmoid(), Linear(2, 2), Sigmoid())
    model.load_state_dict(
        {
            "0.weight": [[0.15, 0.20], [0.25, 0.30]],
            "0.bias": [0.35, 0.35],
            "2.weight": [[0.40, 0.45], [0.50, 0.55]],
            "2.bias": [0.60, 0.60],
        }
    )
    return model


CASES: dict[str, Case] = {
    "perceptron": Case(
        title={"en": "A perceptron decides on an offer", "zh": "感知器:是否接受报价"},
        model=lambda: neuron([0.5, 0.8], -1.0, Step()),
        x=[3.0, 1.0],
        y=None,
        loss=None,
        features={"en": ("price", "quality"), "zh": ("价格", "质量")},
        classes={"en": ("reject", "accept"), "zh": ("拒绝", "接受")},
        units={},
    ),
    "exam": Case(
        title={"en": "A neuron learns who passes an exam", "zh": "一个神经元学习预测考试是否通过"},
        model=lambda: neuron([0.5, -0.2], 0.1, Sigmoid()),
        x=[2.0, 3.0],
        y=[1.0],
        loss="bce",
        features={"en": ("study hours", "sleep hours"), "zh": ("学习时间", "睡眠时间")},
        classes={"en": ("fail", "pass"), "zh": ("不通过", "通过")},
        units={"en": ("h", "h"), "zh": ("小时", "小时")},
    ),
    "two-layers": Case(
        title={"en": "Two layers of two neurons", "zh": "两层、每层两个神经元"},
        model=two_by_two,
        x=[0.05, 0.10],
        y=[0.01, 0.99],
        loss="mse",
        features={},
        classes={},
        units={},
    ),
}


def build(
    name: str,
    *,
    settings: Mapping[str, float] | None = None,
    steps: int = 1,
    lr: float = 0.1,
    loss: str | None = None,
    lang: str = "en",
    full: bool = False,
) -> Explanation:
    """The explanation of a case.

    Args:
        name: one of :data:`CASES`.
        settings: entries to change by their printed names, for example ``{"y": 0}``.
        steps: how many updates to follow.
        lr: the learning rate.
        loss: "bce", "mse" or "l1" in place of the case's own.
        lang: "en" or "zh".
        full: every line and every term.

    Raises:
        OptionError: an unknown case, loss or name.
    """
    case = CASES[_known("case", name, CASES)]
    chosen = loss or case.loss
    criterion: Any = LOSSES[_known("loss", chosen, LOSSES)]() if chosen else None
    return explain(
        case.model(),
        case.x,
        case.y,
        loss=criterion,
        optimizer=lr,
        steps=steps,
        set=settings,
        features=case.features.get(lang, ()),
        units=case.units.get(lang, ()),
        classes=case.classes.get(lang, ()),
        lang=lang,
        full=full,
    )


def run(
    name: str,
    settings: Mapping[str, float],
    steps: int,
    lr: float,
    loss: str | None,
    lang: str,
    full: bool,
    format: str,
    at: str | None = None,
) -> str:
    """A case as text, Markdown or JSON, or one entry of it: what ``chainrule explain`` prints."""
    made = build(name, settings=settings, steps=steps, lr=lr, loss=loss, lang=lang, full=full)
    if at is not None:
        return made.at(at)
    _known("format", format, ("text", "markdown", "json"))
    if format == "json":
        return made.json()
    if format == "markdown":
        return f"# {CASES[name].title[lang]}\n\n{made.markdown()}"
    return f"{CASES[name].title[lang]}\n\n{made}"


def _known(what: str, name: str, known: Any) -> str:
    if name not in known:
        near = closest(name, known)
        raise OptionError(
            name=what,
            expected=", ".join(known),
            got=repr(name),
            mend=f"did you mean {near}?" if near else "",
        )
    return name
