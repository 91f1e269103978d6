"""Rosenblatt's perceptron: its rule, Novikoff's bound, and what it says about XOR."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import chainrule as cr
from chainrule.errors import MissingPackageError, OptionError, ShapeError
from chainrule.models import Perceptron
from chainrule.models.perceptron import History, plot_boundary, with_ones

SQUARE = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
XOR = [0, 1, 1, 0]


def test_the_case_of_the_course_page() -> None:
    perceptron = Perceptron(2, weight=[[0.5, 0.8]], bias=[-1.0])
    x = cr.tensor([3.0, 1.0])  # price, quality
    assert perceptron.linear(x).item() == pytest.approx(1.3)
    assert perceptron(x).item() == 1  # accept
    # It flips where .5 price + .8 - 1 = 0.
    assert perceptron(cr.tensor([[0.39, 1.0], [0.41, 1.0]])).tolist() == [[0], [1]]


def test_the_step_is_1_at_0() -> None:
    assert Perceptron(3)(cr.zeros(3)).tolist() == [1]


def test_the_rule_on_one_sample() -> None:
    perceptron = Perceptron(2, 2, weight=[[0.5, 0.8], [-1, 1]], bias=[-1, 0.5], eta=0.25)
    error = perceptron.correct(cr.tensor([3.0, 1.0]), cr.tensor([0.0, 1.0]))
    assert error.tolist() == [-1, 1]  # 1.3 -> 1 but 0 is right; -1.5 -> 0 but 1 is right
    np.testing.assert_allclose(
        perceptron.linear.weight.numpy(),
        [[0.5 - 0.75, 0.8 - 0.25], [-1 + 0.75, 1 + 0.25]],
        rtol=1e-6,
    )
    assert perceptron.linear.bias is not None
    np.testing.assert_allclose(perceptron.linear.bias.numpy(), [-1.25, 0.75], rtol=1e-6)


def by_hand(x: Any, y: Any, epochs: int, eta: float) -> list[tuple[int, int, Any, Any]]:
    """The rule in plain NumPy."""
    w, b, found = np.zeros((y.shape[1], x.shape[1])), np.zeros(y.shape[1]), []
    for epoch in range(1, epochs + 1):
        for row in range(len(x)):
            error = y[row] - (x[row] @ w.T + b >= 0)
            if error.any():
                w, b = w + eta * np.outer(error, x[row]), b + eta * error
                found.append((epoch, row, w, b))
    return found


# Whole numbers, so that float32 is exact and every margin at least 1.
COORDINATES = st.integers(-4, 4)
DATA = arrays.arrays(
    np.int64, st.tuples(st.integers(1, 10), st.integers(1, 3)), elements=COORDINATES
)


@given(x=DATA, draw=st.data(), outputs=st.integers(1, 3), eta=st.sampled_from([1.0, 0.5, 0.125]))
def test_every_correction_is_that_of_the_formula(
    x: Any, draw: st.DataObject, outputs: int, eta: float
) -> None:
    y = draw.draw(arrays.arrays(np.int64, (len(x), outputs), elements=st.integers(0, 1)))
    history = Perceptron(x.shape[1], outputs, eta=eta).fit(x, y, epochs=5)
    expected = by_hand(x, y, history.epochs, eta)
    assert len(history.updates) == len(expected)
    for update, (epoch, row, weight, bias) in zip(history.updates, expected, strict=True):
        assert (update.epoch, update.row) == (epoch, row)
        np.testing.assert_array_equal(update.weight, weight)
        np.testing.assert_array_equal(update.bias, bias)


@given(x=DATA, draw=st.data())
def test_separable_data_converges_within_novikoffs_bound(x: Any, draw: st.DataObject) -> None:
    line = draw.draw(arrays.arrays(np.int64, x.shape[1] + 1, elements=st.integers(-3, 3)))
    z = with_ones(x) @ line
    assume((z != 0).all())
    y = (z > 0).astype(int)
    radius = np.linalg.norm(with_ones(x), axis=1).max()
    margin = np.abs(z).min() / np.linalg.norm(line)
    bound = (radius / margin) ** 2
    perceptron = Perceptron(x.shape[1])
    history = perceptron.fit(x, y, epochs=math.floor(bound) + 2)
    assert history.converged
    assert len(history.updates) <= bound + 1e-9
    assert history.best_accuracy == 1
    assert perceptron(cr.tensor(x, cr.float32)).numpy()[:, 0].tolist() == y.tolist()


@given(x=DATA, draw=st.data())
def test_the_bias_is_a_weight_of_an_input_1(x: Any, draw: st.DataObject) -> None:
    y = draw.draw(arrays.arrays(np.int64, len(x), elements=st.integers(0, 1)))
    first = Perceptron(x.shape[1]).fit(x, y, epochs=6)
    second = Perceptron(x.shape[1] + 1, bias=False).fit(with_ones(x), y, epochs=6)
    assert [update.row for update in first.updates] == [update.row for update in second.updates]
    for one, other in zip(first.updates, second.updates, strict=True):
        np.testing.assert_array_equal(np.append(one.bias, one.weight), other.weight[0])


# ------------------------------------------------------------------------------ not separable


@given(x=DATA, draw=st.data())
def test_a_circle_proves_that_no_line_separates(x: Any, draw: st.DataObject) -> None:
    y = draw.draw(arrays.arrays(np.int64, len(x), elements=st.integers(0, 1)))
    history = Perceptron(x.shape[1]).fit(x, y, epochs=30)
    meeting = history.meeting_point()
    if meeting is None:
        return
    assert not history.converged
    _, point = meeting
    for label, sign in ((1, 1), (0, -1)):
        rows = [update.row for update in history.circle if update.error[0] == sign]
        assert set(y[rows]) == {label}
        np.testing.assert_allclose(x[rows].mean(axis=0), point, atol=1e-6)


def test_xor_does_not_converge_and_says_why() -> None:
    history = Perceptron(2).fit(SQUARE, XOR, epochs=50)
    assert not history.converged
    assert history.best_accuracy == 0.75
    assert history.report().splitlines() == [
        "Did not converge: 4 mistakes in epoch 3, 10 corrections so far.",
        "It never will: after 4 corrections the weights were the same as before them.",
        "Why: with each sample counted as often as it was corrected, both classes of output 1 "
        "have the mean (0.5, 0.5).",
        "No straight line can have this point on both of its sides.",
        "The best weights found had 3 of 4 samples right.",
    ]


def test_xor_in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    report = Perceptron(2).fit(SQUARE, XOR, epochs=50).report()
    assert "没有收敛" in report
    assert "(0.5, 0.5)" in report
    assert "判对了 4 个样本中的 3 个" in report


def test_the_best_weights_are_as_good_as_said() -> None:
    perceptron = Perceptron(2)
    history = perceptron.fit(SQUARE, XOR, epochs=50)
    assert history.best_weights is not None
    weight, bias = history.best_weights
    right = (SQUARE @ weight.T + bias >= 0)[:, 0] == XOR
    assert right.mean() == history.best_accuracy
    # The search for them leaves the perceptron with the weights of the rule.
    np.testing.assert_array_equal(perceptron.linear.weight.numpy(), history.updates[-1].weight)


def test_an_unfinished_run_does_not_claim_more_than_it_knows() -> None:
    history = Perceptron(2).fit(SQUARE, XOR, epochs=1)
    assert history.circle == []
    assert "a finite run can't tell" in history.report()


def test_and_converges() -> None:
    history = Perceptron(2).fit(SQUARE, [0, 0, 0, 1])
    assert history.report() == (
        "Converged: epoch 6 passed without a mistake, after 11 corrections."
    )
    assert sum(map(history.mistakes, range(1, 7))) == 11


def test_several_outputs_learn_each_their_own_question() -> None:
    questions = np.array([[0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 0, 0]]).T
    perceptron = Perceptron(2, 3)
    history: History = perceptron.fit(SQUARE, questions)
    assert history.converged
    assert perceptron(cr.tensor(SQUARE, cr.float32)).tolist() == questions.tolist()


# ------------------------------------------------------------------------------ mistakes, pictures


def test_labels_of_minus_one() -> None:
    with pytest.raises(OptionError, match=r"a label must be 0 or 1, but got -1[\s\S]*not -1"):
        Perceptron(2).fit(SQUARE, [-1, 1, 1, 1])


@pytest.mark.parametrize(("x", "y"), [(SQUARE[:, :1], XOR), (SQUARE, XOR[:3]), (SQUARE[0], XOR)])
def test_shapes_that_do_not_fit(x: Any, y: Any) -> None:
    with pytest.raises(ShapeError, match=r"expected|\(samples, 2\)"):
        Perceptron(2).fit(x, y)


def test_the_boundary_is_drawn(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    perceptron = Perceptron(2)
    perceptron.fit(SQUARE, [0, 0, 0, 1])
    path = tmp_path / "边界 line.png"
    plot_boundary(perceptron, SQUARE, [0, 0, 0, 1], path, names=("price", "quality"))
    with image.open(path) as picture:
        assert picture.size == (500, 500)
        drawn = np.asarray(picture.convert("L"))
    plot_boundary(Perceptron(2), SQUARE, [0, 0, 0, 1], path)  # w = 0: no line
    with image.open(path) as picture:
        assert (np.asarray(picture.convert("L")) != drawn).sum() > 200


def test_the_boundary_needs_two_features(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="2 features"):
        plot_boundary(Perceptron(3), np.zeros((4, 3)), XOR, tmp_path / "x.png")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r'pip install "chainrule\[plot\]"'):
        plot_boundary(Perceptron(2), SQUARE, XOR, tmp_path / "x.png")
