"""chainrule: a neural-network library that you can read.

One graph is run, differentiated and explained::

    import chainrule as cr
    from chainrule import nn, optim
"""

from __future__ import annotations

from typing import Any

from chainrule.core.dtype import (
    bool_,
    default_dtype,
    float32,
    float64,
    int32,
    int64,
    set_default_dtype,
    uint8,
    uint32,
)
from chainrule.errors import ChainruleError
from chainrule.run import executor, set_executor
from chainrule.tensor.compile import compile
from chainrule.tensor.functions import *  # noqa: F403
from chainrule.tensor.state import manual_seed
from chainrule.tensor.tensor import Tensor, tensor
from chainrule.tensor.transforms import function, grad, gradcheck, no_grad, value_and_grad

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("explain", "profile"):
        raise AttributeError(name)
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}")
