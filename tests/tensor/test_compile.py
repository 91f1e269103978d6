"""Compiled steps: they agree with uncompiled ones, what retraces, what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.graph import place
from chainrule.errors import (
    IndexRangeError,
    LeakedTensorError,
    ManyPlansWarning,
    NoGradientError,
    OptionError,
    TracedValueError,
)
from chainrule.tensor import compile as module
from chainrule.tensor import state


def traces(function: module.Compiled) -> int:
    return function._traces


class Problem:
    """A small classifier with dropout, and the same step compiled or not."""

    def __init__(self, compiled: bool, **options: Any) -> None:
        cr.manual_seed(3)
        self.model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.4), nn.Linear(5, 3))
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.01, **options)
        self.calls = 0

        def step(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
            self.calls += 1
            loss = nn.functional.cross_entropy(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            return loss

        self.step = cr.compile(step) if compiled else step

    def run(self, steps: int = 4) -> list[Any]:
        random = np.random.default_rng(0)
        losses = []
        for _ in range(steps):
            x = cr.tensor(random.normal(size=(6, 4)), cr.float32)
            losses.append(self.step(x, cr.tensor(random.integers(0, 3, 6))).item())
        return [losses, *(p.tolist() for p in self.model.parameters())]


def test_compiled_and_uncompiled_agree() -> None:
    """Each has the same bits every time; on one executor both have the same, else they round."""
    compiled, uncompiled = Problem(True).run(), Problem(False).run()
    assert Problem(True).run() == compiled
    assert Problem(False).run() == uncompiled
    for a, b in zip(compiled, uncompiled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    cr.set_executor("interpreter")
    assert Problem(True).run() == Problem(False).run()


def test_side_effects_happen_once() -> None:
    problem = Problem(True)
    problem.run(5)
    assert problem.calls == 1


def test_dropout_draws_a_new_mask_per_call() -> None:
    drop = cr.compile(lambda x: nn.functional.dropout(x, 0.5))
    cr.manual_seed(1)
    masks = [drop(cr.ones(50)).tolist() for _ in range(3)]
    assert len({tuple(mask) for mask in masks}) == 3
    cr.manual_seed(1)
    assert masks == [nn.functional.dropout(cr.ones(50)).tolist() for _ in range(3)]


def test_dead_draws_advance() -> None:
    def draws() -> cr.Tensor:
        cr.rand(3)  # nobody reads it
        return cr.rand(3)

    compiled = cr.compile(draws)
    cr.manual_seed(5)
    expected = [draws().tolist(), cr.rand(2).tolist()]
    cr.manual_seed(5)
    assert [compiled().tolist(), cr.rand(2).tolist()] == expected


# ------------------------------------------------------------------------------ keys


def test_floats_and_arrays_are_values() -> None:
    @cr.compile
    def f(x: Any, a: Any, b: Any) -> Any:
        return x * a + b

    assert f(cr.ones(2), 0.5, np.array([1, 2])).tolist() == [1.5, 2.5]
    assert f(cr.ones(2), 2.5, np.array([3, 4])).tolist() == [5.5, 6.5]
    assert traces(f) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_weak(dtype: str) -> None:
    def f(x: cr.Tensor, a: float, b: float) -> cr.Tensor:
        y = x * (a / 3 + b) - cr.where(x > a, b, x) ** a
        return cr.maximum(y, a) + cr.clamp(y, -b, b) + (1 - a) * b

    x = cr.tensor([0.3, 0.7], dtype)
    assert cr.compile(f)(x, 0.1, 0.7).tolist() == f(x, 0.1, 0.7).tolist()
    assert cr.compile(f)(x, 0.1, 0.7).dtype == x.dtype


def test_a_float_beside_whole_numbers_takes_the_default_type() -> None:
    f = cr.compile(lambda x, a: x * a)
    assert f(cr.tensor([1, 2]), 0.5).dtype == cr.float32


def test_whole_numbers_strings_and_truth_values_are_static() -> None:
    @cr.compile
    def f(x: Any, n: int, mode: str = "add", negate: bool = False) -> Any:
        y = x + n if mode == "add" else x * n
        return -y if negate else y

    x = cr.ones(1)
    results = [f(x, 2), f(x, 3), f(x, 3, "mul"), f(x, 3, mode="mul"), f(x, 3, "add", True)]
    assert [r.item() for r in results] == [3, 4, 3, 3, -4]
    assert traces(f) == 5
    assert f(x, 3, mode="mul").item() == 3
    assert traces(f) == 5
    assert f(x, True).item() == 2  # True is not 1
    assert traces(f) == 6


def test_containers() -> None:
    from typing import NamedTuple

    class Pair(NamedTuple):
        a: Any
        b: Any

    @cr.compile
    def f(batch: dict[str, Any], pair: Pair, *more: Any, **named: Any) -> Any:
        assert isinstance(pair, Pair)
        total = batch["x"] + pair.a * pair.b + sum(more) + named["z"][0]
        return {"total": total, "parts": [Pair(total, batch["x"]), (1, "a", None)], "rate": 0.5}

    result = f({"x": cr.ones(1)}, Pair(cr.ones(1), 2.0), cr.ones(1), z=[cr.ones(1)])
    assert result["total"].item() == 5
    pair, rest = result["parts"]
    assert type(pair) is Pair
    assert pair.b.item() == 1
    assert rest == (1, "a", None)
    assert result["rate"] == 0.5


def test_what_can_not_be_an_argument() -> None:
    with pytest.raises(OptionError, match="an argument of a compiled function must be a tensor"):
        cr.compile(lambda x: x)({1, 2})


def test_captured_tensors_arrays_and_parameters() -> None:
    w = cr.tensor(2.0, requires_grad=True)
    before = w.clone()
    lazy = cr.ones(2) * 3
    array = np.ones(2, np.float32)
    f = cr.compile(lambda x: x * lazy * array + cr.tensor([1.0, 2.0]) + before + w)
    assert f(cr.ones(2)).tolist() == [8, 9]
    array[:] = 100  # a frozen copy was taken
    w.fill_(3.0)
    assert f(cr.ones(2)).tolist() == [9, 10]


def test_parameters_as_arguments_stay_parameters() -> None:
    w = cr.tensor(2.0, requires_grad=True)
    v = cr.tensor(5.0, requires_grad=True)

    @cr.compile
    def step(w: Any, x: Any) -> Any:
        loss = (w * x) ** 2
        loss.backward()
        w -= 0.1 * w.grad
        w.grad.zero_()
        return loss

    for p in (w, v, w):
        step(p, cr.tensor(1.0))
    assert (w.item(), v.item()) == (pytest.approx(1.28), pytest.approx(4.0))
    assert traces(step) == 2


def test_modes_and_structure_retrace() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    f = cr.compile(lambda x: model(x))
    x = cr.ones(1, 2)
    count = 0
    for change in (
        lambda: None, model.eval, model.freeze, model.unfreeze,
        lambda: model.append(nn.ReLU()), lambda: setattr(model[1], "p", 0.1),
    ):  # fmt: skip
        change()
        f(x)
        f(x)
        count += 1
        assert traces(f) == count
    model.train()
    f(x)
    assert traces(f) == count + 1
    model.eval()
    f(x)
    assert traces(f) == count + 2
    for change in (model.train, model.eval, model.train):  # both modes were traced before
        change()
        f(x)
    assert traces(f) == count + 2
    count += 2
    setattr(model[1], "p", model[1].p)  # noqa: B010
    f(x)
    assert traces(f) == count
    assert (f(x).numpy() >= 0).all()


def test_train_inside_the_step_is_no_change() -> None:
    model = nn.Linear(2, 1)

    @cr.compile
    def step(x: Any) -> Any:
        model.train()
        return model(x)

    for _ in range(3):
        step(cr.ones(1, 2))
    assert traces(step) == 1


def test_lr_does_not_retrace() -> None:
    problem = Problem(True)
    problem.run(1)
    before = problem.model[0].weight.tolist()
    problem.optimizer.lr = 0.0
    problem.run(1)
    assert problem.model[0].weight.tolist() == before
    problem.optimizer.param_groups[0]["lr"] = 0.1
    problem.run(1)
    assert problem.model[0].weight.tolist() != before
    assert problem.calls == 1


def test_plans_used_last_are_kept() -> None:
    f = cr.compile(lambda x: x * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ManyPlansWarning)
        for n in range(40):
            f(cr.ones(1))
            f(cr.ones(n + 2))
    assert len(f._entries) == 32
    f(cr.ones(1))
    assert traces(f) == 41


def test_the_ninth_shape_names_the_axis() -> None:
    @cr.compile
    def step(x: Any, y: Any) -> Any:
        return (x * y).sum()

    for n in range(1, 9):
        step(cr.ones(3, n, 2), cr.ones(1))
    with pytest.warns(ManyPlansWarning) as caught:
        step(cr.ones(3, 9, 2), cr.ones(1))
    assert str(caught[0].message).split(": ", 1)[1] == (
        "step was compiled 9 times, because axis 1 of argument 0 has many lengths "
        "(1, 2, 3, 4 ...); each time costs a new trace.\n"
        "  Mend: drop the last, smaller batch (drop_last=True), "
        "or pad this axis to a few fixed lengths"
    )


def test_the_ninth_plan_names_a_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    step = cr.compile(lambda x, epoch: x)
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    for epoch in range(8):
        step(cr.ones(1), epoch)
    with pytest.warns(ManyPlansWarning, match=r"整数、字符串或容器在变化[^{]*用浮点数或张量传入"):
        step(cr.ones(1), 8)


def test_the_ninth_plan_names_a_changing_module() -> None:
    model = nn.Dropout(0.5)
    step = cr.compile(lambda x: model(x))
    for epoch in range(8):
        model.p = epoch / 10
        step(cr.ones(1))
    model.p = 0.8
    with pytest.warns(ManyPlansWarning, match="train, eval, freeze"):
        step(cr.ones(1))


# ------------------------------------------------------------------------------ kinds of functions


def test_a_compiled_model_keeps_its_face() -> None:
    model = nn.Linear(2, 1)
    fast = cr.compile(model)
    assert [p.shape for p in fast.parameters()] == [(1, 2), (1,)]
    assert fast(cr.ones(3, 2)).tolist() == model(cr.ones(3, 2)).tolist()
    with pytest.raises(NoGradientError, match="what a compiled function returns is data"):
        fast(cr.ones(3, 2)).sum().backward()


def test_methods() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.fc = nn.Linear(2, 1)

        @cr.compile
        def loss(self, x: Any) -> Any:
            return self.fc(x).sum()

    a, b = Net(), Net()
    assert a.loss(cr.ones(1, 2)).item() == a.fc(cr.ones(1, 2)).sum().item()
    assert b.loss(cr.ones(1, 2)).item() == b.fc(cr.ones(1, 2)).sum().item()


def test_nested() -> None:
    inner = cr.compile(lambda x: x * 2)
    outer = cr.compile(lambda x: inner(x) + 1)
    assert outer(cr.ones(1)).item() == 3
    assert traces(inner) == 0


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("asked", "function"),
    [
        ("bool() (an if or while on a tensor)", lambda x: x if x.sum() > 0 else -x),
        ("int()", lambda x: int(x.sum())),
        ("float()", lambda x: float(x.sum())),
        ("item()", lambda x: x.sum().item()),
        ("numpy()", lambda x: x.numpy()),
        ("tolist()", lambda x: x.tolist()),
        ("np.asarray()", lambda x: np.asarray(x)),
        ("a boolean mask (its count is a shape)", lambda x: x[x > 0]),
        ("float()", lambda x: [float(row) for row in x]),
    ],
)
def test_values_inside(asked: str, function: Any) -> None:
    with pytest.raises(TracedValueError) as caught:
        cr.compile(function)(cr.ones(3))
    assert f"{asked} needs the value of a tensor, but inside a compiled step" in str(caught.value)
    assert "test_compile.py:" in str(caught.value)
    assert place.trace == 0
    assert state.current() is state.eager


def test_iteration_goes_over_rows() -> None:
    assert cr.compile(lambda x: sum(row * 2 for row in x))(cr.ones(3)).item() == 6


def test_leaked_tensors() -> None:
    kept: list[Any] = []
    f = cr.compile(lambda x: kept.append(x * 2) or x)
    f(cr.ones(2))
    message = (
        r"this tensor was made inside a compiled step \(mul at test_compile\.py:\d+\) and kept "
        r"after it; it never gets a value\.\n  Mend: return it from the step"
    )
    with pytest.raises(LeakedTensorError, match=message):
        kept[0].tolist()
    with pytest.raises(LeakedTensorError):
        (kept[0] + 1).tolist()
    with pytest.raises(LeakedTensorError):
        cr.compile(lambda x: x + kept[0])(cr.ones(2))
    assert (cr.ones(1) + 1).item() == 2


def test_a_leaked_tensor_written_to_a_variable() -> None:
    kept: list[Any] = []
    cr.compile(lambda x: kept.append(x * 2) or x)(cr.ones(2))
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    w.copy_(kept[0])
    with pytest.raises(LeakedTensorError):
        w.tolist()
    assert w.tolist() == [1, 2]


def test_an_exception_while_tracing_leaves_nothing_behind() -> None:
    problem = Problem(True)
    w = problem.model[0].weight
    before = w.tolist()

    @cr.compile
    def broken(x: Any) -> None:
        problem.optimizer.step(problem.model(x).sum())
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        broken(cr.ones(1, 4))
    assert place.trace == 0
    assert place.scope == ()
    assert state.current() is state.eager
    assert w.tolist() == before
    assert w.grad is None
    assert problem.run() == Problem(True).run()


def test_a_bad_label_in_a_compiled_step_changes_nothing() -> None:
    expected = Problem(True).run()
    problem = Problem(True)
    before = problem.model.state_dict()
    with pytest.raises(IndexRangeError):
        problem.step(cr.ones(2, 4), cr.tensor([0, 3]))
    assert {k: v.tolist() for k, v in problem.model.state_dict().items()} == {
        k: v.tolist() for k, v in before.items()
    }
    assert problem.run() == expected


def test_a_bad_label_is_noticed_when_the_loss_is_not_returned() -> None:
    model = nn.Linear(2, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @cr.compile
    def step(x: Any, y: Any) -> None:
        optimizer.step(nn.functional.cross_entropy(model(x), y))

    step(cr.ones(1, 2), cr.tensor([0]))
    before = model.weight.tolist()
    with pytest.raises(IndexRangeError):
        step(cr.ones(1, 2), cr.tensor([3]))
    assert model.weight.tolist() == before
