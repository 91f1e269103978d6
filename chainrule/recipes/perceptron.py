"""The perceptron on small problems: points that a line separates, and XOR, which none does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.errors import OptionError, closest
from chainrule.models import Perceptron
from chainrule.models.perceptron import History

Array = np.ndarray[Any, Any]

CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)


def points(seed: int, count: int = 40) -> tuple[Array, Array]:
    """Random points, 1 above the line x1 + 2 x2 = 1 and 0 below it; none nearer to it than .2.

    Returns:
        x of shape (count, 2), y of shape (count,).
    """
    generator = np.random.default_rng(seed)
    x = generator.uniform(-3, 3, (20 * count, 2)).astype(np.float32)
    distance = (x[:, 0] + 2 * x[:, 1] - 1) / 5**0.5
    chosen = np.flatnonzero(np.abs(distance) > 0.2)[:count]
    return x[chosen], (distance[chosen] > 0).astype(np.int64)


PROBLEMS: dict[str, Callable[[int], tuple[Array, Array]]] = {
    "points": points,
    "and": lambda seed: (CORNERS, np.array([0, 0, 0, 1])),
    "or": lambda seed: (CORNERS, np.array([0, 1, 1, 1])),
    "xor": lambda seed: (CORNERS, np.array([0, 1, 1, 0])),
}


@dataclass(frozen=True, eq=False)
class Trained:
    """A perceptron, what it was trained on, and how it went."""

    perceptron: Perceptron
    x: Array
    y: Array
    history: History


def train(problem: str = "points", seed: int = 0, epochs: int = 100, eta: float = 1.0) -> Trained:
    """Train a perceptron with Rosenblatt's rule.

    Args:
        problem: one of PROBLEMS.
        seed: fixes the points.
        epochs: how often to go through the samples at most.
        eta: the learning rate.

    Raises:
        OptionError: an unknown problem, or a value out of its range.

    Example:
        >>> train("and").history.converged, train("xor").history.converged
        (True, False)
    """
    if problem not in PROBLEMS:
        near = closest(problem, PROBLEMS)
        raise OptionError(
            name="problem",
            expected=" or ".join(PROBLEMS),
            got=repr(problem),
            mend=f"did you mean {near}?" if near else "",
        )
    for name, expected, got, good in (
        ("seed", "at least 0", seed, seed >= 0),
        ("epochs", "at least 1", epochs, epochs >= 1),
        ("eta", "above 0 and finite", eta, 0 < eta < float("inf")),
    ):
        if not good:
            raise OptionError(name=name, expected=expected, got=got)
    x, y = PROBLEMS[problem](seed)
    perceptron = Perceptron(2, eta=eta)
    return Trained(perceptron, x, y, perceptron.fit(x, y, epochs))


def weights_line(perceptron: Perceptron) -> str:
    """The weighted sum with its numbers.

    >>> weights_line(Perceptron(2, weight=[[0.5, -0.8]], bias=[-1.0]))
    'z = 0.5*x1 - 0.8*x2 - 1'
    """
    w = perceptron.linear.weight.numpy()[0].tolist()
    terms = [(value, f"*x{index}") for index, value in enumerate(w, 1)]
    if perceptron.linear.bias is not None:
        terms.append((perceptron.linear.bias.numpy().item(), ""))
    text = "".join(f" {'-' if value < 0 else '+'} {abs(value):.4g}{name}" for value, name in terms)
    return "z =" + text.replace(" +", "", 1) if w[0] >= 0 else "z = -" + text.lstrip(" -")
