"""``autograd.Function``, beside PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as oracle

import chainrule as cr
import chainrule.like_torch as torch
from chainrule import errors


def functions(t: Any) -> dict[str, Any]:
    """The same classes for both libraries."""

    class Exp(t.autograd.Function):  # type: ignore[misc, name-defined]
        """Saves its result."""

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = t.exp(x)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 2 * g * ctx.saved_tensors[0]  # twice the truth, so that it is seen to be used

    class Scale(t.autograd.Function):  # type: ignore[misc, name-defined]
        """Fixed arguments on both sides of the tensor, written in the newer way."""

        @staticmethod
        def forward(factor: float, x: Any, power: int = 1) -> Any:
            return factor * x**power

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.factor, x, *ctx.power = inputs
            ctx.save_for_backward(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            (power,) = ctx.power or [1]
            return None, ctx.factor * power * g * x ** (power - 1), None

    class SumAndProduct(t.autograd.Function):  # type: ignore[misc, name-defined]
        """Two results; only what is needed is computed."""

        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            ctx.save_for_backward(x, y)
            return x + y, x * y

        @staticmethod
        def backward(ctx: Any, g_sum: Any, g_product: Any) -> Any:
            x, y = ctx.saved_tensors
            needs_x, needs_y = ctx.needs_input_grad
            return (
                g_sum + g_product * y if needs_x else None,
                g_sum + g_product * x if needs_y else None,
            )

    def both(x: Any) -> Any:
        s, p = SumAndProduct.apply(x, t.full((3,), 2.0, dtype=x.dtype))
        return s * p + SumAndProduct.apply(x, x)[1]

    return {
        "saved result": Exp.apply,
        "fixed arguments": lambda x: Scale.apply(1.5, x, 3),
        "argument left out": lambda x: Scale.apply(1.5, x),
        "two results": both,
        "one in the other": lambda x: Exp.apply(Scale.apply(0.5, x, 2)),
    }


@pytest.mark.parametrize("executor", ["interpreter", "torch"])
@pytest.mark.parametrize("name", functions(oracle))
def test_as_pytorch(name: str, executor: str) -> None:
    cr.set_executor(executor)
    found = []
    for t in (torch, oracle):
        x = t.tensor([0.3, -1.2, 2.0], dtype=t.float64, requires_grad=True)
        y = functions(t)[name](x)
        (first,) = t.autograd.grad((y * y).sum(), x, create_graph=True)
        (second,) = t.autograd.grad(first.sum(), x)
        found.append([z.detach().numpy() for z in (y, first, second)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_inside_a_compiled_step() -> None:
    exp = functions(torch)["saved result"]
    w = torch.tensor([0.5, 1.0], requires_grad=True)

    @cr.compile
    def step() -> Any:
        loss = exp(w).sum()
        loss.backward()
        w.data -= 0.1 * w.grad
        w.grad = None
        return loss

    losses = [step().item() for _ in range(3)]
    value, expected = np.array([0.5, 1.0]), []
    for _ in range(3):
        expected.append(np.exp(value).sum())
        value = value - 0.1 * 2 * np.exp(value)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_a_derivation_shows_both_parts() -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return 3 * ctx.saved_tensors[0] ** 2 * g

    class Net(cr.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self.w = cr.nn.Parameter([[0.5]])  # type: ignore[attr-defined]

        def forward(self, x: Any) -> Any:
            return Cube.apply(x @ self.w)

    text = str(cr.explain(Net(), [[2.0]], [[3.0]], loss=cr.nn.MSELoss()))  # type: ignore[operator]
    assert "u1 = z^3 = 1^3 = 1" in text
    assert "delta = dL/dz = 3*z^2*dL/du1" in text  # as backward() says, and checked


class WrongCount(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        return x * y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g


class Looks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * x.sum().item()


def test_mistakes_are_named() -> None:
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(errors.OptionError, match="2 gradients, one for each argument"):
        WrongCount.apply(x, x).sum().backward()
    with pytest.raises(errors.TracedValueError):
        Looks.apply(x)
    with pytest.raises(errors.OptionError, match="argument_1 of WrongCount"):
        WrongCount.apply(x, [1.0])
    with pytest.raises(AttributeError, match="left no 'mask'"):
        _ = torch.autograd.FunctionCtx().mask
