"""Modules: their parts, state dicts as in PyTorch, modes, printing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import nn
from chainrule.errors import OptionError, StateDictError


def nested(m: Any) -> Any:
    """The same network in both libraries: nested containers, a buffer, a shared layer."""

    class Block(m.nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.scale = m.nn.Parameter(m.ones(n))
            self.fc = m.nn.Linear(n, n)
            self.register_buffer("seen", m.zeros(2))
            self.act = m.nn.Tanh()
            self.shift = m.nn.Parameter(m.zeros(n))

        def forward(self, x: Any) -> Any:
            return self.act(self.fc(x)) * self.scale + self.shift

    class Net(m.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = m.nn.Linear(3, 4)
            self.blocks = m.nn.ModuleList([Block(4), Block(4)])
            self.heads = m.nn.ModuleDict(
                {"a": m.nn.Linear(4, 2), "b": m.nn.Linear(4, 1, bias=False)}
            )
            self.again = self.blocks[0]
            self.tail = m.nn.Sequential(m.nn.ReLU(), m.nn.Sequential(m.nn.Linear(2, 2)))
            self.tied = self.heads["a"].weight

        def forward(self, x: Any) -> Any:
            x = self.first(x)
            for block in self.blocks:
                x = block(x)
            x = self.again(x)
            return self.tail(self.heads["a"](x)) + self.heads["b"](x)

    return Net()


@pytest.fixture
def pair() -> tuple[nn.Module, torch.nn.Module]:
    return nested(cr), nested(torch)


def test_names_are_pytorchs(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_buffers()] == [n for n, _ in theirs.named_buffers()]
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert [n for n, _ in ours.named_children()] == [n for n, _ in theirs.named_children()]
    assert len(list(ours.parameters())) == len(list(theirs.parameters()))


def test_state_goes_to_pytorch_and_back(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours(cr.tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-6)
    fresh = nested(cr)
    assert fresh(cr.tensor(x)).tolist() != ours(cr.tensor(x)).tolist()
    result = fresh.load_state_dict(theirs.state_dict())
    assert result == ([], [])
    assert fresh(cr.tensor(x)).tolist() == ours(cr.tensor(x)).tolist()


def test_gradients_through_shared_parts(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    ours.double()
    theirs.double()
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(5, 3))
    (ours(cr.tensor(x)) ** 2).sum().backward()
    (theirs(torch.tensor(x)) ** 2).sum().backward()
    for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-10, err_msg=name)


def test_a_state_dict_is_a_snapshot() -> None:
    layer = nn.Linear(2, 1)
    state = layer.state_dict()
    before = state["weight"].tolist()
    layer.weight.zero_()
    assert state["weight"].tolist() == before
    layer.load_state_dict(state)
    assert layer.weight.tolist() == before


def test_a_state_dict_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    state: dict[str, Any] = model.state_dict()
    before = {name: value.tolist() for name, value in state.items()}
    state["0.wieght"] = state.pop("0.weight")
    state["2.bias"] = np.zeros(3)
    state["0.bias"] = np.ones(2)
    with pytest.raises(StateDictError) as caught:
        model.load_state_dict(state)
    assert str(caught.value) == (
        "state dict does not fit Sequential:\n"
        "    missing key 0.weight\n"
        "    unknown key 0.wieght (did you mean 0.weight?)\n"
        "    2.bias has shape (3,), the model needs (1,)\n"
        "  Mend: build the model with the sizes it was saved with; strict=False skips keys"
    )
    monkeypatch.setenv("CHAINRULE_LANG", "zh")
    assert str(caught.value).startswith("state dict 与 Sequential 不符")
    assert {name: value.tolist() for name, value in model.state_dict().items()} == before
    del state["2.bias"]
    missing, unknown = model.load_state_dict(state, strict=False)
    assert (missing, unknown) == (["0.weight", "2.bias"], ["0.wieght"])
    assert model[0].bias.tolist() == [1, 1]


def test_buffers() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            self.register_buffer("count", cr.zeros(1))
            self.register_buffer("cache", cr.zeros(1), persistent=False)
            self.register_buffer("nothing", None)
            self.register_parameter("p", nn.Parameter([1.0]))
            self.add_module("fc", nn.Linear(1, 1))

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            self.count += 1
            return x * self.count

    model = Counter()
    step = cr.compile(lambda x: model(x))
    assert [step(cr.ones(1)).item() for _ in range(3)] == [1, 2, 3]
    assert model.count.item() == 3
    assert list(model.state_dict()) == ["p", "count", "fc.weight", "fc.bias"]
    assert [n for n, _ in model.named_buffers()] == ["count", "cache"]
    assert not model.count.requires_grad
    twin = copy.deepcopy(model)
    model(cr.ones(1)).tolist()
    assert (twin.count.item(), model.count.item(), twin.cache.persistent) == (3, 4, False)


def test_apply_and_modes() -> None:
    model = nested(cr)
    seen: list[str] = []
    assert model.apply(lambda m: seen.append(type(m).__name__)) is model
    assert seen[-1] == "Net"
    assert seen.index("Linear") < seen.index("Block")
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    model.train()
    assert all(m.training for m in model.modules())


def test_freeze() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].freeze()
    assert model[0].frozen
    assert not model.frozen
    model(cr.ones(1, 2)).sum().backward()
    assert model[0].weight.grad is None
    assert model[1].weight.grad is not None
    model[0].unfreeze()
    model(cr.ones(1, 2)).sum().backward()
    assert model[0].weight.grad is not None
    model.zero_grad()
    assert model[0].weight.grad is None
    model.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())


def test_types() -> None:
    model = nested(cr).double()
    assert {p.dtype for p in model.parameters()} == {cr.float64}
    assert model.float().first.weight.dtype == cr.float32
    assert model.to("cpu", dtype=cr.float64).first.weight.dtype == cr.float64
    assert model(cr.ones(1, 3, dtype=cr.float64)).dtype == cr.float64


def test_repr() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.LeakyReLU(0.2))
            self.drop = nn.Dropout(0.5)
            self.loss = nn.MSELoss("sum")

    assert repr(Net()) == (
        "Net(\n"
        "  (body): Sequential(\n"
        "    (0): Flatten(start_dim=1, end_dim=-1)\n"
        "    (1): Linear(in_features=4, out_features=2, bias=True)\n"
        "    (2): LeakyReLU(negative_slope=0.2)\n"
        "  )\n"
        "  (drop): Dropout(p=0.5)\n"
        "  (loss): MSELoss(reduction='sum')\n"
        ")"
    )


# ------------------------------------------------------------------------------ containers


def test_sequential() -> None:
    a, b, c = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    model = nn.Sequential(a, b, c)
    assert len(model) == 3
    assert list(model) == [a, b, c]
    assert (model[0], model[-1]) == (a, c)
    part = model[1:]
    assert isinstance(part, nn.Sequential)
    assert list(part) == [b, c]
    assert part(cr.ones(1, 3)).tolist() == c(cr.ones(1, 3)).tolist()
    model[1] = nn.Tanh()
    assert isinstance(model[1], nn.Tanh)
    model.append(nn.ReLU())
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    named = nn.Sequential({"first": a, "act": b})
    assert [name for name, _ in named.named_parameters()] == ["first.weight", "first.bias"]
    assert named.first is a


def test_module_list_and_dict() -> None:
    layers = [nn.Linear(1, 1) for _ in range(4)]
    found = nn.ModuleList(layers[:2]).extend(layers[2:])
    assert len(found) == 4
    assert list(found) == layers
    assert found[-1] is layers[3]
    assert list(found[::2]) == layers[::2]
    found[-1] = replaced = nn.ReLU()
    assert found[3] is replaced
    with pytest.raises(IndexError):
        found[4]
    table = nn.ModuleDict({"x": layers[0]})
    table["y"] = layers[1]
    assert (list(table), len(table), "y" in table, "z" in table) == (["x", "y"], 2, True, False)
    assert table["y"] is layers[1]
    assert (table.keys(), table.values()) == (["x", "y"], layers[:2])
    assert table.items() == [("x", layers[0]), ("y", layers[1])]


def test_module_names_that_would_hide_a_method() -> None:
    for make in (nn.ModuleDict, nn.Sequential):
        with pytest.raises(OptionError, match="a module's name must be no method of"):
            make({"train": nn.ReLU()})
    with pytest.raises(OptionError, match="keys"):
        nn.ModuleDict()["keys"] = nn.ReLU()


def test_scopes_follow_the_path() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.layers = nn.ModuleList()
            self.layers.append(nn.ModuleDict({"fc": nn.Linear(1, 1)}))

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            return self.layers[0]["fc"](x)

    model = Net()
    assert ".".join(model(cr.ones(1, 1)).node.scope) == "layers.0.fc"
    assert list(model.layers[:1]) == [model.layers[0]]
    assert ".".join(model(cr.ones(1, 1)).node.scope) == "layers.0.fc"


def test_forward_is_needed() -> None:
    with pytest.raises(NotImplementedError, match=r"Module has no forward\(\)"):
        nn.Module()(1)


def test_errors_raised_in_a_forward_name_the_layer() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            self.gate = Refusing()

        def forward(self, x: cr.Tensor) -> cr.Tensor:
            made: cr.Tensor = self.gate(x)
            return made

    with pytest.raises(OptionError) as raised:
        Block()(cr.ones(1))
    assert raised.value.layer == "gate"
    assert raised.value.source is not None


class Refusing(nn.Module):
    def forward(self, x: cr.Tensor) -> cr.Tensor:
        raise OptionError(name="width", expected="more", got=x.shape)


def test_arrays_are_taken_as_data() -> None:
    layer = nn.Linear(2, 1)
    x = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(layer(x).numpy(), layer(cr.tensor(x)).numpy())


def test_lines_of_layers_and_of_modules_of_ones_own() -> None:
    """What a layer makes is of the line that calls it; what one's own module does, of its own."""

    class Doubled(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2  # the line of the product

    class Net(nn.Module):
        def __init__(self) -> None:
            self.layers = nn.Sequential(nn.Linear(2, 3), Doubled(), nn.Linear(3, 1))

        def forward(self, x: Any) -> Any:
            return self.layers(x)  # the line of the layers

    last = Net()(cr.ones(4, 2)).node
    product = last.inputs[0]
    first = product.inputs[0]
    lines = Path(__file__).read_text("utf-8").splitlines()
    found = [lines[node.source.line - 1] for node in (first, product, last)]
    assert [line.split("# ")[1] for line in found] == [
        "the line of the layers", "the line of the product", "the line of the layers",
    ]  # fmt: skip
