"""``torch.nn.utils``: clipping, and sequences of different lengths (``rnn``)."""

from __future__ import annotations

from typing import Any

from chainrule.errors import OptionError
from chainrule.like_torch.missing import refuse
from chainrule.like_torch.nn.utils import rnn
from chainrule.nn import utils as library
from chainrule.nn.utils import clip_grad_value_
from chainrule.tensor.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "rnn"]


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients down where their joint Euclidean norm is larger than ``max_norm``.

    Raises:
        OptionError: another norm than 2, or ``error_if_nonfinite``.
    """
    if error_if_nonfinite:
        raise OptionError(
            name="error_if_nonfinite",
            expected="False",
            got=True,
            mend="look at the norm it returns",
        )
    if norm_type != 2:
        raise OptionError(name="norm_type", expected="2", got=norm_type)
    return library.clip_grad_norm_(parameters, max_norm)


__getattr__ = refuse(__name__)
