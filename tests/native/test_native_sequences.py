"""Loops and the sequence models of the benchmarks (W5, W6), on the native engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shuffled import shuffled
from steps import Training

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.graph import Array, Graph, TensorType
from chainrule.core.op import input
from chainrule.core.ops.linear import MATMUL
from chainrule.core.ops.scan import scan
from chainrule.core.subgraph import Subgraph, placeholder
from chainrule.errors import IndexRangeError
from chainrule.run import interpreter
from chainrule.run.native.plan import Plan
from chainrule.run.native.task import Loop, Task
from chainrule.run.native.team import team

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from sequences import LENGTH, VOCABULARY, gpt, letters

pytestmark = pytest.mark.usefixtures("threads")

MODELS: dict[str, tuple[Callable[[Any], Any], Callable[..., optim.Optimizer]]] = {
    "w5": (letters, lambda p: optim.Adam(p, lr=1e-3)),
    "w6": (gpt, lambda p: optim.AdamW(p, lr=1e-3)),
}


def training(name: str) -> Training:
    make, optimizer = MODELS[name]
    cr.manual_seed(0)
    model = make(nn)
    updates = optimizer(model.parameters())

    def step(inputs: cr.Tensor, classes: cr.Tensor) -> cr.Tensor:
        loss = nn.functional.cross_entropy(model(inputs).reshape(-1, VOCABULARY), classes)
        loss.backward()
        updates.step()
        return loss

    return Training(cr.compile(step), model, updates)


def texts(count: int, batch: int = 32) -> list[tuple[Array, Array]]:
    """Every letter follows from the one before, so that the loss falls."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        text = (rng.integers(0, VOCABULARY, (batch, 1)) + 7 * np.arange(LENGTH + 1)) % VOCABULARY
        made.append((text[:, :-1].copy(), text[:, 1:].reshape(-1).copy()))
    return made


def bits(trained: Training, losses: list[float]) -> bytes:
    return b"".join([*(array.tobytes() for array in trained.state()), np.array(losses).tobytes()])


@pytest.mark.parametrize("name", MODELS)
def test_losses_follow_the_interpreter(name: str) -> None:
    losses = {}
    for executor in ("native", "interpreter"):
        cr.set_executor(executor)
        made = training(name)
        losses[executor] = made.run(texts(10, batch=3))
        if executor == "native":
            assert isinstance(made.plan(), Plan)
    np.testing.assert_allclose(losses["native"], losses["interpreter"], atol=1e-3)
    assert losses["native"][-1] < losses["native"][0]


@pytest.mark.parametrize("name", MODELS)
def test_bits_do_not_depend_on_the_number_of_threads(name: str) -> None:
    cr.set_executor("native")
    found = set()
    for count in (1, 2, 3):
        team.set_threads(count)
        made = training(name)
        found.add(bits(made, made.run(texts(20))))
    assert len(found) == 1


@pytest.mark.parametrize("name", MODELS)
def test_bits_do_not_depend_on_the_order_of_tiles(name: str) -> None:
    cr.set_executor("native")
    data = texts(3, batch=5)
    made = training(name)
    expected = bits(made, made.run(data))
    made = training(name)
    losses = made.run(data[:1])
    for seed, batch in enumerate(data[1:]):
        with shuffled(made.plan(), seed):
            losses += [made.step(*batch)]
        losses[-1] = float(losses[-1])
    assert bits(made, losses) == expected


def test_threads_share_the_cells_of_a_step() -> None:
    """They are few, but with a long chain of ops for each."""
    cr.set_executor("native")
    made = training("w5")
    made.run(texts(1))
    (forward, *_) = (each for each in made.plan().tasks if isinstance(each, Loop))
    cells = [each for each in forward.tasks if isinstance(each, Task) and each.spec[0] == "rows"]
    assert [each.tiles for each in cells] == [4]


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_as_accurate_as_pytorch(name: str) -> None:
    """Relative L2 error of the first step's gradients against float64: at most twice PyTorch's."""
    cr.set_executor("native")
    cr.manual_seed(0)
    make = MODELS[name][0]
    model = make(nn)
    ((inputs, classes),) = texts(1, batch=8)

    def step(inputs: cr.Tensor, classes: cr.Tensor) -> list[cr.Tensor]:
        scores = model(inputs).reshape(-1, VOCABULARY)
        nn.functional.cross_entropy(scores, classes).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    names = [name for name, _ in model.named_parameters()]
    start = {name: torch.tensor(x.numpy()) for name, x in model.state_dict().items()}

    def reference(dtype: torch.dtype) -> Array:
        twin = make(torch.nn).to(dtype)
        twin.load_state_dict({name: x.to(dtype) for name, x in start.items()})
        scores = twin(torch.tensor(inputs)).reshape(-1, VOCABULARY)
        torch.nn.functional.cross_entropy(scores, torch.tensor(classes)).backward()
        found = dict(twin.named_parameters())
        return flat([found[name].grad.double().numpy() for name in names])

    def flat(arrays: list[Array]) -> Array:
        return np.concatenate([array.ravel().astype(np.float64) for array in arrays])

    found = flat([gradient.numpy() for gradient in cr.compile(step)(inputs, classes)])
    exact, theirs = reference(torch.float64), reference(torch.float32)
    assert np.linalg.norm(found - exact) <= 2 * np.linalg.norm(theirs - exact)


def test_a_bad_letter_changes_nothing() -> None:
    cr.set_executor("native")
    made = training("w5")
    ((inputs, classes),) = texts(1)
    made.run([(inputs, classes)])
    before = bits(made, [])
    bad = inputs.copy()
    bad[3, 5] = VOCABULARY
    with pytest.raises(IndexRangeError):
        made.step(bad, classes)
    assert bits(made, []) == before


# ------------------------------------------------------------------------------ loops


def loop_graph(laps: int, reverse: bool, rows: int = 3, nested: bool = False) -> Graph:
    """A loop with two carries that change places, a product, and stacks of all kinds."""
    floats = np.dtype(np.float32)
    small = TensorType((rows, 4), floats)
    a, b, x = (placeholder(small, name) for name in "abx")
    w = placeholder(TensorType((4, 4), floats), "w")
    mixed = a @ w
    if nested:
        inner_a, inner_x = placeholder(small, "a"), placeholder(TensorType((4,), floats), "x")
        row = inner_a + inner_x
        body = Subgraph([inner_a, inner_x], [row * 0.5, inner_a])
        mixed, _ = scan(body, [mixed], [w], [], length=4)
    after = mixed * 0.5 + x
    body = Subgraph([a, b, x, w], [after, a, after, a, mixed, x])
    first, second = input(small, "first"), input(small, "second")
    xs = input(TensorType((laps, rows, 4), floats), "xs")
    weights = input(TensorType((4, 4), floats), "weights")
    results = scan(body, [first, second], [xs], [weights], length=laps, reverse=reverse)
    total = results[2] + results[3] * 2.0  # a stack that is read before it is handed out
    return Graph([first, second, xs, weights], [*results, total])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("laps", [1, 2, 7])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_loops(laps: int, reverse: bool, nested: bool, threads: int) -> None:
    rng = np.random.default_rng(laps)
    graph = loop_graph(laps, reverse, nested=nested)
    arrays = [rng.standard_normal(node.shape).astype(np.float32) for node in graph.inputs]
    team.set_threads(threads)
    plan = Plan(graph)
    assert sum(isinstance(task, Loop) for task in plan.tasks) == 1 + nested
    expected = interpreter.prepare(graph)(arrays, [])
    for _ in range(3):
        for found, wanted in zip(plan(arrays, []), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_loop_over_nothing() -> None:
    graph = loop_graph(3, reverse=False, rows=0)
    arrays = [np.zeros(node.shape, np.float32) for node in graph.inputs]
    for found, node in zip(Plan(graph)(arrays, []), graph.outputs, strict=True):
        assert found.shape == node.shape


def test_unused_results_cost_nothing() -> None:
    graph = loop_graph(5, reverse=False)
    full = Plan(graph)
    lean = Plan(Graph(graph.inputs, graph.outputs[:1]))
    assert len(lean.tasks) < len(full.tasks)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_products_of_whole_numbers(dtype: str) -> None:
    kind = np.dtype(dtype)
    a = input(TensorType((2, 3, 5), kind), "a")
    b = input(TensorType((2, 5, 4), kind), "b")
    graph = Graph([a, b], [MATMUL(a, b)])
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 200, node.shape).astype(kind) for node in graph.inputs]
    (found,) = Plan(graph)(arrays, [])
    np.testing.assert_array_equal(found, np.matmul(*arrays))
