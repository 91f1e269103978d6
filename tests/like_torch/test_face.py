"""The face beside the programs: devices, modes, constructors, functions, and what is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as oracle

import chainrule.like_torch as torch
from chainrule import errors
from chainrule.like_torch import nn
from chainrule.like_torch.nn import functional as F

# ------------------------------------------------------------------------------ devices


def test_device_is_the_cpu() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert (device.type, str(device), repr(device)) == ("cpu", "cpu", "device(type='cpu')")
    x = torch.zeros(2, device=device).to(device)
    assert x.device == device == "cpu"
    assert nn.Linear(2, 1).to(device)(x).shape == (1,)
    assert not torch.backends.mps.is_available()
    assert not torch.accelerator.is_available()


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_other_devices_are_refused_at_use(name: str) -> None:
    device = torch.device(name)  # as in PyTorch, the name alone does no harm
    for use in (
        lambda: torch.zeros(2, device=device),
        lambda: torch.zeros(2).to(device),
        lambda: torch.zeros(2).to(device=name),
        lambda: nn.Linear(2, 1).to(name),
        lambda: torch.tensor(1.0, device=device),
    ):
        with pytest.raises(errors.DeviceError, match=name):
            use()


def test_a_device_that_does_not_exist() -> None:
    with pytest.raises(errors.OptionError, match="gpu"):
        torch.device("gpu")


# ------------------------------------------------------------------------------ modes


def test_no_grad_in_every_form() -> None:
    w = torch.tensor(2.0, requires_grad=True)

    @torch.no_grad()
    def with_parentheses() -> Any:
        return w * 2

    @torch.no_grad
    def without() -> Any:
        return w * 2

    with torch.no_grad():
        assert not (w * 2).requires_grad
        with torch.enable_grad():
            assert (w * 2).requires_grad
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert not (w * 2).requires_grad
    with torch.set_grad_enabled(False):
        assert not (w * 2).requires_grad
    assert not with_parentheses().requires_grad
    assert not without().requires_grad
    assert torch.is_grad_enabled()
    assert (w * 2).requires_grad


def test_set_grad_enabled_as_a_switch() -> None:
    torch.set_grad_enabled(False)
    try:
        assert not torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
    assert torch.is_grad_enabled()


# ------------------------------------------------------------------------------ making


def test_constructors_by_type() -> None:
    x = torch.Tensor([[0, 1], [1, 0]])
    assert (x.dtype, x.shape) == (torch.float32, (2, 2))
    assert torch.Tensor(2, 3).shape == (2, 3)
    assert torch.LongTensor([1, 2]).dtype == torch.long
    assert torch.FloatTensor([1, 2]).dtype == torch.float
    assert isinstance(x, torch.Tensor)
    assert isinstance(x, torch.FloatTensor)
    assert not isinstance(x, torch.LongTensor)
    assert isinstance(nn.Linear(2, 1).weight, torch.Tensor)
    assert not isinstance([1.0], torch.Tensor)


def test_makers_take_device_and_requires_grad() -> None:
    for make in (torch.zeros, torch.ones, torch.rand, torch.randn):
        x = make(2, 3, dtype=torch.double, device="cpu", requires_grad=True)
        assert (x.shape, x.dtype, x.requires_grad) == ((2, 3), torch.float64, True)
    x = torch.linspace(0, 1, 5, requires_grad=True)
    (x * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.linspace(0, 1, 5))
    assert torch.from_numpy(np.ones(2)).dtype == torch.float64


def test_generator_is_a_stream_of_its_own() -> None:
    def order(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return [torch.randperm(20, generator=generator).tolist() for _ in range(2)]

    torch.manual_seed(0)
    first = order(1)
    torch.manual_seed(5)
    assert order(1) == first != order(2)
    assert first[0] != first[1]
    assert sorted(first[0]) == list(range(20))


def test_normal_has_its_mean_and_deviation() -> None:
    x = torch.normal(3.0, 0.5, (10000,)).numpy()
    assert abs(x.mean() - 3) < 0.03  # 6 standard errors
    assert abs(x.std() - 0.5) < 0.02


# ------------------------------------------------------------------------------ functions

X = np.array([[1.5, -2.0, 0.0], [0.5, 3.0, -1.0]])

CALLS = {
    "max": lambda t, x: t.max(x, 1).values,
    "max indices": lambda t, x: t.max(x, 1)[1],
    "max of the method": lambda t, x: x.max(dim=0)[0],
    "add": lambda t, x: t.add(x, x, alpha=2),
    "sub": lambda t, x: t.sub(x, 1),
    "mul": lambda t, x: t.mul(x, x),
    "div": lambda t, x: t.div(x, 2),
    "eq": lambda t, x: t.eq(x, 0),
    "ge": lambda t, x: t.ge(x, 0),
    "logical": lambda t, x: t.logical_and(x > 0, t.logical_not(x > 1)),
    "flatten": lambda t, x: t.flatten(x),
    "unsqueeze": lambda t, x: t.unsqueeze(x, dim=1),
    "transpose": lambda t, x: t.transpose(x, 0, 1),
    "bmm": lambda t, x: t.bmm(x.unsqueeze(0), x.t().unsqueeze(0)),
    "outer": lambda t, x: t.outer(x[0], x[1]),
    "count_nonzero": lambda t, x: t.count_nonzero(x, dim=1),
    "isfinite": lambda t, x: t.isfinite(x / (x - 3)),
    "where": lambda t, x: t.where(x > 0, x, t.zeros_like(x)),
    "softmax": lambda t, x: t.softmax(x, dim=1),
    "norm": lambda t, x: t.norm(x),
    "relu": lambda t, x: t.nn.functional.relu(x, inplace=False),
    "inplace": lambda t, x: t.nn.functional.leaky_relu(x.clone(), 0.2, inplace=True),
    "size": lambda t, x: t.zeros(size=(2, 3)) + t.ones(size=(3,)),
    "fill_value": lambda t, x: t.full((3,), fill_value=2.5).double() + t.full_like(x, fill_value=1),
    "one_hot": lambda t, x: t.nn.functional.one_hot((x > 0).long()),
    "float": lambda t, x: (x.argmax(1) == x.argmin(1)).float().mean(),
    "view": lambda t, x: x.view(x.size(0), -1, 1).squeeze(),
    "std": lambda t, x: t.std(x, dim=0),
    "std of the method": lambda t, x: x.std(0, False) + x.std(unbiased=False) + x.var(True),
    "norm 1": lambda t, x: t.norm(x, p=1, dim=1),
    "norm 2": lambda t, x: x.norm(2, dim=0, keepdim=True),
    "norm 3": lambda t, x: x.norm(3, 1) + x.norm(p=2.5),
    "norm inf": lambda t, x: x.norm(float("inf"), -1),
    "norm fro": lambda t, x: x.norm(p="fro"),
    "axis": lambda t, x: t.sum(x, axis=1) + x.mean(axis=1) + x.max(axis=1).values,
    "keepdims": lambda t, x: x.sum(axis=1, keepdims=True) / t.amax(x, axis=0),
    "cat": lambda t, x: t.cat([x, x], axis=1),
    "where alone": lambda t, x: t.where(x > 0)[1],
    "where of the method": lambda t, x: x.where(x > 0, 7.0),
    "nonzero": lambda t, x: t.nonzero(x),
    "logsumexp": lambda t, x: t.logsumexp(x, 1) + x.logsumexp(dim=1, keepdim=True),
    "logsumexp of nothing": lambda t, x: (x - float("inf")).logsumexp(1),
    "operators": lambda t, x: x.add(1).mul(x).sub(x, alpha=3).div(2).neg().remainder(2),
    "comparisons": lambda t, x: x.gt(0) | x.le(-1) & x.ne(0) ^ x.lt(2) | x.ge(1),
    "logical methods": lambda t, x: x.logical_and(x > 0).logical_not().logical_or(x > 2),
    "functions": lambda t, x: x.erf().ceil() + x.abs().log1p() + x.expm1(),
    "logarithms": lambda t, x: (x + 3).log2() + (x + 3).log10() + (x + 3).rsqrt().reciprocal(),
    "not finite": lambda t, x: (x / (x - 3)).isinf() | x.isnan() | ~t.isfinite(x),
    "order": lambda t, x: x.sort(dim=1, descending=True)[0] + x.argsort(1),
    "index_select": lambda t, x: t.index_select(x, 1, t.tensor([2, 0])),
    "masked_select": lambda t, x: t.masked_select(x, x > 0),
    "unique": lambda t, x: t.unique(x.abs().round(), return_counts=True)[1],
    "bincount": lambda t, x: t.bincount((x > 0).long().flatten(), minlength=4),
    "cdist": lambda t, x: t.cdist(x, x + 1),
    "stacks": lambda t, x: t.hstack([x, t.vstack([x[0], x[1:]])]),
    "meshgrid": lambda t, x: t.meshgrid(x[0], x[1], indexing="xy")[0],
    "new": lambda t, x: x.new_zeros(2, 3) + x.new_ones((2, 3)) + x.new_full((1,), 2.0),
    "new_tensor": lambda t, x: x.new_tensor([1, 2]),
    "type": lambda t, x: x.type(t.FloatTensor) + x.type(t.float32) + x.type("torch.FloatTensor"),
    "normalize": lambda t, x: t.nn.functional.normalize(x, dim=0),
    "outer of the method": lambda t, x: x[0].outer(x[1]).reshape_as(t.zeros(3, 3)),
}


@pytest.mark.parametrize("name", CALLS)
def test_functions_as_pytorch(name: str) -> None:
    ours = CALLS[name](torch, torch.tensor(X))
    theirs = CALLS[name](oracle, oracle.tensor(X))
    assert ours.shape == tuple(theirs.shape)
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12, atol=0)


def test_equal() -> None:
    x = torch.tensor(X)
    assert torch.equal(x, torch.tensor(X))
    assert not torch.equal(x, x + 1)
    assert not torch.equal(x, x[0])


def test_dtype_by_keyword_is_not_ignored() -> None:
    assert torch.zeros(2).to(device="cpu", dtype=torch.long).dtype == torch.int64
    assert nn.Linear(2, 1).to(dtype=torch.float64).weight.dtype == torch.float64


def test_initial_values_through_data() -> None:
    layer = nn.Linear(100, 100)
    layer.weight.data.normal_(0, 0.02)
    layer.bias.data.fill_(0.5)
    assert abs(layer.weight.detach().numpy().std() - 0.02) < 1e-3
    assert layer.bias.tolist() == [0.5] * 100
    layer.weight.data.uniform_(-0.1, 0.1)
    layer.weight.data.clamp_(-0.05, 0.05)
    assert np.abs(layer.weight.detach().numpy()).max() == np.float32(0.05)


def test_autograd_grad() -> None:
    def second(t: Any) -> float:
        x = t.tensor(1.7, dtype=t.float64, requires_grad=True)
        (dx,) = t.autograd.grad(t.sin(x) * x**2, x, create_graph=True)
        assert x.grad is None
        return float(t.autograd.grad(dx, x)[0].item())

    assert second(torch) == pytest.approx(second(oracle), rel=1e-12)


def test_autograd_grad_refuses_what_pytorch_refuses() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(errors.NotScalarError):
        torch.autograd.grad(x * 2, x)
    (dx,) = torch.autograd.grad(x * 2, x, grad_outputs=torch.tensor([1.0, 10.0]))
    assert dx.tolist() == [2.0, 20.0]
    other = torch.tensor(1.0, requires_grad=True)
    with pytest.raises(errors.NoGradientError):
        torch.autograd.grad(other * 2, x)
    assert torch.autograd.grad(other * 2, x, allow_unused=True) == (None,)


def test_clip_grad_norm_knows_only_the_euclidean() -> None:
    with pytest.raises(errors.OptionError, match="norm_type"):
        nn.utils.clip_grad_norm_(nn.Linear(1, 1).parameters(), 1.0, norm_type=1)
    with pytest.raises(errors.OptionError, match="error_if_nonfinite"):
        nn.utils.clip_grad_norm_(nn.Linear(1, 1).parameters(), 1.0, error_if_nonfinite=True)


def test_norm_has_no_gradient_at_zero() -> None:
    for p in (1, 2, 3, float("inf")):
        grads = []
        for t in (torch, oracle):
            x = t.zeros(2, 2, requires_grad=True)
            x.norm(p, dim=1).sum().backward()
            grads.append(x.grad.numpy())
        np.testing.assert_array_equal(*grads)
    with pytest.raises(errors.OptionError, match="p must be"):
        torch.ones(2).norm(0.5)


def test_what_a_tensor_says_of_itself() -> None:
    for t in (torch, oracle):
        x = t.ones(2, 3)
        assert x.type() == "torch.FloatTensor"
        assert x.long().type() == "torch.LongTensor"
        assert (x.nelement(), x.ndimension(), x.is_contiguous(), x.is_cuda) == (6, 2, True, False)
        assert x.is_floating_point()
        assert not t.is_floating_point(x.long())
        assert x.equal(t.ones(2, 3))
        assert x.allclose(t.ones(2, 3) + 1e-7)


def test_devices_of_layers() -> None:
    for make in (
        lambda **o: nn.Linear(2, 1, **o),
        lambda **o: nn.Conv2d(1, 1, 3, **o),
        lambda **o: nn.ConvTranspose2d(1, 1, 3, **o),
        lambda **o: nn.BatchNorm1d(2, **o),
        lambda **o: nn.LayerNorm(2, **o),
        lambda **o: nn.Embedding(3, 2, **o),
        lambda **o: nn.LSTM(2, 2, **o),
        lambda **o: nn.GRUCell(2, 2, **o),
        lambda **o: nn.MultiheadAttention(2, 1, **o),
        lambda **o: nn.TransformerEncoderLayer(2, 1, 4, **o),
    ):
        assert make(device="cpu", dtype=torch.float64).state_dict()
        with pytest.raises(errors.DeviceError, match="cuda"):
            make(device=torch.device("cuda"))


def test_cuda_and_half_are_refused() -> None:
    model = nn.Linear(1, 1)
    for what in (model, torch.ones(1)):
        with pytest.raises(errors.DeviceError, match="cuda"):
            what.cuda()
        with pytest.raises(errors.MissingFeatureError, match="half is not part"):
            what.half()


def test_loading_says_that_all_went_well() -> None:
    model = nn.Linear(1, 1)
    assert str(model.load_state_dict(model.state_dict())) == "<All keys matched successfully>"
    partly = model.load_state_dict({"weight": torch.ones(1, 1), "x": 1}, strict=False)
    assert "missing_keys=['bias'], unexpected_keys=['x']" in str(partly)


# ------------------------------------------------------------------------------ missing


@pytest.mark.parametrize(
    ("owner", "name", "says"),
    [
        (torch, "compile", "cr.compile"),
        (torch, "empty", "torch.zeros"),
        (torch, "softmx", "did you mean softmax?"),
        (torch, "stft", "torch.stft is not part of chainrule"),
        (torch.cuda, "amp", "leave it out"),
        (nn, "DataParallel", "the model itself"),
        (nn, "Linaer", "did you mean Linear?"),
        (F, "grid_sample", "torch.nn.functional.grid_sample"),
        (torch.optim, "LBFGS", "Adam"),
        (torch.optim.lr_scheduler, "CyclicLR", "torch.optim.lr_scheduler.CyclicLR"),
        (torch.vision, "models", "torchvision.models"),
    ],
)
def test_missing_names_say_what_to_use(owner: Any, name: str, says: str) -> None:
    with pytest.raises(errors.MissingFeatureError) as caught:
        getattr(owner, name)
    assert says in str(caught.value)
    assert not hasattr(owner, name)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import chainrule.like_torch.jit", "cr.compile"),
        ("from chainrule.like_torch.cuda.amp import GradScaler", "torch.cuda.amp"),
        ("from chainrule.like_torch.nn import DataParallel", "the model itself"),
        ("from chainrule.like_torch.nn.functional import grid_sample", "grid_sample"),
        ("from chainrule.like_torch.optim.lr_scheduler import CyclicLR", "CyclicLR"),
        ("from chainrule.like_torch.utils.tensorboard import SummaryWriter", "metrics.jsonl"),
        ("from chainrule.like_torch.vision import models", "torchvision.models"),
    ],
)
def test_missing_imports_say_what_to_use(line: str, says: str) -> None:
    with pytest.raises(errors.MissingModuleError) as caught:
        exec(line)
    assert says in str(caught.value)


def test_missing_in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    with pytest.raises(errors.MissingFeatureError, match="编译整个训练步骤"):
        _ = torch.compile


def test_missing_methods() -> None:
    x = torch.ones(2)
    with pytest.raises(errors.MissingFeatureError, match="did you mean squeeze"):
        x.squeze()
    with pytest.raises(errors.MissingFeatureError, match=r"x = x.relu\(...\)"):
        x.relu_()
    assert not hasattr(x, "__array_interface__")
