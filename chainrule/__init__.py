"""chainrule: a neural-network library that you can read.

One graph is run, differentiated and explained::

    import chainrule as cr
    from chainrule import nn, optim
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
from chainrule.errors import ChainruleError, closest
from chainrule.run import executor, set_executor
from chainrule.tensor import functions as _functions
from chainrule.tensor import places as _places
from chainrule.tensor import products as _products
from chainrule.tensor.compile import compile
from chainrule.tensor.functions import *  # noqa: F403
from chainrule.tensor.places import *  # noqa: F403
from chainrule.tensor.products import *  # noqa: F403
from chainrule.tensor.scan import scan
from chainrule.tensor.state import manual_seed
from chainrule.tensor.tensor import Tensor, tensor
from chainrule.tensor.transforms import function, grad, gradcheck, no_grad, value_and_grad

if TYPE_CHECKING:
    from chainrule import data as data
    from chainrule import formats as formats
    from chainrule import nn as nn
    from chainrule import optim as optim
    from chainrule.explain.document import explain as explain
    from chainrule.profile.measure import profile as profile

__version__ = "0.1.0"

__all__ = [
    "ChainruleError",
    "Tensor",
    "bool_",
    "compile",
    "default_dtype",
    "executor",
    "float32",
    "float64",
    "function",
    "grad",
    "gradcheck",
    "int32",
    "int64",
    "manual_seed",
    "no_grad",
    "scan",
    "set_default_dtype",
    "set_executor",
    "tensor",
    "uint8",
    "uint32",
    "value_and_grad",
]
__all__ += _functions.__all__
__all__ += _places.__all__
__all__ += _products.__all__

# Packages that are imported when first asked for, so that ``import chainrule`` stays cheap.
_PACKAGES = ("data", "explain", "formats", "models", "nn", "optim", "profile", "train")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    near = closest(name, [*__all__, *_PACKAGES])
    hint = f"; did you mean {near}?" if near else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])
