"""What a network is made of: its layers, their roles, shapes and parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chainrule.errors import language
from chainrule.explain.words import word
from chainrule.nn import Module
from chainrule.tensor.functions import zeros

# What the axes of an array of samples are called, by their number.
AXES = {
    1: ("batch",),
    2: ("batch", "features"),
    3: ("batch", "height", "width"),
    4: ("batch", "channels", "height", "width"),
}


@dataclass(frozen=True)
class LayerSummary:
    """A line of a summary.

    Attributes:
        path: the layer's name in the network; empty for the input itself.
        kind: its class; "x" for the input.
        role: "input", "hidden" or "output".
        shape: of what it gives, without the batch axis.
        parameters: how many numbers it learns.
    """

    path: str
    kind: str
    role: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Summary:
    """The layers of a network; its text is a table.

    Attributes:
        layers: the input, then every layer in the order of its use.
        parameters: numbers learned in all; a shared one counts once.
    """

    layers: tuple[LayerSummary, ...]
    parameters: int

    def __str__(self) -> str:
        head = [_word(key) for key in ("layer", "role", "output_shape", "parameters")]
        rows = [
            [
                f"{layer.path}  {layer.kind}".strip(),
                _word(f"{layer.role}_layer"),
                named_shape(layer.shape),
                f"{layer.parameters:,}" if layer.parameters else "",
            ]
            for layer in self.layers
        ]
        rows.append([_word("total"), "", "", f"{self.parameters:,}"])
        widths = [max(map(_width, column)) for column in zip(head, *rows, strict=True)]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [_line(head, widths), rule, *(_line(row, widths) for row in rows)]
        lines.insert(-1, rule)
        return "\n".join(lines)


def summary(model: Module, input_shape: Sequence[int]) -> Summary:
    """The layers of a network, found by running it once on zeros.

    The last layer with parameters, and what follows it, is the output layer; those before it are
    hidden layers. What only changes the shape of the input belongs to the input layer.

    Args:
        model: the network.
        input_shape: shape of one sample, without the batch axis.

    Example:
        >>> from chainrule import nn
        >>> print(summary(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), [4]))
        layer      role          output shape          parameters
        ---------------------------------------------------------
        x          input layer   (batch, features: 4)
        0  Linear  hidden layer  (batch, features: 8)          40
        1  ReLU    hidden layer  (batch, features: 8)
        2  Linear  output layer  (batch, features: 3)          27
        ---------------------------------------------------------
        total                                                  67
    """
    calls = _calls(model, input_shape)
    learning = [index for index, (_, layer, _) in enumerate(calls) if _count(layer)]
    first, last = (learning[0], learning[-1]) if learning else (0, len(calls) - 1)
    layers = [LayerSummary("", "x", "input", tuple(input_shape), 0)]
    for index, (path, layer, shape) in enumerate(calls):
        role = "input" if index < first else "output" if index >= last else "hidden"
        layers.append(LayerSummary(path, type(layer).__name__, role, shape, _count(layer)))
    return Summary(tuple(layers), _count(model))


def _calls(model: Module, input_shape: Sequence[int]) -> list[tuple[str, Module, tuple[int, ...]]]:
    """Each layer without layers inside, in the order of its call, and the shape it gave."""
    found: list[tuple[str, Module, tuple[int, ...]]] = []
    paths = {id(layer): path for path, layer in model.named_modules()}
    leaves = [layer for layer in model.modules() if not list(layer.children())]

    def observed(layer: Module) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            result = type(layer).forward(layer, *args, **kwargs)
            found.append((paths[id(layer)], layer, tuple(result.shape[1:])))
            return result

        return forward

    training = model.training
    model.eval()
    for layer in leaves:
        object.__setattr__(layer, "forward", observed(layer))
    try:
        model(zeros(1, *input_shape))
    finally:
        for layer in leaves:
            object.__delattr__(layer, "forward")
        model.train(training)
    return found


def named_shape(shape: Sequence[int]) -> str:
    """The shape of a batch of samples, with the names of its axes.

    >>> named_shape([8, 8])
    '(batch, height: 8, width: 8)'
    """
    names = AXES.get(len(shape) + 1, ("batch", *[f"axis {n}" for n in range(1, len(shape) + 1)]))
    axes = [f"{_word(name)}: {length}" for name, length in zip(names[1:], shape, strict=True)]
    return f"({', '.join([_word('batch'), *axes])})"


def _count(layer: Module) -> int:
    return sum(math.prod(parameter.shape) for parameter in layer.parameters())


def _word(key: str) -> str:
    return word(key, language())


def _width(text: str) -> int:
    """Columns on a terminal: a Chinese character takes two."""
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    *left, last = [
        (cell, " " * (width - _width(cell))) for cell, width in zip(cells, widths, strict=True)
    ]
    return "  ".join([*(cell + gap for cell, gap in left), last[1] + last[0]]).rstrip()
