"""Changes to gradients between ``backward()`` and ``step()``; ``rnn``: sequences of all lengths."""

from __future__ import annotations

from collections.abc import Iterable

from chainrule.core.dtype import default_dtype
from chainrule.core.graph import Variable
from chainrule.core.op import constant
from chainrule.core.ops import arithmetic, functions, reduction
from chainrule.nn import packing as rnn
from chainrule.tensor.state import current
from chainrule.tensor.tensor import Tensor, wrap
from chainrule.tensor.variable import VariableTensor

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "rnn",
]


def _graded(parameters: VariableTensor | Iterable[VariableTensor]) -> list[Variable]:
    chosen = [parameters] if isinstance(parameters, VariableTensor) else list(parameters)
    return [p.variable for p in chosen if p.variable in current().grads]


def clip_grad_norm_(
    parameters: VariableTensor | Iterable[VariableTensor], max_norm: float
) -> Tensor:
    """Scale all gradients by max_norm / norm where their joint Euclidean norm is larger.

    Returns:
        The norm before clipping.

    Example:
        >>> from chainrule import nn
        >>> w = nn.Parameter([3.0, 4.0])
        >>> (w * w).sum().backward()
        >>> clip_grad_norm_([w], 1.0).item()
        10.0

    Source: Pascanu et al., "On the difficulty of training recurrent neural networks", 2013.
    """
    grads = current().grads
    variables = _graded(parameters)
    if not variables:
        return wrap(constant(0.0, default_dtype()))
    total = reduction.sum(functions.square(grads[variables[0]]))
    for variable in variables[1:]:
        total = total + reduction.sum(functions.square(grads[variable]))
    norm = arithmetic.sqrt(total)
    factor = arithmetic.minimum(max_norm / (norm + 1e-6), 1.0)
    for variable in variables:
        grads[variable] = grads[variable] * factor
    return wrap(norm)


def clip_grad_value_(
    parameters: VariableTensor | Iterable[VariableTensor], clip_value: float
) -> None:
    """Keep every entry of every gradient within -clip_value and clip_value."""
    grads = current().grads
    for variable in _graded(parameters):
        bounded = arithmetic.minimum(grads[variable], float(clip_value))
        grads[variable] = arithmetic.maximum(bounded, -float(clip_value))
