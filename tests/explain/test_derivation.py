"""What an explanation says is true: its formulas give its numbers, its numbers are the run's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.op import OPS
from chainrule.errors import NotScalarError, OptionError
from chainrule.explain import cases
from chainrule.explain.document import Explanation, explain
from chainrule.explain.notation import number, value
from chainrule.explain.steps import Line, Step
from chainrule.explain.words import WORDS

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softmax": lambda: nn.Softmax(-1),
    "log_softmax": lambda: nn.LogSoftmax(-1),
    "dropout": lambda: nn.Dropout(0.4),
}
LOSSES: dict[str, tuple[Callable[[], nn.Module], nn.Module | None]] = {
    "mse": (nn.MSELoss, None),
    "l1": (nn.L1Loss, None),
    "bce": (nn.BCELoss, nn.Sigmoid()),
    "bce_logits": (nn.BCEWithLogitsLoss, None),
    "cross_entropy": (nn.CrossEntropyLoss, None),
    "mse_sum": (lambda: nn.MSELoss(reduction="sum"), None),
}


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, Any, Any, nn.Module]:
    """A feed-forward network of depth 1-4, an input, a target and a loss, in float64."""
    cr.manual_seed(draw(st.integers(0, 10**6)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    widths = draw(st.lists(st.integers(1, 4), min_size=2, max_size=5))
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers.append(nn.Linear(inputs, outputs, bias=draw(st.booleans())))
        layers.append(ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))]())
    name = draw(st.sampled_from(sorted(LOSSES)))
    make, last = LOSSES[name]
    layers.append(nn.Linear(widths[-1], widths[-1]))
    if last is not None:
        layers.append(last)
    batch = draw(st.integers(0, 3))
    lead = (batch,) if batch else ()
    x = rng.normal(size=(*lead, widths[0]))
    target: Any = rng.uniform(0.1, 0.9, (*lead, widths[-1]))
    if name == "cross_entropy":
        target = np.asarray(rng.integers(0, widths[-1], lead))
    return nn.Sequential(*layers).double(), x, target, make()


def lines(explanation: Explanation) -> Iterator[tuple[Step, tuple[int, ...], Line]]:
    for step in explanation.steps:
        for index in step.indices(10**6):
            yield step, index, step.line(index)


def test_every_formula_gives_the_recorded_number() -> None:
    @settings(max_examples=40)
    @given(networks())
    def check(case: tuple[nn.Module, Any, Any, nn.Module]) -> None:
        model, x, y, loss = case
        made = explain(model, x, y, loss=loss)
        assert len(made.steps) > 5
        for step, index, line in lines(made):
            assert line.result == step.array[index]
            for formula in (line.formula, line.opened):
                np.testing.assert_allclose(value(formula), line.result, rtol=1e-9, atol=1e-12)
            shortcut = step.shortcut(index)
            if shortcut is not None:
                np.testing.assert_allclose(value(shortcut), line.result, rtol=1e-9, atol=1e-12)

    check()


def near_a_kink(made: Explanation) -> bool:
    """Whether some entry stands where a slope jumps, and a difference would straddle the jump."""
    recording = made.recording
    for node in recording.forward:
        if node.op.name in ("relu", "leaky_relu", "elu", "l1_loss"):
            operands = [np.asarray(recording.value(child)) for child in node.inputs]
            distance = operands[0] - operands[1] if len(operands) == 2 else operands[0]
            if np.any(np.abs(distance) < 1e-4):
                return True
    return False


def test_every_gradient_passes_the_central_difference() -> None:
    @settings(max_examples=40)
    @given(networks())
    def check(case: tuple[nn.Module, Any, Any, nn.Module]) -> None:
        model, x, y, loss = case
        made = explain(model, x, y, loss=loss)
        assume(not near_a_kink(made))
        gradients = 0
        for _, _, line in lines(made):
            if line.check is not None:
                gradients += 1
                np.testing.assert_allclose(line.result, line.check, rtol=1e-5, atol=1e-7)
                assert line.agrees
        assert gradients >= sum(p.numel() for p in model.parameters())

    check()


def test_the_numbers_are_those_of_the_model_and_the_update_is_the_optimizers() -> None:
    @settings(max_examples=40)
    @given(networks(), st.sampled_from(["sgd", "momentum", "adam"]))
    def check(case: tuple[nn.Module, Any, Any, nn.Module], kind: str) -> None:
        model, x, y, loss = case
        model.eval()  # so that the model's own pass draws no other masks
        make: dict[str, Callable[[], optim.Optimizer]] = {
            "sgd": lambda: optim.SGD(model.parameters(), lr=0.1),
            "momentum": lambda: optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
            "adam": lambda: optim.Adam(model.parameters(), lr=0.01),
        }
        optimizer = make[kind]()
        before = {name: p.numpy() for name, p in model.named_parameters()}
        made = explain(model, x, y, loss=loss, optimizer=optimizer)
        for name, p in model.named_parameters():
            np.testing.assert_array_equal(p.numpy(), before[name])  # only a snapshot was used
        steps = [step for step in made.steps if step.rule == "parameter_update"]
        exact = loss(model(cr.tensor(x)), cr.tensor(y))
        assert made.passes[0].loss == exact.item()
        exact.backward()
        optimizer.step()
        for step, p in zip(steps, model.parameters(), strict=True):
            np.testing.assert_allclose(step.array, p.numpy(), rtol=1e-12, atol=1e-15)

    check()


# ------------------------------------------------------------------------ the page's numbers


def entry(explanation: Explanation, name: str) -> float:
    """The number shown for a quantity, by its printed name."""
    return next(line.result for _, _, line in lines(explanation) if line.symbol.plain == name)


def test_the_exam_case() -> None:
    made = cases.build("exam", steps=4, lr=0.1)
    expected = {
        "z": 0.5,
        "a": 0.6225,
        "L": 0.4741,
        "dL/dL": 1,
        "dL/da": -1.6065,
        "da/dz": 0.2350,
        "dL/dz": -0.3775,
        "dL/dw1": -0.7551,
        "dL/dw2": -1.1326,
        "dL/db": -0.3775,
    }
    for name, exact in expected.items():
        assert entry(made, name) == pytest.approx(exact, abs=5e-5)
    losses = [one.loss for one in made.passes]
    assert losses == pytest.approx([0.4741, 0.3057, 0.2210, 0.1717], abs=5e-5)
    outputs = [one.prediction.item() for one in made.passes]
    assert outputs == pytest.approx([0.622, 0.737, 0.802, 0.842], abs=5e-4)
    assert "pass 62.2%" in str(made)
    assert "a - y" in str(made)


def test_mse_through_a_sigmoid_shrinks() -> None:
    made = cases.build("exam", loss="mse")
    a = 1 / (1 + np.exp(-0.5))
    assert entry(made, "dL/dz") == pytest.approx(2 * (a - 1) * a * (1 - a), abs=1e-6)
    assert entry(made, "dL/dz") == pytest.approx(-0.1774, abs=5e-5)


def test_the_perceptron() -> None:
    made = cases.build("perceptron")
    assert entry(made, "z") == pytest.approx(1.3)
    assert entry(made, "a") == 1
    assert made.outcome() == "accept"
    (price, at, now), _ = made.flips()
    assert (price, round(at, 6), now) == ("x1 (price)", 0.4, 3)
    assert cases.build("perceptron", settings={"x1": 0.39}).outcome() == "reject"
    assert cases.build("perceptron", settings={"x1": 0.41}).outcome() == "accept"


def test_hidden_gradients_sum_both_paths() -> None:
    """The 2-2-2 network of Mazur, "A step by step backpropagation example" (loss without 1/2)."""
    made = cases.build("two-layers", lr=0.5)
    assert entry(made, "a[2]_1") == pytest.approx(0.75136507, abs=1e-7)
    assert entry(made, "a[2]_2") == pytest.approx(0.772928465, abs=1e-7)
    assert entry(made, "L") == pytest.approx(0.298371109, abs=1e-7)
    assert entry(made, "dL/dw[2]_11") == pytest.approx(0.082167041, abs=1e-7)
    assert entry(made, "dL/da[1]_1") == pytest.approx(0.036350306, abs=1e-7)
    assert entry(made, "dL/dw[1]_11") == pytest.approx(0.000438568, abs=1e-8)
    line = next(line for _, _, line in lines(made) if line.symbol.plain == "dL/da[1]_1")
    assert line.reads == ("dL/dz[2]_1", "w[2]_11", "dL/dz[2]_2", "w[2]_21")


# ------------------------------------------------------------------------ how it behaves


def test_a_value_used_twice_shows_its_gradients() -> None:
    w = cr.tensor([2.0], dtype="float64", requires_grad=True)
    x, y = cr.tensor([3.0], dtype="float64"), cr.tensor([1.0], dtype="float64")
    made = explain(lambda x: w * x + w.sin(), x, y, loss=lambda p, y: (p - y).sum())
    line = next(line for _, _, line in lines(made) if line.symbol.plain == "dL/dp")
    assert len(line.paths) == 2
    assert sum(map(value, line.paths)) == pytest.approx(3 + np.cos(2.0))
    assert line.check == pytest.approx(3 + np.cos(2.0), rel=1e-6)


def test_a_kink_is_said() -> None:
    w = cr.tensor([0.0], dtype="float64", requires_grad=True)
    one = cr.tensor([1.0], dtype="float64")
    made = explain(lambda x: (w * x).relu(), one, one, loss=lambda p, y: (p - y).sum())
    assert "differs" in str(made)


def test_without_a_target_only_the_forward_pass() -> None:
    made = explain(nn.Linear(2, 1), [1.0, 2.0])
    assert {step.phase for step in made.steps} == {"forward"}


def test_frozen_parameters_have_no_gradient_and_no_update() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].freeze()
    made = explain(model, [1.0, 2.0], [1.0], loss=nn.MSELoss())
    names = {step.plain for step in made.steps}
    assert "dL/dW[2]" in names
    assert "dL/dW[1]" not in names


def test_lists_take_the_type_of_the_model() -> None:
    made = explain(nn.Linear(2, 1).double(), [1.0, 2.0], [1.0], loss=nn.MSELoss())
    assert {step.array.dtype.name for step in made.steps} == {"float64"}


def test_what_if() -> None:
    made = cases.build("exam", settings={"w1": 0.7, "y": 0})
    assert entry(made, "z") == pytest.approx(0.9)
    assert dict(made.given())["y"] == "0 (fail)"
    with pytest.raises(OptionError, match="did you mean w1"):
        cases.build("exam", settings={"w11": 0.7})


def test_mistakes() -> None:
    with pytest.raises(OptionError, match='"en" or "zh"'):
        explain(nn.Linear(2, 1), [1.0, 2.0], lang="fr")
    with pytest.raises(OptionError, match="at least 1"):
        explain(nn.Linear(2, 1), [1.0, 2.0], steps=0)
    with pytest.raises(OptionError, match="did you mean exam"):
        cases.build("exams")
    with pytest.raises(NotScalarError, match="explain"):
        explain(nn.Linear(2, 2), [1.0, 2.0], [0.0, 1.0], loss=nn.MSELoss(reduction="none"))


def test_a_large_tensor_is_folded_and_any_entry_can_be_opened() -> None:
    model = nn.Sequential(nn.Flatten(0), nn.Linear(64, 30), nn.Tanh(), nn.Linear(30, 10)).double()
    x = np.linspace(-1, 1, 64).reshape(8, 8)
    made = explain(model, x, np.asarray(3), loss=nn.CrossEntropyLoss())
    text = str(made)
    assert "30 x 64, 1920 entries; the first 4 are shown" in text
    assert len(text.splitlines()) < 120
    weights = next(step for step in made.steps if step.plain == "dL/dW[1]")
    line = weights.line((7, 33))
    assert line.symbol.plain == "dL/dw[1]_8,34"
    assert line.result == weights.array[7, 33]
    assert line.check == pytest.approx(line.result, rel=1e-5, abs=1e-9)


def test_one_entry_with_every_term() -> None:
    model = nn.Sequential(nn.Linear(8, 3), nn.Tanh(), nn.Linear(3, 1))
    made = explain(model, np.ones((5, 8)), np.ones((5, 1)), loss=nn.MSELoss())
    text = made.at("0.weight[2, 4]")
    assert text == made.at("w[1]_35")
    gradient, update = text.splitlines()
    assert gradient.startswith("dL/dw[1]_35 = dL/dz[1](1)_3*x(1)_5 + ")
    assert gradient.count("dL/dz[1](") == 5  # one term per sample
    assert "[check " in gradient
    assert update.startswith("w[1]_35 <- w[1]_35 - eta*dL/dw[1]_35 = ")
    assert "..." not in made.at("z[1](1)_1")
    with pytest.raises(OptionError, match="at must be"):
        made.at("0.weight[9, 9]")


def test_the_call_and_the_package_share_a_name() -> None:
    made = cr.explain(nn.Linear(1, 1), [1.0])
    assert isinstance(made, Explanation)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.5, "0.5"),
        (2.0, "2"),
        (0.62245933, "0.6225"),
        (0.2350037, "0.2350"),
        (-0.0000438, "-4.38e-05"),
        (0.0004386, "0.0004386"),
        (1234567.0, "1234567"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (-0.0, "0"),
    ],
)
def test_numbers_for_reading(x: float, text: str) -> None:
    assert number(x) == text


def test_every_word_is_there_in_both_languages() -> None:
    for key, found in WORDS.items():
        assert found.en, key
        assert found.zh, key
    hazards = {hazard.word for op in OPS.values() for hazard in op.hazards}
    assert hazards <= set(WORDS)
    made = cases.build("two-layers")
    assert {step.rule for step in made.steps} <= set(WORDS)


def test_one_entry_of_a_case() -> None:
    options = {"settings": {}, "steps": 1, "lr": 0.1, "loss": None, "full": False}
    text = cases.run("exam", **options, lang="en", format="text", at="w2")
    assert text.startswith("dL/dw2 = dL/dz*x2 = -0.3775*3 = -1.1326")


def test_a_function_with_several_results() -> None:
    w = cr.tensor([3.0, 1.0, 2.0], dtype="float64", requires_grad=True)
    x, y = cr.tensor([1.0, 2.0, 5.0], dtype="float64"), cr.zeros(3, dtype="float64")
    made = explain(lambda x: cr.sort(w * x)[0], x, y, loss=lambda p, y: ((p - y) ** 2).sum())
    shown = {line.symbol.plain: line for _, _, line in lines(made)}
    assert shown["u2_1"].reads == ("u1_2",)  # the smallest came from the second place
    assert shown["dL/du1_2"].reads == ("dL/du3_1",)
    for line in shown.values():
        assert value(line.formula) == pytest.approx(line.result)
        assert line.agrees
