"""Whole training steps: the same losses as on the interpreter, the same bits on any threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from forced import TARGETS, forced, runs_here
from shuffled import shuffled
from steps import WORKLOADS, Training, batches

import chainrule as cr
from chainrule.core.arrays import Array, address
from chainrule.errors import IndexRangeError
from chainrule.run.native.plan import Plan
from chainrule.run.native.team import team

pytestmark = pytest.mark.usefixtures("threads")


def trained(make: Callable[[], Training], size: int, steps: int, executor: str) -> Training:
    cr.set_executor(executor)
    training = make()
    training.losses = training.run(batches(size, steps))  # type: ignore[attr-defined]
    return training


def assert_same_bits(a: list[Array], b: list[Array]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize("name", WORKLOADS)
def test_losses_follow_the_interpreter(name: str) -> None:
    make, size = WORKLOADS[name]
    found = trained(make, size, 10, "native")
    expected = trained(make, size, 10, "interpreter")
    assert isinstance(found.plan(), Plan)
    np.testing.assert_allclose(found.losses, expected.losses, atol=1e-3)  # type: ignore[attr-defined]
    assert found.losses[-1] < found.losses[0]  # type: ignore[attr-defined]
    for a, b in zip(found.state(), expected.state(), strict=True):
        if name == "w1":  # Adam divides small gradients by their size: it amplifies roundings
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WORKLOADS)
def test_bits_do_not_depend_on_the_number_of_threads(name: str) -> None:
    make, size = WORKLOADS[name]
    states = []
    for count in (1, 2, 3):
        team.set_threads(count)
        training = trained(make, size, 20, "native")
        states.append([*training.state(), np.array(training.losses)])  # type: ignore[attr-defined]
    assert_same_bits(states[0], states[1])
    assert_same_bits(states[0], states[2])


@pytest.mark.parametrize("name", WORKLOADS)
def test_bits_do_not_depend_on_the_order_of_tiles(name: str) -> None:
    """Any order that keeps the needs, any thread's memory: a missing need would show."""
    make, size = WORKLOADS[name]
    expected = trained(make, size, 20, "native")
    cr.set_executor("native")
    training = make()
    data = batches(size, 20)
    first = training.run(data[:1])
    losses = first
    for seed, batch in enumerate(data[1:]):
        with shuffled(training.plan(), seed):
            losses += [training.step(*batch)]
    losses = [float(loss) for loss in losses]
    assert losses == expected.losses  # type: ignore[attr-defined]
    assert_same_bits(training.state(), expected.state())


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("bad", [10, -1])
def test_a_bad_label_changes_nothing(count: int, bad: int) -> None:
    make, size = WORKLOADS["w1"]
    team.set_threads(count)
    training = trained(make, size, 2, "native")
    before = training.state()
    images, labels = batches(size, 1)[0]
    labels[7] = bad
    with pytest.raises(IndexRangeError, match=f"index {bad} at position 7 .* 10 classes"):
        training.step(images, labels)
    assert_same_bits(training.state(), before)
    assert training.run(batches(size, 1))[0] > 0  # and the next step runs


def test_an_interrupted_run_changes_nothing() -> None:
    make, size = WORKLOADS["w1"]
    training = trained(make, size, 2, "native")
    before = training.state()
    training.plan().interrupt()
    with pytest.raises(KeyboardInterrupt):
        training.run(batches(size, 1))
    assert_same_bits(training.state(), before)
    training.run(batches(size, 1))


def test_variables_stay_where_they_are() -> None:
    """Updated in place, on cache lines; an array that was handed out does not change."""
    make, size = WORKLOADS["w1"]
    training = trained(make, size, 2, "native")
    weight = next(iter(training.model.parameters()))
    seen = weight.variable.value
    kept = seen.copy()
    training.run(batches(size, 1))
    place = address(weight.variable.peek())
    assert place % 64 == 0
    training.run(batches(size, 3))
    assert address(weight.variable.peek()) == place
    np.testing.assert_array_equal(seen, kept)


def test_a_tensor_read_before_the_step_keeps_its_value() -> None:
    make, size = WORKLOADS["w1"]
    training = trained(make, size, 1, "native")
    weight = next(iter(training.model.parameters()))
    before: Any = weight.numpy()
    lazy = weight.detach() * 1
    training.run(batches(size, 1))
    np.testing.assert_array_equal(lazy.numpy(), before)
    assert (weight.numpy() != before).any()


@pytest.mark.parametrize("features", ["sse2", "avx2"])
def test_lesser_processors_come_near(features: str) -> None:
    """The kernels of older x86 processors, run on this one."""
    if not runs_here(TARGETS[features]):
        pytest.skip("another family of processors")
    make, size = WORKLOADS["w1"]
    expected = trained(make, size, 5, "interpreter")
    with forced(TARGETS[features]):
        found = trained(make, size, 5, "native")
    np.testing.assert_allclose(found.losses, expected.losses, atol=1e-4)  # type: ignore[attr-defined]


@pytest.mark.parametrize("executor", ["native", "interpreter"])
def test_the_callers_arrays_stay_the_callers(executor: str) -> None:
    """They are neither frozen, nor changed, nor seen again in results or variables."""
    cr.set_executor(executor)
    w = cr.tensor(np.zeros(3, np.float32), requires_grad=True)

    def step(x: cr.Tensor) -> tuple[cr.Tensor, cr.Tensor]:
        w.copy_(x)
        return x, x * 2

    compiled = cr.compile(step)
    data = np.arange(3, dtype=np.float32)
    same, double = compiled(data)
    data += 10
    assert same.tolist() == [0, 1, 2]
    assert w.tolist() == [0, 1, 2]
    assert double.tolist() == [0, 2, 4]
    assert compiled(data)[0].tolist() == [10, 11, 12]
