"""The training loop: what it measures, and that a run that stops and goes on ends in the same bits.

The runs that stop are processes of their own, stopped by a signal.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.data import Batches
from chainrule.errors import CheckpointError, OptionError
from chainrule.models import mlp
from chainrule.tensor.tensor import Tensor
from chainrule.train import Callback, RunFolder, Trainer, accuracy, measure

ROOT = Path(__file__).resolve().parents[2]

# Dropout, a schedule and a last batch that is smaller: all that a resume could get wrong.
PROGRAM = """
import os, signal, sys
import chainrule as cr
from chainrule import nn, optim
from chainrule.data import Batches, digits
from chainrule.errors import InterruptedRun
from chainrule.models import mlp
from chainrule.train import Callback, RunFolder, Trainer, accuracy

folder, epochs, stop_at, how = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
resume = os.path.exists(folder)
cr.manual_seed(7 if not resume else 1234)
train = digits().train
x, y = train.scaled()[:170], train.labels[:170]
model = mlp([64, 16, 10], dropout=0.3)
optimizer = optim.AdamW(model.parameters(), lr=optim.cosine(1e-2, steps=40))

def score(images, labels):
    scores = model(images)
    return {"loss": nn.functional.cross_entropy(scores, labels),
            "accuracy": accuracy(scores, labels)}

def step(images, labels):
    measures = score(images, labels)
    measures["loss"].backward()
    optimizer.step()
    return measures

class Stop(Callback):
    def after_step(self, trainer, measures):
        if trainer.step == stop_at:
            os.kill(os.getpid(), getattr(signal, how))

if resume:
    run = RunFolder(folder)
else:
    run = RunFolder.create("run", {}, os.path.dirname(folder))
    run.path.rename(folder)
    run = RunFolder(folder)
trainer = Trainer(
    model, optimizer, step, Batches([x[:150], y[:150]], 32, seed=3), score=score,
    validation=Batches([x[150:], y[150:]], 20, shuffle=False), folder=run, callbacks=[Stop()],
)
if resume:
    trainer.resume()
try:
    trainer.run(epochs)
except InterruptedRun as error:
    print(error)
    sys.exit(3)
"""


def run_program(folder: Path, epochs: int = 4, stop_at: int = 0, how: str = "SIGINT") -> int:
    command = [sys.executable, "-c", PROGRAM, str(folder), str(epochs), str(stop_at), how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode


def result(folder: Path) -> tuple[str, bytes, str]:
    newest = RunFolder(folder).checkpoints()[-1]
    return newest.name, newest.read_bytes(), (folder / "metrics.jsonl").read_text("utf-8")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, str]:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert run_program(folder) == 0
    name, content, metrics = result(folder)
    assert name == "step-20.safetensors"
    assert [json.loads(line)["epoch"] for line in metrics.splitlines()] == [1, 2, 3, 4]
    return name, content, metrics


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends the process on Windows")
@pytest.mark.parametrize(
    ("stop_at", "how", "status"),
    [
        (7, "SIGINT", 3),  # in the middle of an epoch
        (10, "SIGINT", 3),  # after the last batch of an epoch, before its line is written
        (12, "SIGKILL", -9),  # a power cut: back to the end of the epoch before
    ],
)
def test_a_run_that_stops_and_goes_on_ends_in_the_same_bits(
    tmp_path: Path, unbroken: tuple[str, bytes, str], stop_at: int, how: str, status: int
) -> None:
    folder = tmp_path / "a folder 文件夹" / "run"
    folder.parent.mkdir()
    assert run_program(folder, stop_at=stop_at, how=how) == status
    assert run_program(folder) == 0
    assert result(folder) == unbroken


def test_n_and_m_epochs_are_n_plus_m(tmp_path: Path, unbroken: tuple[str, bytes, str]) -> None:
    folder = tmp_path / "run"
    assert run_program(folder, epochs=1) == 0
    assert run_program(folder, epochs=3) == 0
    assert run_program(folder, epochs=4) == 0
    assert result(folder) == unbroken


# ------------------------------------------------------------------------------ in this process


def made(
    tmp_path: Path | None = None, **options: object
) -> tuple[Trainer, nn.Module, Callable[..., dict[str, Tensor]]]:
    cr.manual_seed(0)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(50, 3)).astype(np.float32)
    y = (x.sum(axis=1) > 0).astype(np.int64)
    model = mlp([3, 4, 2])
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def score(features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        scores = model(features)
        loss = nn.functional.cross_entropy(scores, labels)
        return {"loss": loss, "accuracy": accuracy(scores, labels)}

    def step(features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        measures = score(features, labels)
        measures["loss"].backward()
        optimizer.step()
        return measures

    folder = RunFolder.create("test", {}, tmp_path) if tmp_path else None
    batches = Batches([x, y], batch_size=8)
    trainer = Trainer(model, optimizer, step, batches, score=score, folder=folder, **options)  # type: ignore[arg-type]
    return trainer, model, score


def test_it_learns_and_measures_as_a_loop_by_hand(tmp_path: Path) -> None:
    trainer, model, _ = made(tmp_path)
    record = trainer.run(epochs=3)

    other, twin, score = made()
    optimizer = optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(3):
        total = right = 0.0
        for x, y in other.batches:
            measures = score(cr.tensor(x), cr.tensor(y))
            measures["loss"].backward()
            total += measures["loss"].item() * len(y)
            right += measures["accuracy"].item() * len(y)
            optimizer.step()
    assert record["loss"] == pytest.approx(total / 50, rel=1e-6)
    assert record["accuracy"] == pytest.approx(right / 50, rel=1e-6)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(value.numpy(), twin.state_dict()[name].numpy(), rtol=1e-5)
    assert trainer.folder is not None
    assert trainer.folder.metrics()[-1] == record
    assert record["step"] == trainer.step == 21


def test_measure_leaves_the_model_as_it_was() -> None:
    trainer, model, score = made()
    model.train()
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    found = measure(model, score, Batches(trainer.batches.arrays, 7, shuffle=False))
    whole = score(*map(cr.tensor, trainer.batches.arrays))
    assert found["loss"] == pytest.approx(whole["loss"].item(), rel=1e-6)
    assert model.training
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_validation_between_epochs_traces_nothing_anew() -> None:
    trainer, model, score = made()
    calls = 0

    def counted(features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        return score(features, labels)

    twin = Trainer(
        model,
        trainer.optimizer,
        trainer._learn,
        trainer.batches,
        score=counted,
        validation=Batches(trainer.batches.arrays, 25, shuffle=False),
    )
    record = twin.run(epochs=12)
    assert calls == 1
    assert record["validation_accuracy"] > 0.5


def test_callbacks_are_called_in_order() -> None:
    seen: list[str] = []

    class Watch(Callback):
        def begin(self, trainer: Trainer) -> None:
            seen.append("begin")

        def after_step(self, trainer: Trainer, measures: object) -> None:
            seen.append(f"step {trainer.step}")

        def after_epoch(self, trainer: Trainer, record: object) -> None:
            seen.append("epoch")

        def end(self, trainer: Trainer) -> None:
            seen.append("end")

    trainer, _, _ = made(callbacks=[Watch()])
    trainer.run(epochs=1)
    assert seen == ["begin", *(f"step {n}" for n in range(1, 8)), "epoch", "end"]


def test_a_schedule_goes_on_after_a_resume(tmp_path: Path) -> None:
    trainer, _, _ = made(tmp_path)
    assert isinstance(trainer.optimizer, optim.SGD)
    trainer.optimizer.lr = optim.cosine(0.1, steps=21)  # in place of the constant one
    trainer.run(epochs=1)
    other, _, _ = made()
    assert isinstance(other.optimizer, optim.SGD)
    other.optimizer.lr = optim.cosine(0.1, steps=21)
    other.folder = trainer.folder
    other.resume()
    assert other.optimizer.lr == trainer.optimizer.lr < 0.1
    other.run(epochs=2)
    assert other.optimizer.lr < trainer.optimizer.lr


def test_without_a_folder_ctrl_c_is_ctrl_c() -> None:
    class Press(Callback):
        def after_step(self, trainer: Trainer, measures: object) -> None:
            signal.raise_signal(signal.SIGINT)

    trainer, _, _ = made(callbacks=[Press()])
    with pytest.raises(KeyboardInterrupt):
        trainer.run(epochs=1)
    assert trainer.step == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_missing_is_named() -> None:
    trainer, model, _ = made()
    with pytest.raises(OptionError, match="folder must be"):
        trainer.resume()
    with pytest.raises(OptionError, match="score must be a function"):
        Trainer(model, trainer.optimizer, lambda x: {}, trainer.batches, validation=trainer.batches)


def test_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    trainer, _, _ = made(tmp_path)
    trainer.run(epochs=1)
    other, _, _ = made()
    other.model = other._kept["model"] = mlp([3, 5, 2])
    other.folder = trainer.folder
    with pytest.raises(CheckpointError, match=r"does not fit this run[\s\S]*1\.weight"):
        other.resume()


def test_other_data_is_refused(tmp_path: Path) -> None:
    trainer, _, _ = made(tmp_path)
    trainer.run(epochs=1)
    other, _, _ = made()
    other.folder = trainer.folder
    other._kept["batches"] = Batches([np.zeros((49, 3), np.float32), np.zeros(49, np.int64)], 8)
    before = other.state_dict()
    with pytest.raises(CheckpointError, match="rows must be 50"):
        other.resume()
    for name, value in other.model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before["model"][name].numpy())
