"""Inference plans: what is kept, folded norms, and samples that do not depend on their batch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shuffled import shuffled

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.graph import Array
from chainrule.run.native import plan as plans
from chainrule.run.native.plan import Plan
from chainrule.run.native.target import host
from chainrule.run.native.team import team

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from inference import data_of
from workloads import WORKLOADS

pytestmark = pytest.mark.usefixtures("threads")

# Rounding of one float32 operation, relative.
UNIT = 2.0**-24


@pytest.fixture(autouse=True)
def native() -> None:
    cr.set_executor("native")


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode, with statistics, scales and shifts as after some training."""
    rng = np.random.default_rng(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            n = module.running_mean.shape[0]
            state = {"running_mean": rng.standard_normal(n), "running_var": rng.random(n) + 0.2}
            if module.weight is not None:
                state |= {"weight": rng.random(n) + 0.5, "bias": rng.standard_normal(n)}
            known = module.state_dict()
            known |= {name: cr.tensor(x.astype(np.float32)) for name, x in state.items()}
            module.load_state_dict(known)
    model.eval()
    return model


def compiled(model: nn.Module) -> Any:
    return cr.compile(lambda x: model(x))


def plan_of(run: Any) -> Plan:
    """The plan of the one shape that was run."""
    (entry,) = run._entries.values()
    assert isinstance(entry.plan, Plan)
    return entry.plan


def kernels(plan: Plan) -> list[str]:
    return [task.spec[0] for task in plan.tasks if hasattr(task, "spec")]


def steps(plan: Plan) -> set[str]:
    """The ops of all programs that run every time."""
    programs = [getattr(task.spec[1], "program", None) for task in plan.tasks]  # type: ignore[union-attr]
    return {step.op for program in programs if program for step in program.steps}


# ------------------------------------------------------------------------------ a sample, a batch


def network(name: str, seed: int = 0) -> nn.Module:
    cr.manual_seed(seed)
    return shaken(WORKLOADS[name].model(nn))


def samples(name: str, count: int) -> Array:
    """Different ones, which the benchmark's may not be."""
    x = data_of(WORKLOADS[name], count)
    rng = np.random.default_rng(1)
    if x.dtype == np.int64:
        return rng.integers(0, 96, x.shape)
    return rng.standard_normal(x.shape).astype(np.float32)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_sample_gets_the_same_bits_in_any_batch(name: str) -> None:
    run, x = compiled(network(name)), samples(name, 64)
    whole = run(x).numpy()
    assert np.isfinite(whole).all()
    for batch in (1, 7):
        for first in (0, 7, 56):
            part = run(x[first : first + batch]).numpy()
            assert part.tobytes() == whole[first : first + batch].tobytes()


class First(nn.Module):
    """The first result of a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        made: cr.Tensor = self.layer(x)[0]
        return made


SMALL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (
        lambda: nn.Sequential(nn.Linear(401, 37), nn.BatchNorm1d(37), nn.Tanh(), nn.Linear(37, 5)),
        (401,),
    ),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.GELU(), nn.MaxPool2d(2),
            nn.Conv2d(7, 6, (3, 2), stride=2, groups=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ),
        (3, 19, 13),
    ),
    "depthwise": (
        lambda: nn.Sequential(nn.Conv2d(6, 12, 5, padding=2, groups=6), nn.BatchNorm2d(12)),
        (6, 11, 9),
    ),
    "recurrent": (lambda: First(nn.LSTM(5, 19, 2, batch_first=True, bidirectional=True)), (9, 5)),
    "gated": (lambda: First(nn.GRU(5, 300, batch_first=True)), (6, 5)),
    "attention": (lambda: nn.TransformerEncoderLayer(12, 3, 20, batch_first=True), (11, 12)),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_odd_sizes_too(name: str) -> None:
    make, shape = SMALL[name]
    cr.manual_seed(0)
    run = compiled(shaken(make()))
    x = np.random.default_rng(0).standard_normal((64, *shape)).astype(np.float32)
    whole = run(x).numpy()
    for batch in (1, 2, 7):
        for first in (0, 7, 56):
            part = run(x[first : first + batch]).numpy()
            assert part.tobytes() == whole[first : first + batch].tobytes(), (batch, first)


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("batch", [1, 7])
def test_bits_depend_neither_on_threads_nor_on_order(
    name: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = samples(name, batch)
    model = network(name)
    run = compiled(model)
    expected = run(x).numpy().tobytes()
    for threads in (2, 3):
        team.set_threads(threads)
        assert compiled(model)(x).numpy().tobytes() == expected
    team.set_threads(1)
    plan = plan_of(run)
    for seed in range(3):
        plan._versions = [-1]  # let the prologue run again
        with shuffled(plan, seed):
            assert run(x).numpy().tobytes() == expected


@pytest.mark.parametrize("name", WORKLOADS)
def test_fused_and_unfused_have_the_same_bits(name: str) -> None:
    x = samples(name, 2)
    run = compiled(network(name))
    expected = run(x).numpy().tobytes()
    graph = plan_of(run).graph
    (found,) = Plan(graph, fused=False)([x], [v.value for v in graph.reads])
    assert found.tobytes() == expected


# ------------------------------------------------------------------------------ accuracy


def error(name: str, found: Array) -> float:
    """Relative L2 distance from the interpreter's results in float64, on two samples."""
    x = samples(name, 2)
    cr.set_executor("interpreter")
    double = x.astype(np.float64) if x.dtype == np.float32 else x
    exact: Array = compiled(network(name).double())(double).numpy()
    assert exact.dtype == np.float64
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("name", WORKLOADS)
def test_results_are_exact_but_for_rounding(name: str) -> None:
    """Sums are chains of up to 384 products, each rounded as it is added.

    Such errors are as good as random: a chain is off by about sqrt(384) units (Higham and Mary, "A
    new approach to probabilistic rounding error analysis", 2019). The chains of a sum, and what
    layers hand on, add up like random numbers too, and are small beside it.
    """
    found = compiled(network(name))(samples(name, 2)).numpy()
    assert error(name, found) <= 384**0.5 * UNIT


@pytest.mark.parametrize("name", ["W4", "W7"])
def test_folding_costs_no_accuracy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It rounds each weight once more and saves the rounding of a scaling and a shift per entry."""
    folded = compiled(network(name))(samples(name, 2)).numpy()
    monkeypatch.setattr(plans, "folded", lambda graph: graph)
    unfolded = compiled(network(name))(samples(name, 2)).numpy()
    assert folded.tobytes() != unfolded.tobytes()
    assert error(name, folded) <= 1.1 * error(name, unfolded)


PRODUCTS: dict[str, tuple[Callable[[], list[nn.Module]], tuple[int, ...]]] = {
    "convolution": (lambda: [nn.Conv2d(5, 9, 3, bias=False), nn.BatchNorm2d(9)], (3, 5, 8, 8)),
    "with bias": (lambda: [nn.Conv2d(5, 9, 3), nn.BatchNorm2d(9)], (3, 5, 8, 8)),
    "grouped": (lambda: [nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)], (3, 4, 8, 8)),
    "one axis": (lambda: [nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8)], (3, 4, 20)),
    "without scale": (
        lambda: [nn.Conv2d(5, 9, 3), nn.BatchNorm2d(9, affine=False)], (3, 5, 8, 8)
    ),
    "linear": (lambda: [nn.Linear(30, 9), nn.BatchNorm1d(9)], (6, 30)),
    "one row": (lambda: [nn.Linear(800, 70), nn.BatchNorm1d(70)], (1, 800)),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_norm_is_folded(name: str) -> None:
    """Each entry within the bound on the rounding of W' x + b', from its terms' sizes.

    A sum of n products, each rounded when it is added, is off by at most n units of the sum of
    sizes (Higham, "Accuracy and stability of numerical algorithms", 3.1); a weight W' has seen six
    roundings (var + eps, sqrt, quotient, scale, product, and eps itself), b' nine.
    """
    make, shape = PRODUCTS[name]
    cr.manual_seed(0)
    layer, norm = make()
    model = shaken(nn.Sequential(layer, norm, nn.ReLU()))
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    run = compiled(model)
    found = run(x).numpy()
    plan = plan_of(run)
    assert len(plan.tasks) == (2 if name == "one axis" else 1)  # there a reshape comes between
    assert steps(plan) == {"product", "load", "add", "constant", "less_equal", "where"}

    cr.set_executor("interpreter")
    double = x.astype(np.float64)
    exact = compiled(model.double())(double).numpy()
    assert np.count_nonzero(exact) > exact.size / 4
    scale = 1 / np.sqrt(norm.running_var.numpy() + norm.eps)
    shift = np.zeros_like(scale)
    if norm.weight is not None:
        scale, shift = norm.weight.numpy() * scale, norm.bias.numpy()
    offset = np.abs(norm.running_mean.numpy())
    weight = layer.weight.numpy()
    sizes = {"weight": np.abs(weight) * scale.reshape(-1, *[1] * (weight.ndim - 1))}
    if layer.bias is not None:
        offset = offset + np.abs(layer.bias.numpy())
        sizes["bias"] = np.zeros_like(scale)
    layer.load_state_dict({name: cr.tensor(each) for name, each in sizes.items()})
    terms = layer(cr.tensor(np.abs(double))).numpy()
    rest = (offset * scale + np.abs(shift)).reshape(1, -1, *[1] * (len(shape) - 2))
    bound = (weight[0].size + 7) * terms + 10 * rest
    assert (np.abs(found - exact) <= 1.01 * UNIT * bound).all()
    assert (np.abs(found - exact) > 0).any()


def test_a_norm_is_not_folded_where_the_product_is_read_twice() -> None:
    layer, norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
    shaken(nn.Sequential(layer, norm))
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)

    def both(x: cr.Tensor) -> tuple[cr.Tensor, cr.Tensor]:
        y = layer(x)
        return y, norm(y)

    found = cr.compile(both)(x)
    cr.set_executor("interpreter")
    for mine, theirs in zip(found, cr.compile(both)(x), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


def test_a_scaling_that_is_no_norm_stays_as_it_is() -> None:
    """The user's own formula is computed as written."""
    layer = nn.Conv2d(3, 4, 1)
    mean, scale, shift = (nn.Parameter(cr.randn(1, 4, 1, 1)) for _ in range(3))
    run = cr.compile(lambda x: (layer(x) - mean) * scale + shift)
    run(np.ones((2, 3, 4, 4), np.float32))
    assert {"sub", "mul"} <= steps(plan_of(run))


def test_rows_of_one_and_a_half_vectors_have_the_same_bits_however_they_are_cut() -> None:
    """An even number of rows makes vectors of two halves, an odd one vectors that run over ends."""
    lanes = host().lanes
    for stride, padding in ((1, 0), (1, 1), (2, 1)):
        cr.manual_seed(0)
        width = (lanes * 3 // 2 - 1) * stride + 3 - 2 * padding
        layer = nn.Conv2d(5, 20, 3, stride, padding)
        x = np.random.default_rng(0).standard_normal((2, 5, 30, width)).astype(np.float32)
        even, odd = (compiled(layer)(x[:, :, :rows].copy()).numpy() for rows in (30, 29))
        shared = min(even.shape[2], odd.shape[2]) - 1
        assert even.shape[3] == lanes * 3 // 2
        assert even[:, :, :shared].tobytes() == odd[:, :, :shared].tobytes()
        cr.set_executor("interpreter")
        np.testing.assert_allclose(even, compiled(layer)(x).numpy(), rtol=1e-5, atol=1e-5)
        cr.set_executor("native")


# ------------------------------------------------------------------------------ what is kept


def test_weights_are_packed_beforehand() -> None:
    for name in WORKLOADS:
        run = compiled(network(name))
        run(samples(name, 1))
        plan = plan_of(run)
        packing = {"pack_a", "pack_b", "pack_weights"}
        assert packing.isdisjoint(kernels(plan))
        assert packing & {task.spec[0] for task in plan.prologue if hasattr(task, "spec")}


def test_a_loop_reads_a_large_matrix_to_and_fro() -> None:
    """The same bits as a loop that reads it from its first panel on in every lap."""
    cr.manual_seed(0)
    layer = nn.RNN(30, 300, batch_first=True)
    x = np.random.default_rng(0).standard_normal((1, 7, 30)).astype(np.float32)
    run = cr.compile(lambda x: layer(x)[0])
    found = run(x).numpy()
    specs = [
        task.spec[1] for task in plan_of(run).tasks if getattr(task, "spec", " ")[0] == "matvec"
    ]
    assert [spec.turns for spec in specs] == [True]
    eight = cr.compile(lambda x: layer(x)[0])(np.repeat(x, 8, 0)).numpy()
    assert eight[5].tobytes() == found[0].tobytes()


def test_what_follows_from_variables_is_computed_when_they_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scale = nn.Parameter(cr.randn(40))
    layer = nn.Linear(30, 40)
    run = cr.compile(lambda x: layer(x) * cr.exp(scale) + (cr.arange(40) * 2.0))
    x = np.random.default_rng(0).standard_normal((3, 30)).astype(np.float32)
    run(x)
    plan = plan_of(run)
    assert "exp" not in steps(plan)
    heads: list[int] = []
    native_run = team.run

    def watched(head: int) -> int:
        heads.append(head)
        return native_run(head)

    monkeypatch.setattr(team, "run", watched)
    monkeypatch.setattr(plan, "runner", watched)
    run(x)
    assert heads == [plan.head]
    expected = np.exp(scale.numpy())
    with cr.no_grad():
        scale += 1.0
    again = run(x).numpy()
    assert heads[1:] == [plan._first_table.address, plan.head]
    y = (layer.weight.numpy() @ x.T).T + layer.bias.numpy()
    expected = y * np.exp(scale.numpy()) + np.arange(40) * 2
    np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-4)


def test_training_between_inferences_is_seen() -> None:
    """A training plan writes weights where they stand; the inference plan packs them again."""
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((8, 20)).astype(np.float32), rng.integers(0, 4, 8)

    def train(x: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    step, run = cr.compile(train), compiled(model)
    seen = []
    for _ in range(4):
        found = run(x).numpy()
        fresh = compiled(model)(x).numpy()
        assert found.tobytes() == fresh.tobytes()
        seen.append(found.tobytes())
        step(x, labels)
    assert len(set(seen)) == 4
    assert plan_of(step).prologue == []


def test_weights_that_are_loaded_are_seen() -> None:
    model, other = network("W4"), shaken(WORKLOADS["W4"].model(nn), seed=1)
    run, x = compiled(model), samples("W4", 2)
    before = run(x).numpy()
    model.load_state_dict(other.state_dict())
    after = run(x).numpy()
    assert before.tobytes() != after.tobytes()
    assert after.tobytes() == compiled(other)(x).numpy().tobytes()


def test_variables_handed_in_as_arrays() -> None:
    """Arrays that may be written to are looked at every time; frozen ones by identity."""
    run = compiled(nn.Linear(40, 50))
    x = np.random.default_rng(0).standard_normal((1, 40)).astype(np.float32)
    expected = run(x).numpy()
    plan = plan_of(run)
    held = [variable.value for variable in plan.graph.reads]
    for _ in range(2):
        assert plan([x], held)[0].tobytes() == expected.tobytes()
    mine = [array.copy() for array in held]
    assert plan([x], mine)[0].tobytes() == expected.tobytes()
    for array in mine:
        array *= 2
    np.testing.assert_allclose(plan([x], mine)[0], 2 * expected, rtol=1e-6)
    assert plan([x], held)[0].tobytes() == expected.tobytes()
    assert run(x).numpy().tobytes() == expected.tobytes()


def test_uncompiled_inference_agrees_with_compiled() -> None:
    for name in ("W1", "W4", "W5"):
        model, x = network(name), samples(name, 3)
        expected = compiled(model)(x).numpy()
        for _ in range(2):
            np.testing.assert_allclose(model(cr.tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-5)
