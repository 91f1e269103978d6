"""Large batches run a few samples at a time: with the same bits, and only where no samples meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.graph import Array
from chainrule.run.native import batches
from chainrule.run.native.plan import Plan
from chainrule.run.native.task import Loop
from chainrule.run.native.team import team

pytestmark = pytest.mark.usefixtures("threads")

BATCH = 16
Function = Callable[[cr.Tensor], cr.Tensor]


@pytest.fixture(autouse=True)
def native() -> None:
    cr.set_executor("native")


def given(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal((BATCH, *shape)).astype(np.float32)


def plan_of(run: Any) -> Plan:
    """The plan of the one shape that was run."""
    (entry,) = run._entries.values()
    assert isinstance(entry.plan, Plan)
    return entry.plan


def parts(plan: Plan) -> int:
    """In how many parts the batch is run."""
    first = plan.tasks[0]
    return first.laps if isinstance(first, Loop) and first.tiles == len(plan.tasks) - 1 else 1


def compared(
    function: Callable[..., Any], arrays: list[Array], patch: pytest.MonkeyPatch
) -> tuple[int, list[bool]]:
    """The parts of the batch; for each result whether its bits are those of the whole batch."""
    found = []
    patch.setattr(batches, "_WEIGHTS", 1 << 30)
    for large in (0, 1 << 60):
        patch.setattr(batches, "_LARGE", large)
        run = cr.compile(lambda *xs: function(*xs))
        results = run(*arrays)
        results = results if isinstance(results, tuple) else (results,)
        found.append((parts(plan_of(run)), [each.numpy() for each in results]))
    (count, mine), (whole, theirs) = found
    assert whole == 1
    for a, b in zip(mine, theirs, strict=True):
        assert a.shape == b.shape
    return count, [a.tobytes() == b.tobytes() for a, b in zip(mine, theirs, strict=True)]


W = np.random.default_rng(1).standard_normal((12, 12)).astype(np.float32)

APART: dict[str, tuple[Function, tuple[int, ...]]] = {
    "ops on entries": (lambda x: cr.exp(x) * 2 + x.tanh(), (12,)),
    "a stretched operand": (lambda x: x + cr.tensor(W[0]) * cr.tensor(W[:5, :1]), (5, 12)),
    "a product": (lambda x: x @ cr.tensor(W), (12,)),
    "a product of sequences": (lambda x: x @ cr.tensor(W), (7, 12)),
    "time before samples": (
        lambda x: (x.transpose(0, 1).reshape(-1, 12) @ cr.tensor(W)).reshape(7, BATCH, 12)
        .transpose(0, 1), (7, 12)
    ),
    "products in pairs": (lambda x: x @ x.transpose(1, 2), (7, 12)),
    "a stretched factor": (lambda x: cr.tensor(W) @ x, (12, 5)),
    "sums": (lambda x: (x.sum(1), x.sum((1, 2), keepdim=True).amax(2)), (7, 12)),
    "the largest": (lambda x: x.argmax(1), (12,)),
    "softmax and norms": (
        lambda x: nn.functional.layer_norm(cr.softmax(x, -1), (12,)), (7, 12)
    ),
    "shapes": (
        lambda x: (x.permute(2, 0, 1).reshape(12, -1).flip(0) * 2).reshape(12, BATCH, 7)
        .permute(1, 2, 0), (7, 12)
    ),
    "parts": (lambda x: cr.cat([x[:, 1:4], x[:, ::2], x[:, :1] * 2], 1), (7, 12)),
    "numbers of samples": (lambda x: x * cr.arange(BATCH).reshape(-1, 1), (12,)),
    "pads": (lambda x: nn.functional.pad(x, (1, 2)), (7, 12)),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_samples_that_do_not_meet(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, shape = APART[name]
    count, same = compared(function, [given(*shape)], monkeypatch)
    assert count == BATCH // 2
    assert all(same)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                              nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 5)),
        (3, 8, 8),
    ),
    "one axis": (lambda: nn.Sequential(nn.Conv1d(3, 8, 3), nn.AvgPool1d(2)), (3, 12)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2), (3, 5, 5)),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (6, 8)),
    "recurrent": (lambda: _First(nn.LSTM(6, 10, 2, batch_first=True)), (9, 6)),
    "both ways": (
        lambda: _First(nn.GRU(6, 10, batch_first=True, bidirectional=True)), (9, 6)
    ),
}  # fmt: skip


class _First(nn.Module):
    """The first result of a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        made: cr.Tensor = self.layer(x)[0]
        return made


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, shape = LAYERS[name]
    cr.manual_seed(0)
    layer = make()
    layer.eval()
    count, same = compared(layer, [given(*shape)], monkeypatch)
    assert count == BATCH // 2
    assert all(same)


MIXED: dict[str, tuple[Function, tuple[int, ...]]] = {
    "a mean over samples": (lambda x: x - x.mean(0), (12,)),
    "products of samples": (lambda x: x @ x.T, (12,)),
    "a factor per sample": (lambda x: cr.tensor(W[:, :1]) @ x.sum(1, keepdim=True).T, (12,)),
    "the other way round": (lambda x: x.flip(0) * 2, (12,)),
    "some samples": (lambda x: x[1:] + x[:-1], (12,)),
    "every other sample": (lambda x: x[::2] * 2, (12,)),
    "samples side by side": (lambda x: x.reshape(4, -1) * 2, (12,)),
    "samples apart": (lambda x: x.reshape(4, 4, 12).sum(1), (12,)),
    "samples in another order": (lambda x: x.T.reshape(BATCH, 12) + x, (12,)),
    "more samples": (lambda x: cr.cat([x, x], 0) * 2, (12,)),
    "sums along samples": (lambda x: x.cumsum(0), (12,)),
    "the largest sample": (lambda x: x.argmax(0), (12,)),
    "entries of samples": (lambda x: x * x.mean(), (12,)),
    "padding": (lambda x: nn.functional.pad(x, (0, 0, 1, 1)), (12,)),
    "samples as channels": (
        lambda x: nn.functional.conv2d(x.unsqueeze(0), cr.ones(2, BATCH, 3, 3)), (6, 6)
    ),
    "samples as time": (lambda x: cr.scan(lambda h, v: (h + v, h * v), cr.zeros(12), x)[1], (12,)),
    "not every result": (lambda x: (x * 2, x.sum()), (12,)),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_samples_that_meet(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, shape = MIXED[name]
    count, same = compared(function, [given(*shape)], monkeypatch)
    assert count == 1
    assert all(same)


def test_two_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has the samples, and one that happens to be as long, or not."""
    x, y = given(12), given(12)
    assert compared(lambda a, b: a * b, [x, y], monkeypatch) == (8, [True])
    assert compared(lambda a, b: a @ b.T, [x, y], monkeypatch) == (1, [True])
    assert compared(lambda a, b: a @ b, [x, W], monkeypatch) == (8, [True])
    assert compared(lambda a, b: (a @ b, b * 2), [x, W], monkeypatch) == (1, [True, True])


def test_small_and_odd_batches_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LARGE", 0)
    for batch, expected in ((1, 1), (7, 1), (8, 4), (13, 1), (15, 5)):
        run = cr.compile(lambda x: x * 2)
        x = np.ones((batch, 5), np.float32)
        assert (run(x).numpy() == 2 * x).all()
        assert parts(plan_of(run)) == expected


def test_an_index_out_of_range_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LARGE", 0)
    layer = nn.Embedding(10, 40)
    run = cr.compile(lambda x: layer(x))
    index = np.zeros((BATCH, 3), np.int64)
    run(index)
    assert parts(plan_of(run)) == BATCH // 2
    index[9, 1] = 10
    with pytest.raises(cr.errors.IndexRangeError):
        run(index)
    index[9, 1] = 9
    expected = layer.weight.numpy()[index]
    assert (run(index).numpy() == expected).all()


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LARGE", 0)
    monkeypatch.setattr(batches, "_WEIGHTS", 1 << 30)
    cr.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 40))
    x = given(3, 8, 8)
    run = cr.compile(lambda x: model(x))
    expected = run(x).numpy().tobytes()
    assert parts(plan_of(run)) == BATCH // 2
    for threads in (2, 3):
        team.set_threads(threads)
        for _ in range(3):
            assert run(x).numpy().tobytes() == expected
