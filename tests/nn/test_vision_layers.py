"""Layers of the convolutional family, against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformer_twins import EXACT, hold

import chainrule as cr
from chainrule import nn
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import functional as F

RNG = np.random.default_rng(0)
LINE = RNG.normal(size=(2, 4, 9))
IMAGE = RNG.normal(size=(2, 4, 7, 6))
ROWS = RNG.normal(size=(5, 4))


def ramp(*shape: int) -> np.ndarray[Any, Any]:
    """Different numbers in every place."""
    return np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)


def compare(name: str, args: tuple[Any, ...], options: dict[str, Any], x: Any) -> None:
    """The same layer of both libraries: keys, output, gradients, five steps, and buffers."""
    ours, theirs = (getattr(module, name)(*args, **options) for module in (nn, torch.nn))
    if any(True for _ in ours.parameters()):
        hold(ours, theirs, [x])
        theirs_state = theirs.state_dict()
        for key, value in ours.state_dict().items():
            np.testing.assert_allclose(value.numpy(), theirs_state[key].numpy(), **EXACT)
        return
    assert list(ours.state_dict()) == list(theirs.state_dict())
    a, b = cr.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours.double()(a), theirs.double()(b)
    assert y.shape == tuple(z.shape)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), **EXACT)
    weights = np.cos(np.arange(y.numel())).reshape(y.shape)
    (y * weights).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), **EXACT)


def named(configurations: list[Any]) -> Any:
    """One test for each (name, args, options, input)."""
    return pytest.mark.parametrize(
        "given", configurations, ids=[f"{c[0]}-{c[1]}-{c[2]}" for c in configurations]
    )


CONVOLUTIONS = [
    ("Conv1d", (4, 3, 3), {}, LINE),
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, LINE),
    ("Conv1d", (4, 4, 2), {"dilation": 3, "bias": False}, LINE),
    ("Conv1d", (4, 8, 5), {"padding": "same", "groups": 4}, LINE),
    ("Conv1d", (4, 1, 1), {"padding": "valid"}, LINE[0]),
    ("Conv2d", (4, 3, 3), {}, IMAGE),
    ("Conv2d", (4, 6, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "groups": 2}, IMAGE),
    ("Conv2d", (4, 4, 3), {"padding": 2, "dilation": 2, "bias": False}, IMAGE),
    ("Conv2d", (4, 4, 3), {"padding": "same", "groups": 4}, IMAGE),
    ("Conv2d", (4, 5, 1), {"stride": 2}, IMAGE[0]),
    ("ConvTranspose1d", (4, 3, 3), {}, LINE),
    ("ConvTranspose1d", (4, 2, 4), {"stride": 2, "padding": 1, "groups": 2}, LINE),
    ("ConvTranspose1d", (4, 3, 3), {"stride": 3, "output_padding": 2, "bias": False}, LINE),
    ("ConvTranspose1d", (4, 4, 2), {"dilation": 2, "groups": 4}, LINE),
    ("ConvTranspose1d", (4, 1, 1), {"padding": 2}, LINE[0]),
    ("ConvTranspose2d", (4, 3, 3), {}, IMAGE),
    ("ConvTranspose2d", (4, 2, 4), {"stride": 2, "padding": 1, "groups": 2}, IMAGE),
    ("ConvTranspose2d", (4, 3, (3, 2)), {"stride": 2, "output_padding": 1}, IMAGE),
    ("ConvTranspose2d", (4, 4, 3), {"dilation": 2, "bias": False}, IMAGE),
    ("ConvTranspose2d", (4, 2, 2), {"stride": (1, 2), "padding": (1, 0)}, IMAGE[0]),
]


@named(CONVOLUTIONS)
def test_convolution(given: tuple[Any, ...]) -> None:
    compare(*given)


POOLS = [
    ("MaxPool1d", (2,), {}, LINE),
    ("MaxPool1d", (3, 2), {"padding": 1}, LINE),
    ("MaxPool1d", (3,), {"stride": 1, "dilation": 2}, LINE),
    ("MaxPool1d", (2,), {"ceil_mode": True}, LINE),
    ("MaxPool1d", (2,), {}, LINE[0]),
    ("MaxPool2d", (2,), {}, IMAGE),
    ("MaxPool2d", (3, 2), {"padding": 1}, IMAGE),
    ("MaxPool2d", ((3, 2),), {"stride": (1, 2), "padding": (1, 0), "ceil_mode": True}, IMAGE),
    ("MaxPool2d", (2,), {"dilation": 2, "stride": 3}, IMAGE),
    ("MaxPool2d", (3,), {"ceil_mode": True}, IMAGE[0]),
    ("AvgPool1d", (2,), {}, LINE),
    ("AvgPool1d", (3, 2), {"padding": 1}, LINE),
    ("AvgPool1d", (3, 2), {"padding": 1, "count_include_pad": False}, LINE),
    ("AvgPool1d", (2,), {"ceil_mode": True}, LINE),
    ("AvgPool1d", (4, 3), {"padding": 2, "ceil_mode": True}, LINE[0]),
    ("AvgPool2d", (2,), {}, IMAGE),
    ("AvgPool2d", (3, 2), {"padding": 1, "ceil_mode": True}, IMAGE),
    ("AvgPool2d", (3, 2, 1, True, False), {}, IMAGE),
    ("AvgPool2d", ((2, 3),), {"divisor_override": 5}, IMAGE),
    ("AvgPool2d", (3,), {"stride": (1, 2)}, IMAGE[0]),
]
POOLS += [
    (name, (size,), {}, x)
    for name in ("AdaptiveAvgPool2d", "AdaptiveMaxPool2d")
    for size, x in [(1, IMAGE), ((7, 3), IMAGE), (5, IMAGE), ((None, 4), IMAGE), (3, IMAGE[0])]
]
POOLS += [
    ("Upsample", (), {"scale_factor": 2}, IMAGE),
    ("Upsample", (), {"size": (5, 9)}, IMAGE),
    ("Upsample", (), {"scale_factor": 1.5, "mode": "linear", "align_corners": True}, LINE),
    ("Upsample", (), {"scale_factor": 2, "mode": "bilinear"}, IMAGE),
    ("Upsample", (), {"size": 10, "mode": "bilinear", "align_corners": True}, IMAGE),
    ("ZeroPad2d", (1,), {}, IMAGE),
    ("ZeroPad2d", ((1, 2, 0, 3),), {}, IMAGE),
    ("ZeroPad2d", ((-1, 2, 1, -2),), {}, IMAGE),
    ("ZeroPad2d", (0,), {}, IMAGE),
    ("ZeroPad2d", ((0, 0, 2, 1),), {}, ramp(1, 1, 2, 5)),
    ("PixelShuffle", (2,), {}, IMAGE),
    ("PixelShuffle", (1,), {}, IMAGE),
    ("PixelShuffle", (2,), {}, ramp(1, 8, 1, 3)),
    ("PixelShuffle", (3,), {}, ramp(2, 9, 2, 2)),
    ("PixelShuffle", (2,), {}, ramp(4, 3, 5)),
    ("Unflatten", (1, (2, 2)), {}, IMAGE),
    ("Unflatten", (-1, (3, -1)), {}, LINE),
    ("Unflatten", (0, (1, 3)), {}, ramp(3, 2)),
    ("Unflatten", (1, (-1, 2, 1)), {}, ramp(2, 4, 3)),
    ("Unflatten", (2, (6,)), {}, ramp(2, 1, 6)),
]


@named(POOLS)
def test_pooling_and_size(given: tuple[Any, ...]) -> None:
    compare(*given)


NORMS = [
    ("BatchNorm1d", (4,), {}, ROWS),
    ("BatchNorm1d", (4,), {}, LINE),
    ("BatchNorm1d", (4,), {"momentum": None, "eps": 1e-3}, ROWS),
    ("BatchNorm1d", (4,), {"track_running_stats": False}, LINE),
    ("BatchNorm1d", (4,), {"momentum": 0.7}, ROWS),
    ("BatchNorm2d", (4,), {}, IMAGE),
    ("BatchNorm2d", (4,), {"momentum": None}, IMAGE),
    ("BatchNorm2d", (4,), {"eps": 0.1, "momentum": 1.0}, IMAGE),
    ("BatchNorm2d", (4,), {"affine": False}, IMAGE),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, IMAGE),
    ("InstanceNorm1d", (4,), {}, LINE),
    ("InstanceNorm1d", (4,), {"affine": True}, LINE),
    ("InstanceNorm1d", (4,), {"affine": True, "track_running_stats": True}, LINE),
    ("InstanceNorm1d", (4,), {"affine": True, "eps": 0.1}, LINE),
    ("InstanceNorm1d", (4,), {"affine": True}, LINE[0]),
    ("InstanceNorm2d", (4,), {}, IMAGE),
    ("InstanceNorm2d", (4,), {"affine": True}, IMAGE),
    ("InstanceNorm2d", (4,), {"affine": True, "track_running_stats": True}, IMAGE),
    ("InstanceNorm2d", (4,), {"affine": True, "eps": 0.1}, IMAGE),
    ("InstanceNorm2d", (4,), {"affine": True}, IMAGE[0]),
    ("GroupNorm", (1, 4), {}, IMAGE),
    ("GroupNorm", (2, 4), {}, IMAGE),
    ("GroupNorm", (4, 4), {"eps": 0.1}, LINE),
    ("GroupNorm", (2, 4), {}, ROWS),
    ("GroupNorm", (2, 4), {"affine": False}, IMAGE),
    ("LayerNorm", (4,), {}, ROWS),
    ("LayerNorm", ((7, 6),), {}, IMAGE),
    ("LayerNorm", (9,), {"bias": False}, LINE),
    ("LayerNorm", ((4, 9),), {"elementwise_affine": False}, LINE),
    ("LayerNorm", (4,), {"eps": 0.1}, ROWS[0]),
    ("RMSNorm", (4,), {}, ROWS),
    ("RMSNorm", ((7, 6),), {}, IMAGE),
    ("RMSNorm", (9,), {"eps": 0.1}, LINE),
    ("RMSNorm", ((4, 9),), {"elementwise_affine": False}, LINE),
    ("RMSNorm", (4,), {}, ROWS[0]),
]


@named(NORMS)
def test_normalisation(given: tuple[Any, ...]) -> None:
    compare(*given)


ACTIVATIONS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("ReLU6", (), {}),
    ("Hardswish", (), {}),
    ("Hardtanh", (), {}),
    ("Hardtanh", (-0.5, 2.0), {}),
    ("Mish", (), {}),
    ("SELU", (), {}),
    ("CELU", (), {}),
    ("CELU", (0.5,), {}),
    ("Softsign", (), {}),
    ("LogSigmoid", (), {}),
    ("Tanhshrink", (), {}),
    ("Softshrink", (0.3,), {}),
    ("Hardshrink", (0.7,), {}),
    ("Threshold", (0.1, -3.0), {}),
    ("GLU", (), {"dim": 1}),
    ("PReLU", (), {}),
    ("PReLU", (4,), {"init": 0.1}),
]


@pytest.mark.parametrize("x", [4 * ROWS, -ROWS, LINE, IMAGE, 10 * IMAGE[:1]], ids=range(5))
@pytest.mark.parametrize("given", ACTIVATIONS, ids=[f"{a[0]}-{a[1]}" for a in ACTIVATIONS])
def test_activations(given: tuple[Any, ...], x: Any) -> None:
    compare(*given, x)


@pytest.mark.parametrize("x", [4 * ROWS, -ROWS, LINE, IMAGE, 10 * IMAGE[:1]], ids=range(5))
def test_hardsigmoid(x: Any) -> None:
    """PyTorch's slope is 1/6 in float32, whatever the type: we compare with its relu6."""
    a, b = cr.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = nn.Hardsigmoid()(a), torch.nn.functional.relu6(b + 3) / 6
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), **EXACT)
    np.testing.assert_allclose(y.numpy(), torch.nn.Hardsigmoid()(b).detach().numpy(), **EXACT)
    (y * y).sum().backward()
    (z * z).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), **EXACT)


# ------------------------------------------------------------------------------ statistics


@pytest.mark.parametrize("name", ["BatchNorm1d", "InstanceNorm1d"])
def test_evaluation_uses_running_statistics(name: str) -> None:
    options = {"affine": True, "track_running_stats": True}
    ours, theirs = getattr(nn, name)(4, **options), getattr(torch.nn, name)(4, **options)
    hold(ours, theirs, [LINE])
    ours.eval(), theirs.eval()
    expected = theirs(torch.tensor(LINE)).detach().numpy()
    before = ours.running_mean.numpy()
    np.testing.assert_allclose(ours(cr.tensor(LINE)).numpy(), expected, **EXACT)
    np.testing.assert_array_equal(ours.running_mean.numpy(), before)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("name", ["BatchNorm1d", "InstanceNorm1d"])
def test_frozen_means_frozen(name: str, momentum: float | None) -> None:
    """In training mode too: running statistics are used, and do not drift."""
    momentum = 0.2 if name == "InstanceNorm1d" else momentum
    layer = getattr(nn, name)(4, momentum=momentum, track_running_stats=True).double()
    layer(cr.tensor(LINE)).sum().item()
    layer.freeze()
    before = {key: value.numpy() for key, value in layer.state_dict().items()}
    assert layer.training
    mean, var = (before[key].reshape(1, 4, 1) for key in ("running_mean", "running_var"))
    x = LINE * LINE  # other statistics
    y = layer(cr.tensor(x)).numpy()
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-12)
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key])
    layer.unfreeze()
    layer(cr.tensor(x)).sum().item()
    assert (layer.running_mean.numpy() != before["running_mean"]).all()


def test_statistics_move_in_a_compiled_step() -> None:
    layer, twin = nn.BatchNorm1d(4).double(), nn.BatchNorm1d(4).double()
    step = cr.compile(lambda x: layer(x).sum())
    for scale in (1.0, 2.0, 3.0):
        step(cr.tensor(scale * ROWS + scale))
        twin(cr.tensor(scale * ROWS + scale)).sum().item()
    assert layer.num_batches_tracked.item() == 3
    np.testing.assert_allclose(
        layer.running_var.numpy(), twin.running_var.numpy(), rtol=1e-12, atol=0
    )
    layer.eval()
    y = step(cr.tensor(ROWS)).item()
    np.testing.assert_allclose(y, layer(cr.tensor(ROWS)).sum().item(), rtol=1e-12)
    assert layer.num_batches_tracked.item() == 3


def test_reset_running_stats() -> None:
    layer = nn.BatchNorm1d(4)
    layer(cr.tensor(ROWS).float()).sum().item()
    layer.reset_running_stats()
    for key, value in nn.BatchNorm1d(4).state_dict().items():
        np.testing.assert_array_equal(layer.state_dict()[key].numpy(), value.numpy())


# ------------------------------------------------------------------------------ dropout


@pytest.mark.parametrize(
    ("name", "shape"), [("Dropout1d", (64, 32, 5)), ("Dropout2d", (64, 32, 3, 2))]
)
def test_whole_channels_are_dropped(name: str, shape: tuple[int, ...]) -> None:
    layer = getattr(nn, name)(0.25)
    y = layer(cr.ones(*shape)).numpy().reshape(64 * 32, -1)
    assert ((y == y[:, :1]).all(axis=1)).all()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y[:, 0] == 0).mean() - 0.25) < 4 * (0.25 * 0.75 / 2048) ** 0.5
    x = cr.ones(*shape)
    assert layer.eval()(x) is x


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = cr.randn(400, 250)
    y = nn.AlphaDropout(0.3)(x).numpy()
    assert abs(y.mean()) < 0.02
    assert abs(y.std() - 1) < 0.02
    _, counts = np.unique(y, return_counts=True)
    assert abs(counts.max() / y.size - 0.3) < 0.01  # one number for all that were dropped
    assert nn.AlphaDropout(0.3).eval()(x) is x


# ------------------------------------------------------------------------------ initial values


@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"])
@pytest.mark.parametrize("groups", [1, 2])
def test_initial_values_as_pytorch(name: str, groups: int) -> None:
    ours, theirs = (getattr(m, name)(32, 64, 3, groups=groups) for m in (nn, torch.nn))
    for key, value in theirs.state_dict().items():
        a, b = ours.state_dict()[key].numpy(), value.numpy()
        assert a.shape == b.shape
        bound = b.std() * 3**0.5
        assert np.abs(a).max() <= bound * 1.15
        assert abs(a.std() / b.std() - 1) < 0.25


# ------------------------------------------------------------------------------ misfits


@pytest.mark.parametrize(
    ("make", "shape", "says"),
    [
        (lambda: nn.Conv2d(3, 4, 3), (2, 8, 8, 3), "3 channels in axis 1"),
        (lambda: nn.Conv2d(3, 4, 5), (2, 3, 4, 4), "at least 5 entries"),
        (lambda: nn.Conv2d(3, 4, 3), (2, 3), "2 spatial axes"),
        (lambda: nn.ConvTranspose1d(3, 4, 3), (2, 5, 8), "(batch, 3, ...)"),
        (lambda: nn.MaxPool2d(4), (1, 2, 3, 3), "window's size (4, 4)"),
        (lambda: nn.BatchNorm2d(3), (2, 4, 5, 5), "BatchNorm2d(4)"),
        (lambda: nn.BatchNorm1d(3), (1, 3), "more than one value per channel"),
        (lambda: nn.BatchNorm1d(3), (2, 3, 4, 4), "2 or 3 axes"),
        (lambda: nn.InstanceNorm1d(3), (2, 3, 1), "more than one spatial value"),
        (lambda: nn.LayerNorm(5), (2, 4), "ends in (5,)"),
        (lambda: nn.GLU(), (2, 3), "even number"),
        (lambda: nn.Dropout2d(), (2, 3), "2 spatial axes"),
        (lambda: nn.PReLU(3), (2, 4), "4 channels"),
        (lambda: nn.PixelShuffle(2), (1, 6, 2, 2), "2^2 divides"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit(make: Any, shape: tuple[int, ...], says: str) -> None:
    layer = make()
    with pytest.raises(ShapeError) as caught:
        layer(cr.ones(*shape))
    assert says in str(caught.value)
    assert "test_vision_layers.py" in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv2d(3, 4, 3, groups=2),
        lambda: nn.Conv2d(3, 4, 3, padding_mode="reflect"),
        lambda: nn.Conv2d(3, 4, (3, 3, 3)),
        lambda: nn.Conv2d(3, 4, 0),
        lambda: nn.Conv1d(1, 1, 3, stride=2, padding="same")(cr.ones(1, 1, 8)),
        lambda: nn.Conv1d(1, 1, 3, padding="full")(cr.ones(1, 1, 8)),
        lambda: nn.ConvTranspose1d(1, 1, 3, output_padding=1)(cr.ones(1, 1, 8)),
        lambda: nn.MaxPool1d(2, padding=2)(cr.ones(1, 1, 8)),
        lambda: nn.GroupNorm(3, 4),
        lambda: nn.Dropout2d(1.5),
        lambda: nn.Upsample(mode="bicubic", scale_factor=2)(cr.ones(1, 1, 2, 2)),
        lambda: nn.Upsample()(cr.ones(1, 1, 2, 2)),
        lambda: F.pad(cr.ones(2), (1, 1), mode="reflect"),
    ],
)
def test_options_that_are_not_allowed(make: Any) -> None:
    with pytest.raises(OptionError):
        make()


def test_pad_with_a_value() -> None:
    x = RNG.normal(size=(2, 3))
    for ends in [(1, 2), (1, 0, 2, 1), (-1, 1)]:
        found = F.pad(cr.tensor(x), ends, value=2.5).numpy()
        expected = torch.nn.functional.pad(torch.tensor(x), ends, value=2.5).numpy()
        np.testing.assert_array_equal(found, expected)
