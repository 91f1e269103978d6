"""Random feed-forward networks: output, loss, gradients and updates are PyTorch's, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, optim

ACTIVATIONS = (
    "Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus", "Softmax",
    "LogSoftmax", "Identity",
)  # fmt: skip
LOSSES = ("MSELoss", "L1Loss", "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "NLLLoss")
OPTIMIZERS = (("SGD", {"lr": 0.1, "momentum": 0.9}), ("Adam", {"lr": 0.01}), ("AdamW", {"lr": 0.1}))


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    depth = draw(st.integers(1, 4))
    return {
        "sizes": draw(st.lists(st.integers(1, 7), min_size=depth + 1, max_size=depth + 1)),
        "activations": draw(st.lists(st.sampled_from(ACTIVATIONS), min_size=depth, max_size=depth)),
        "biases": draw(st.lists(st.booleans(), min_size=depth, max_size=depth)),
        "loss": draw(st.sampled_from(LOSSES)),
        "optimizer": draw(st.sampled_from(OPTIMIZERS)),
        "batch": draw(st.integers(1, 5)),
        "seed": draw(st.integers(0, 2**20)),
    }


def build(m: Any, case: dict[str, Any]) -> Any:
    """The network in one of the libraries; its last activation suits the loss."""
    layers = []
    sizes = case["sizes"]
    ends = {"BCELoss": "Sigmoid", "NLLLoss": "LogSoftmax"}.get(case["loss"], "Identity")
    names = [*case["activations"][1:], ends]
    for a, b, bias, name in zip(sizes, sizes[1:], case["biases"], names, strict=False):
        layers.append(m.nn.Linear(a, b, bias=bias))
        options = {"dim": -1} if "Softmax" in name else {}
        layers.append(getattr(m.nn, name)(**options))
    return m.nn.Sequential(*layers).double()


def data(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(case["seed"])
    x = random.normal(size=(case["batch"], case["sizes"][0]))
    classes = case["sizes"][-1]
    if case["loss"] in ("CrossEntropyLoss", "NLLLoss"):
        return x, random.integers(0, classes, case["batch"])
    return x, random.random((case["batch"], classes))


def run(m: Any, case: dict[str, Any], model: Any, optimizer: Any) -> dict[str, np.ndarray]:
    """Every number of two steps."""
    x, y = map(m.tensor, data(case))
    found = {}
    for t in range(2):
        optimizer.zero_grad()
        output = model(x)
        loss = getattr(m.nn, case["loss"])()(output, y)
        loss.backward()
        found |= {f"output {t}": output.detach().numpy(), f"loss {t}": loss.detach().numpy()}
        found |= {f"{name}.grad {t}": p.grad.numpy().copy() for name, p in model.named_parameters()}
        optimizer.step()
        found |= {f"{n} {t}": p.detach().numpy().copy() for n, p in model.named_parameters()}
    return found


def ours(case: dict[str, Any]) -> dict[str, np.ndarray]:
    cr.manual_seed(case["seed"])
    model = build(cr, case)
    name, options = case["optimizer"]
    return run(cr, case, model, getattr(optim, name)(model.parameters(), **options))


def pytorchs(case: dict[str, Any]) -> dict[str, np.ndarray]:
    cr.manual_seed(case["seed"])
    model = build(torch, case)
    start = build(cr, case).state_dict()
    model.load_state_dict({key: torch.tensor(value.numpy()) for key, value in start.items()})
    name, options = case["optimizer"]
    return run(torch, case, model, getattr(torch.optim, name)(model.parameters(), **options))


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-11, err_msg=key)


@settings(max_examples=150)
@given(networks())
def test_the_interpreter_agrees_with_pytorch(case: dict[str, Any]) -> None:
    same(ours(case), pytorchs(case))


@settings(max_examples=60)
@given(networks())
def test_the_torch_executor_agrees_with_the_interpreter(case: dict[str, Any]) -> None:
    cr.set_executor("interpreter")
    expected = ours(case)
    cr.set_executor("torch")
    same(ours(case), expected)


@settings(max_examples=40)
@given(networks())
@pytest.mark.parametrize("executor", ["interpreter", "torch"])
def test_compiled_steps_agree(executor: str, case: dict[str, Any]) -> None:
    cr.set_executor(executor)
    results = []
    for compiled in (False, True):
        cr.manual_seed(case["seed"])
        model = build(cr, case)
        name, options = case["optimizer"]
        optimizer = getattr(optim, name)(model.parameters(), **options)

        def step(x: Any, y: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            loss = getattr(nn, case["loss"])()(model(x), y)
            optimizer.step(loss)
            return loss

        chosen = cr.compile(step) if compiled else step
        x, y = map(cr.tensor, data(case))
        losses = [chosen(x, y).item() for _ in range(3)]
        results.append([losses, *(p.tolist() for p in model.parameters())])
    if executor == "interpreter":
        assert results[0] == results[1]  # bit for bit
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
