"""Handwritten digits: a multilayer perceptron, Adam, and an honest held-out figure.

The settings in DEFAULTS were chosen by measuring on parts of the training rows; the held-out rows
are looked at once, for the figure at the end.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chainrule import data, nn, optim
from chainrule.errors import DataError, InterruptedRun, OptionError, closest
from chainrule.models import mlp
from chainrule.tensor.state import manual_seed
from chainrule.tensor.tensor import Tensor, tensor
from chainrule.train import Callback, RunFolder, Trainer, accuracy

Array = np.ndarray[Any, Any]

SOURCES = {"uci": data.digits, "mnist": data.mnist}
SIDE = {"uci": 8, "mnist": 28}
DEFAULTS: dict[str, dict[str, Any]] = {
    "uci": {"epochs": 40, "batch": 32, "lr": 0.02, "hidden": 256, "dropout": 0.5},
    "mnist": {"epochs": 5, "batch": 64, "lr": 0.005, "hidden": 128, "dropout": 0.1},
}


@dataclass(frozen=True)
class Settings:
    """All that a run depends on; :func:`choose` fills in what is not given.

    Attributes:
        data: "uci" (1,797 digits of 8x8 pixels, part of the package) or "mnist" (70,000 of 28x28).
        seed: fixes the first weights, the order of the data and the dropped neurons.
        epochs: passes over the training rows.
        batch: digits per step.
        lr: the first learning rate; it falls to 0 along half a cosine.
        hidden: neurons in the hidden layer.
        dropout: probability of leaving out a hidden neuron while training.
        validation: share of the training rows to measure after each epoch, not to learn from.

    Raises:
        OptionError: a value out of its range.
    """

    data: str
    seed: int
    epochs: int
    batch: int
    lr: float
    hidden: int
    dropout: float
    validation: float

    def __post_init__(self) -> None:
        for name, expected, good in (
            ("seed", "in 0..2^64-1", 0 <= self.seed < 1 << 64),
            ("epochs", "at least 1", self.epochs >= 1),
            ("batch", "at least 1", self.batch >= 1),
            ("lr", "above 0 and finite", 0 < self.lr < math.inf),
            ("hidden", "at least 1", self.hidden >= 1),
            ("dropout", "at least 0 and below 1", 0 <= self.dropout < 1),
            ("validation", "at least 0 and below 1", 0 <= self.validation < 1),
        ):
            if not good:
                raise OptionError(name=name, expected=expected, got=getattr(self, name))


def choose(data: str = "uci", **given: Any) -> Settings:
    """The settings given; the others are those of the data set.

    Raises:
        OptionError: an unknown data set, or a value out of its range.

    Example:
        >>> choose(hidden=32).epochs, choose("mnist").epochs
        (40, 5)
    """
    if data not in SOURCES:
        near = closest(data, SOURCES)
        raise OptionError(
            name="data",
            expected=" or ".join(SOURCES),
            got=repr(data),
            mend=f"did you mean {near}?" if near else "",
        )
    return Settings(**{"data": data, "seed": 0, "validation": 0.0, **DEFAULTS[data], **given})


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run gives.

    Attributes:
        model: the trained network.
        held_out: the digits it was not trained on.
        predictions: the class it gives each of them, int64.
        accuracy: the share of them that is right.
    """

    model: nn.Module
    held_out: data.ImageSet
    predictions: Array
    accuracy: float


def network(settings: Settings) -> nn.Sequential:
    """pixels - hidden - 10 scores."""
    pixels = SIDE[settings.data] ** 2
    return mlp([pixels, settings.hidden, 10], "relu", settings.dropout)


def load(settings: Settings) -> data.Split:
    """The digits to learn from, and those held out.

    Raises:
        DataError: MNIST is not there and can't be downloaded.
    """
    return SOURCES[settings.data]()


def train(
    settings: Settings,
    digits: data.Split,
    folder: RunFolder | None = None,
    *,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Trained:
    """Train a network on digits, and see how well it reads those it has not seen.

    Args:
        settings: what to train, and how.
        digits: the data set of the settings; see :func:`load`.
        folder: where checkpoints and metrics go.
        resume: go on from the newest checkpoint in the folder.
        callbacks: what else happens, such as a progress bar.

    Raises:
        InterruptedRun: Ctrl-C; the message says how to go on.
        CheckpointError: resumed without a whole checkpoint of this run.
    """
    images, labels = digits.train.scaled(), digits.train.labels
    # Rows at random, not every n-th: in MNIST the even rows are harder to read than the odd ones.
    # The same rows for every seed, so that runs can be compared.
    order = np.argsort(np.random.Philox(0).random_raw(len(labels)), kind="stable")
    aside, learnt = np.split(order, [round(settings.validation * len(labels))])

    manual_seed(settings.seed)
    model = network(settings)
    batches = data.Batches([images[learnt], labels[learnt]], settings.batch, seed=settings.seed)
    steps = settings.epochs * len(batches)
    optimizer = optim.Adam(model.parameters(), lr=optim.cosine(settings.lr, steps))

    validation = None
    if aside.size:
        validation = data.Batches([images[aside], labels[aside]], 1000, shuffle=False)

    def score(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        scores = model(images)
        loss = nn.functional.cross_entropy(scores, labels)
        return {"loss": loss, "accuracy": accuracy(scores, labels)}

    def step(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        measures = score(images, labels)
        measures["loss"].backward()
        optimizer.step()
        return measures

    trainer = Trainer(
        model,
        optimizer,
        step,
        batches,
        score=score,
        validation=validation,
        folder=folder,
        callbacks=callbacks,
    )
    if resume:
        trainer.resume()
    try:
        trainer.run(settings.epochs)
    except InterruptedRun as stopped:
        stopped.facts["command"] = f'chainrule train digits --resume "{stopped.facts["folder"]}"'
        raise

    predictions = predict(model, digits.held_out.scaled())
    right = predictions == digits.held_out.labels
    return Trained(model, digits.held_out, predictions, float(right.mean()))


def predict(model: nn.Module, images: Array) -> Array:
    """The class with the largest score for each image, int64; leaves the model in eval mode."""
    model.eval()
    parts = data.Batches([images], 1000, shuffle=False)
    return np.concatenate([model(tensor(part)).argmax(-1).numpy() for (part,) in parts])


# ------------------------------------------------------------------------------ run folders


def new_folder(settings: Settings, root: str | os.PathLike[str] = "runs") -> RunFolder:
    """A run folder that knows the settings."""
    return RunFolder.create("digits", {"recipe": "digits", **asdict(settings)}, root)


def settings_of(folder: RunFolder) -> Settings:
    """The settings a run was begun with.

    Raises:
        DataError: the folder belongs to another recipe, or its settings are damaged.
    """
    config = dict(folder.config)
    recipe = config.pop("recipe", None)
    kinds = {name: type(value) for name, value in asdict(choose()).items()}
    wrong = [name for name, kind in kinds.items() if type(config.get(name)) is not kind]
    if recipe != "digits":
        problem, problem_zh = "the run is not one of digits", "这不是手写数字的训练"
    elif wrong:
        problem, problem_zh = f"{wrong[0]} is missing or wrong", f"{wrong[0]} 缺失或有误"
    else:
        return choose(**{name: config[name] for name in kinds})
    raise DataError(
        path=folder.path / "config.json",
        problem=problem,
        problem_zh=problem_zh,
        mend="give the folder of a run of chainrule train digits",
        mend_zh="请给出 chainrule train digits 的运行文件夹",
    )
