"""The digits recipe: it learns, repeats itself, keeps the held-out rows out, and draws."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chainrule import data
from chainrule.data import ImageSet
from chainrule.errors import DataError, OptionError
from chainrule.recipes import digits
from chainrule.recipes.digit_pictures import drawn, save_picture, selected
from chainrule.recipes.digits import choose
from chainrule.train import RunFolder

UCI = data.digits()
QUICK = choose(epochs=8, hidden=32, dropout=0.0)


def test_it_learns_to_read() -> None:
    trained = digits.train(QUICK, UCI)
    assert trained.accuracy > 0.9
    assert trained.accuracy == np.mean(trained.predictions == data.digits().held_out.labels)


def test_the_held_out_rows_teach_nothing() -> None:
    train, held_out = UCI
    empty = replace(held_out, images=held_out.images * 0, labels=held_out.labels * 0)

    def weights(held_out: ImageSet) -> list[Any]:
        model = digits.train(replace(QUICK, epochs=1), data.Split(train, held_out)).model
        return [value.numpy() for value in model.state_dict().values()]

    for one, other in zip(weights(held_out), weights(empty), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_seed_decides_everything() -> None:
    def weights(seed: int) -> bytes:
        model = digits.train(replace(QUICK, epochs=1, seed=seed, dropout=0.5), UCI).model
        return b"".join(value.numpy().tobytes() for value in model.state_dict().values())

    assert weights(3) == weights(3)
    assert weights(3) != weights(4)


def test_validation_rows_are_measured_and_not_learnt_from(tmp_path: Path) -> None:
    settings = replace(QUICK, epochs=1, validation=0.25)
    folder = digits.new_folder(settings, tmp_path)
    digits.train(settings, UCI, folder)
    (record,) = folder.metrics()
    assert record["step"] == -(-(1438 - 360) // 32)
    assert 0 < record["validation_accuracy"] < 1


def test_resume_by_the_folder_alone(tmp_path: Path) -> None:
    settings = replace(QUICK, epochs=2)
    folder = digits.new_folder(settings, tmp_path)
    whole = digits.train(settings, UCI, folder)
    folder.checkpoints()[-1].unlink()  # back to the end of epoch 1
    again = RunFolder(folder.path)
    assert digits.settings_of(again) == settings
    resumed = digits.train(digits.settings_of(again), UCI, again, resume=True)
    np.testing.assert_array_equal(resumed.predictions, whole.predictions)
    assert [record["epoch"] for record in again.metrics()] == [1, 2]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"recipe": "poems"}, "not one of digits"),
        ({"hidden": "many"}, "hidden is missing or wrong"),
        ({"seed": True}, "seed is missing or wrong"),
        ({"lr": None}, "lr is missing or wrong"),
    ],
)
def test_damaged_settings_are_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    folder = RunFolder.create("x", {"recipe": "digits", **asdict(QUICK), **change}, tmp_path)
    with pytest.raises(DataError, match=problem):
        digits.settings_of(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1), ("seed", 1 << 64), ("epochs", -1), ("batch", 0), ("lr", 0.0),
        ("lr", float("nan")), ("lr", float("inf")), ("hidden", 0), ("dropout", 1.0),
        ("validation", 1.0),
    ],
)  # fmt: skip
def test_settings_out_of_range(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"^{name} must be"):
        choose(**{name: value})


def test_misspelt_data() -> None:
    with pytest.raises(OptionError, match="did you mean mnist"):
        choose("minst")


def test_a_short_epoch_of_mnist(data_dir: Path) -> None:
    train, held_out = data.mnist(data_dir)

    def part(images: ImageSet, rows: int) -> ImageSet:
        return replace(images, images=images.images[:rows], labels=images.labels[:rows])

    short = data.Split(part(train, 4000), part(held_out, 1000))
    trained = digits.train(choose("mnist", epochs=1), short)
    assert trained.accuracy > 0.85
    assert "\n" in drawn(trained.held_out, trained.predictions, "utf-8")


# ------------------------------------------------------------------------------ pictures


def sample(side: int = 8) -> tuple[ImageSet, Any]:
    images = np.zeros((4, side, side), np.uint8)
    images[1:] = 16
    labels = np.array([0, 1, 2, 3])
    return ImageSet(images, labels, tuple("0123456789"), 16), np.array([0, 1, 7, 3])


def test_the_picture_marks_what_is_wrong(tmp_path: Path) -> None:
    images, predictions = sample()
    path = tmp_path / "图 x.png"
    save_picture(path, images, predictions, columns=2, rows=2)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red = (pixels[..., 0] - pixels[..., 1] > 120).sum(axis=1)
    half = len(pixels) // 2
    assert red[:half].sum() > 300  # the misread digit comes first: its frame
    assert red[half:].sum() == 0


def test_misread_digits_come_first() -> None:
    labels, predictions = np.array([1, 2, 3, 4, 5]), np.array([1, 0, 3, 0, 0])
    assert selected(labels, predictions, 3, 2).tolist() == [1, 3, 0]
    assert selected(labels, labels, 3, 2).tolist() == [0, 1, 2]


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "ascii", "cp1252"])
@pytest.mark.parametrize("side", [8, 28])
def test_drawings_can_be_printed_and_fit(encoding: str, side: int) -> None:
    text = drawn(*sample(side), encoding, columns=72)
    io.TextIOWrapper(io.BytesIO(), encoding).write(text)  # raises where a character is missing
    lines = text.splitlines()
    assert max(map(len, lines)) <= 72
    assert "7 (is 2)" in lines[-1]
    assert len(lines) == (8 if side == 8 else 14) + 1


def test_bright_and_dark_differ() -> None:
    images, predictions = sample()
    line = drawn(images, predictions, "ascii", columns=40, wrong=0).splitlines()[0]
    assert line == " " * 16 + "  " + "#" * 16
