"""A PyTorch-shaped face: an ordinary training program runs here after changing its imports only.

::

    import chainrule.like_torch as torch
    import chainrule.like_torch.nn as nn
    from chainrule.like_torch.utils.data import DataLoader, TensorDataset
    from chainrule.like_torch.vision import datasets, transforms  # for torchvision

It only renames what the library has; nothing else imports it. What PyTorch has and it lacks is a
:class:`~chainrule.errors.MissingFeatureError` that names what to use.
"""

from __future__ import annotations

import sys
from math import e, inf, nan, pi
from typing import Any

from chainrule.core import dtype as types
from chainrule.core.dtype import default_dtype, set_default_dtype
from chainrule.like_torch import (
    accelerator,
    autograd,
    backends,
    cuda,
    distributions,
    functions,
    making,
    modes,
    nn,
    optim,
    utils,
    vision,
)
from chainrule.like_torch.functions import *  # noqa: F403
from chainrule.like_torch.making import *  # noqa: F403
from chainrule.like_torch.missing import refuse
from chainrule.like_torch.modes import *  # noqa: F403
from chainrule.like_torch.serialization import load, save
from chainrule.tensor.device import Device as device
from chainrule.tensor.device import require_cpu
from chainrule.tensor.state import manual_seed
from chainrule.tensor.tensor import tensor

__all__ = [
    "accelerator", "autograd", "backends", "cuda", "distributions", "nn", "optim", "utils",
    "vision",
    "device", "set_default_device", "manual_seed", "tensor", "load", "save",
    "get_default_dtype", "set_default_dtype", "float32", "float", "float64", "double",
    "int32", "int", "int64", "long", "uint8", "uint32", "bool", "Size", "e", "inf", "nan", "pi",
    "set_num_threads", "use_deterministic_algorithms", "set_printoptions",
]  # fmt: skip
__all__ += functions.__all__
__all__ += making.__all__
__all__ += modes.__all__

float32 = float = types.float32
float64 = double = types.float64
int32 = int = types.int32
int64 = long = types.int64
uint8, uint32, bool = types.uint8, types.uint32, types.bool_
get_default_dtype = default_dtype
Size = tuple[Any, ...]

__version__ = sys.modules["chainrule"].__version__


def set_default_device(name: Any) -> None:
    """Accepted for the CPU."""
    require_cpu(name)


def set_num_threads(number: Any) -> None:
    """Accepted; results never depend on it."""


def use_deterministic_algorithms(mode: Any, **_: Any) -> None:
    """Accepted; results are always reproducible."""


def set_printoptions(**_: Any) -> None:
    """Accepted; tensors print with four digits."""


__getattr__ = refuse(__name__)
