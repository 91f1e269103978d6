"""LeNet, VGG, ResNet: against PyTorch twins of torchvision's classes, and published sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchvision_twins as twins

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import OptionError
from chainrule.models import lenet, resnet, vgg
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.tensor import state as state_of

TOLERANCE = {"rtol": 1e-8, "atol": 1e-10}
NARROW_VGG = [n if n == "M" else n // 16 for n in vgg.LAYERS[16]]  # type: ignore[operator]


def networks() -> dict[str, tuple[nn.Module, torch.nn.Module]]:
    """Small twins: all layers of the real networks, with fewer channels."""
    return {
        "vgg16": (
            vgg.VGG(NARROW_VGG, False, 7, hidden=24),
            twins.VGG(NARROW_VGG, False, 7, 24),
        ),
        "vgg16_bn": (vgg.VGG(NARROW_VGG, True, 7, hidden=24), twins.VGG(NARROW_VGG, True, 7, 24)),
        "resnet18": (
            resnet.ResNet(resnet.BasicBlock, [2, 2, 2, 2], 7, width=4),
            twins.ResNet(twins.BasicBlock, [2, 2, 2, 2], 7, 4),
        ),
        "resnet34": (
            resnet.ResNet(resnet.BasicBlock, [3, 4, 6, 3], 7, width=2),
            twins.ResNet(twins.BasicBlock, [3, 4, 6, 3], 7, 2),
        ),
        "resnet50": (
            resnet.ResNet(resnet.Bottleneck, [3, 4, 6, 3], 7, width=2),
            twins.ResNet(twins.Bottleneck, [3, 4, 6, 3], 7, 2),
        ),
    }


NAMES = ["vgg16", "vgg16_bn", "resnet18", "resnet34", "resnet50"]


def randomized(theirs: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Random weights about He's, and running statistics that are not 0 and 1."""
    rng = np.random.default_rng(0)
    theirs.double()
    state = theirs.state_dict()
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        numbers = rng.standard_normal(tuple(value.shape))
        if value.ndim > 1:
            numbers *= (2 / np.prod(value.shape[1:])) ** 0.5
        elif "var" in key or key.endswith("weight"):
            numbers = 1 + 0.2 * np.abs(numbers)
        state[key] = torch.tensor(0.1 * numbers if value.ndim == 1 and "bias" in key else numbers)
    theirs.load_state_dict(state)
    return state


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", NAMES)
def test_same_state_dict_same_logits_and_gradients(name: str, mode: str) -> None:
    ours, theirs = networks()[name]
    state = randomized(theirs)
    assert list(ours.state_dict()) == list(state)
    ours.double().load_state_dict(state)
    for model in (ours, theirs):
        model.train(mode == "train")
        for module in model.modules():
            if isinstance(module, nn.Dropout | torch.nn.Dropout):
                module.p = 0.0
    images = np.random.default_rng(1).standard_normal((2, 3, 64, 64))
    labels = np.array([2, 5])
    a, b = cr.tensor(images, requires_grad=True), torch.tensor(images, requires_grad=True)
    y, z = ours(a), theirs(b)
    F.cross_entropy(y, cr.tensor(labels)).backward()
    grads = [x.grad for x in (a, *ours.parameters())]
    state_of.current().evaluate([y.node, *[grad.node for grad in grads]])  # in one run
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), **TOLERANCE)
    torch.nn.functional.cross_entropy(z, torch.tensor(labels)).backward()
    keys = ["images", *[key for key, _ in ours.named_parameters()]]
    for key, grad, t in zip(keys, grads, (b, *theirs.parameters()), strict=True):
        np.testing.assert_allclose(grad.numpy(), t.grad.numpy(), **TOLERANCE, err_msg=key)
    for key, value in ours.state_dict().items():
        np.testing.assert_allclose(
            value.numpy(), theirs.state_dict()[key].numpy(), **TOLERANCE, err_msg=key
        )
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (resnet.resnet18, 11_689_512),  # torchvision's documentation
        (resnet.resnet34, 21_797_672),
        (resnet.resnet50, 25_557_032),
        (resnet.resnet20, 272_474),  # 0.27 million in the paper
        (lenet.LeNet, 61_706),
    ],
)
def test_published_sizes(make: Any, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "_write", lambda x, value: x)  # no need to draw numbers
    assert sum(p.numel() for p in make().parameters()) == count


@pytest.mark.parametrize(
    ("depth", "batch_norm", "count"),
    [
        (11, False, 132_863_336),
        (13, False, 133_047_848),
        (16, False, 138_357_544),
        (16, True, 138_365_992),
        (19, False, 143_667_240),
    ],
)
def test_published_sizes_of_vgg(
    depth: int, batch_norm: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the memory: the fully connected layers have the same size in all of them."""
    monkeypatch.setattr(init, "_write", lambda x, value: x)
    model = vgg.VGG(vgg.LAYERS[depth], batch_norm, num_classes=1, hidden=1)
    own = sum(p.numel() for p in model.features.parameters())
    dense = (512 * 49 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    assert own + dense == count


@pytest.mark.parametrize("make", [lambda: lenet.LeNet(), lambda: resnet.CifarResNet(8, width=4)])
def test_learns(make: Any) -> None:
    """A handful of images is learned by heart in a compiled step."""
    model = make()
    channels = model.state_dict()[next(iter(model.state_dict()))].shape[1]
    images = cr.randn(8, channels, 28, 28)
    labels = cr.tensor(np.arange(8) % 4)
    optimizer = optim.Adam(model.parameters(), lr=0.003)

    @cr.compile
    def step(images: Any, labels: Any) -> Any:
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(images, labels).item() for _ in range(30)]
    assert losses[-1] < 0.3 * losses[0]


def test_a_network_that_is_not_there() -> None:
    with pytest.raises(OptionError):
        resnet.CifarResNet(19)
    with pytest.raises(OptionError):
        resnet.ResNet(resnet.BasicBlock, [1, 1])
