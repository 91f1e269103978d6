"""``torch.nn.functional``: the library's, with the arguments that it has no use for."""

from __future__ import annotations

from typing import Any

from chainrule.like_torch.missing import refuse
from chainrule.nn import functional as library
from chainrule.nn.functional import *  # noqa: F403
from chainrule.tensor.tensor import Tensor

__all__ = ["dropout", "dropout2d", "normalize", "one_hot", "relu"]
__all__ += library.__all__
__path__: list[str] = []


def relu(input: Tensor, inplace: bool = False) -> Tensor:  # type: ignore[no-redef]
    """max(0, x); ``inplace`` is accepted."""
    return library.relu(input)


def dropout(  # type: ignore[no-redef]
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Entries dropped with probability p; ``inplace`` is accepted."""
    return library.dropout(input, p, training)


def dropout2d(  # type: ignore[no-redef]
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Channels dropped with probability p; ``inplace`` is accepted."""
    return library.dropout2d(input, p, training)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x over its p-norm along an axis, or over ``eps`` where that is larger."""
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps)


def one_hot(labels: Tensor, num_classes: Any = -1) -> Tensor:  # type: ignore[no-redef]
    """1 in the column of the class; as many columns as the largest label needs, if not given."""
    classes = int(labels.max().item()) + 1 if num_classes == -1 else num_classes
    return library.one_hot(labels, classes)


__getattr__ = refuse(__name__)
