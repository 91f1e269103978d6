"""Hold a module against PyTorch's of the same weights: outputs, gradients, update steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import chainrule as cr
from chainrule import nn, optim

Array = np.ndarray[Any, Any]

EXACT = {"rtol": 1e-9, "atol": 1e-13}  # a gradient that is 0 in theory is 1e-17 in practice


def random_weights(module: torch.nn.Module, seed: int = 0) -> None:
    """Every parameter drawn anew, biases and norms too: zeros and ones would hide mistakes."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            numbers = rng.standard_normal(parameter.shape) / max(1, parameter.shape[-1]) ** 0.5
            parameter.copy_(torch.tensor(numbers))


def same_weights(ours: nn.Module, theirs: torch.nn.Module) -> None:
    """Random weights in both, by way of the state dict; its keys and shapes agree."""
    theirs.double()
    random_weights(theirs)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    ours.double().load_state_dict(state)
    for key, value in ours.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[key].numpy(), err_msg=key)


def weighed(outputs: Sequence[Any], like: Callable[[Array], Any]) -> Any:
    """One number in which every entry of every output counts."""
    total = None
    for y in outputs:
        weights = np.cos(np.arange(np.prod(y.shape))).reshape(tuple(y.shape))
        part = (y * like(weights)).sum()
        total = part if total is None else total + part
    return total


def hold(
    ours: nn.Module,
    theirs: torch.nn.Module,
    inputs: Sequence[Array],
    call: Callable[..., Any] = lambda module, *xs: module(*xs),
    tolerance: dict[str, float] = EXACT,
    steps: int = 5,
) -> None:
    """Outputs, gradients of floats that go in and of parameters, and steps of SGD are the same.

    ``call`` gets the module and its inputs, of either library, and gives an output or several.
    """
    same_weights(ours, theirs)
    xs = [cr.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    ts = [torch.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    optimizer = optim.SGD(ours.parameters(), lr=0.01, momentum=0.9)
    reference = torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=0.9)
    for step in range(steps + 1):
        ys, zs = _listed(call(ours, *xs)), _listed(call(theirs, *ts))
        for y, z in zip(ys, zs, strict=True):
            assert y.shape == tuple(z.shape)
            np.testing.assert_allclose(y.numpy(), z.detach().numpy(), **tolerance)
        weighed(ys, cr.tensor).backward()
        weighed(zs, torch.tensor).backward()
        if step == 0:
            _compare_gradients([*xs, *ours.parameters()], [*ts, *theirs.parameters()], tolerance)
        optimizer.step()
        reference.step()
        reference.zero_grad()
    for (name, p), t in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.numpy(), t.detach().numpy(), **tolerance, err_msg=name)


def _listed(made: Any) -> list[Any]:
    return [y for y in made if y is not None] if isinstance(made, tuple | list) else [made]


def _compare_gradients(
    ours: Sequence[Any], theirs: Sequence[Any], tolerance: dict[str, float]
) -> None:
    for p, t in zip(ours, theirs, strict=True):
        if t.grad is None or p.grad is None:
            assert t.grad is None or not t.grad.any(), t.shape
            assert p.grad is None or not p.grad.numpy().any(), p.shape
            continue
        np.testing.assert_allclose(p.grad.numpy(), t.grad.numpy(), **tolerance)
