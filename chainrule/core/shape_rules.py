"""Rules that many ops share: types of results, and axes counted from the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.graph import TensorType
from chainrule.core.op import located
from chainrule.errors import ShapeError


def same_type(*types: TensorType, **attrs: Any) -> TensorType:
    """The result has the type of the first input."""
    return types[0]


def bool_type(*types: TensorType, **attrs: Any) -> TensorType:
    """The result is true or false for every entry."""
    return TensorType(types[0].shape, np.dtype(np.bool_))


def normalize_dim(op: str, dim: int, ndim: int) -> int:
    """An axis counted from the front, from one that may count from the back.

    A tensor without axes is taken as one of length 1, as in PyTorch.
    """
    axes = max(ndim, 1)
    if not -axes <= dim < axes:
        error = ShapeError(
            op=op,
            expected=f"a dim in {-axes}..{axes - 1}",
            got=f"dim={dim} for a tensor with {ndim} axes",
            mend="axes count from 0; -1 is the last",
        )
        raise located(error)
    return dim % axes


def normalize_dims(op: str, dims: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Sorted axes counted from the front; None means all."""
    if dims is None:
        return tuple(range(ndim))
    chosen = (dims,) if isinstance(dims, int) else tuple(dims)
    if not ndim:
        return ()
    return tuple(sorted({normalize_dim(op, dim, ndim) for dim in chosen}))
