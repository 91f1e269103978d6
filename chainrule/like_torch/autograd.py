"""``torch.autograd``: gradients without ``backward``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.core.grad import gradients
from chainrule.errors import NoGradientError, NotScalarError
from chainrule.like_torch.missing import refuse
from chainrule.tensor.tensor import Tensor, wrap
from chainrule.tensor.transforms import gradcheck

__all__ = ["Variable", "backward", "grad", "gradcheck"]

__path__: list[str] = []


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """d(outputs)/d(each input), without touching ``.grad``.

    Args:
        outputs: tensors with one entry, or any with ``grad_outputs``.
        inputs: the tensors to differentiate by.
        grad_outputs: dL/d(output) of each output; 1 when not given.
        retain_graph: accepted; graphs are always kept while they are used.
        create_graph: accepted; gradients always have gradients.
        allow_unused: give None for an input the outputs do not depend on.

    Raises:
        NotScalarError: an output with several entries and no ``grad_outputs``.
        NoGradientError: an input the outputs do not depend on.

    Example:
        >>> import chainrule.like_torch as torch
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> (dx,) = torch.autograd.grad(x**2, x, create_graph=True)
        >>> dx.item(), torch.autograd.grad(dx, x)[0].item()
        (6.0, 2.0)
    """
    tops, leaves = _listed(outputs), _listed(inputs)
    seeds = None if grad_outputs is None else [g.node for g in _listed(grad_outputs)]
    for top in tops if seeds is None else []:
        if top.numel() != 1:
            raise NotScalarError(
                op="autograd.grad", shape=top.shape, mend="take .sum(), or give grad_outputs"
            )
    found = gradients([top.node for top in tops], [leaf.node for leaf in leaves], seeds)
    if not allow_unused and None in found:
        raise NoGradientError(
            op="autograd.grad",
            reason=f"the outputs do not depend on input {found.index(None)}",
            reason_zh=f"输出与第 {found.index(None)} 个输入无关",
            mend="use it in the outputs, or give allow_unused=True",
            mend_zh="在输出中使用它,或给出 allow_unused=True",
        )
    return tuple(None if node is None else wrap(node) for node in found)


def _listed(tensors: Any) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def backward(tensors: Tensor | Sequence[Tensor], grad_tensors: Any = None) -> None:
    """``backward()`` of each tensor."""
    tops = _listed(tensors)
    seeds = [None] * len(tops) if grad_tensors is None else _listed(grad_tensors)
    for top, seed in zip(tops, seeds, strict=True):
        top.backward(seed)


def Variable(data: Tensor, requires_grad: bool = False) -> Tensor:
    """The tensor itself (needed in PyTorch before 0.4)."""
    return data.requires_grad_() if requires_grad else data


__getattr__ = refuse(__name__)
