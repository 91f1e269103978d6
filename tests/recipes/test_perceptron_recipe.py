"""The perceptron's small problems."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.errors import OptionError
from chainrule.models import Perceptron
from chainrule.models.perceptron import with_ones
from chainrule.recipes.perceptron import points, train, weights_line


@given(seed=st.integers(0, 200))
def test_points_are_separable_and_learnt_within_the_bound(seed: int) -> None:
    x, y = points(seed)
    margin = (2 * y - 1) * (with_ones(x) @ [-1, 1, 2]) / 6**0.5
    bound = (np.linalg.norm(with_ones(x), axis=1).max() / margin.min()) ** 2
    trained = train("points", seed=seed, epochs=1000)
    assert len(x) == 40
    assert margin.min() > 0
    assert trained.history.converged
    assert len(trained.history.updates) <= bound


@pytest.mark.parametrize(
    ("problem", "converges"), [("and", True), ("or", True), ("xor", False), ("points", True)]
)
def test_what_converges(problem: str, converges: bool) -> None:
    assert train(problem).history.converged == converges


@pytest.mark.parametrize(
    ("weight", "bias", "line"),
    [
        ([0.5, -0.8], [-1], "z = 0.5*x1 - 0.8*x2 - 1"),
        ([-0.5, 0.8], [0], "z = -0.5*x1 + 0.8*x2 + 0"),
        ([0, 2], False, "z = 0*x1 + 2*x2"),
    ],
)
def test_the_line_in_numbers(weight: list[float], bias: object, line: str) -> None:
    assert weights_line(Perceptron(2, weight=[weight], bias=bias)) == line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"problem": "xr"}, "did you mean xor"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"eta": 0.0}, "eta must be above 0"),
    ],
)
def test_mistakes(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        train(**options)  # type: ignore[arg-type]
