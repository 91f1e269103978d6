"""``torch.nn.functional``: the library's, with the arguments that it has no use for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.like_torch.missing import refuse
from chainrule.nn import functional as library
from chainrule.nn.functional import *  # noqa: F403
from chainrule.tensor.tensor import Tensor

_INPLACE = [
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "hardswish", "hardtanh",
    "hardsigmoid", "threshold", "dropout", "dropout1d", "dropout2d", "alpha_dropout",
]  # fmt: skip

__all__ = ["normalize", "one_hot"]
__all__.extend(_INPLACE)
__all__ += library.__all__
__path__: list[str] = []


def _takes_inplace(name: str) -> Callable[..., Tensor]:
    """The library's function, which also accepts ``inplace``: tensors never change here."""

    # Looked up at each call: a program's nn.Dropout and F.dropout are one function.
    def call(input: Tensor, *args: Any, inplace: bool = False, **options: Any) -> Tensor:
        made: Tensor = getattr(library, name)(input, *args, **options)
        return made

    call.__name__ = call.__qualname__ = name
    call.__doc__ = getattr(library, name).__doc__
    return call


for _name in _INPLACE:
    globals()[_name] = _takes_inplace(_name)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x over its p-norm along an axis, or over ``eps`` where that is larger."""
    return input / input.norm(p, dim, keepdim=True).clamp(min=eps)


def one_hot(labels: Tensor, num_classes: Any = -1) -> Tensor:  # type: ignore[no-redef]
    """1 in the column of the class; as many columns as the largest label needs, if not given."""
    classes = int(labels.max().item()) + 1 if num_classes == -1 else num_classes
    return library.one_hot(labels, classes)


__getattr__ = refuse(__name__)
