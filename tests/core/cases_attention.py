"""Cases of attention, against PyTorch's own, and against the formula where that has no answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from oracle import Case
from samples import INF, NAN, between, normal, truth
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from chainrule.core.ops import attention as ops

CASES: dict[str, list[Case]] = {}
KINKS: dict[str, list[Case]] = {}
SPECIALS: dict[str, list[Case]] = {}


def _theirs(q: Any, k: Any, v: Any, mask: Any = None, **options: Any) -> Any:
    with sdpa_kernel(SDPBackend.MATH):  # the only one that can be differentiated twice
        return F.scaled_dot_product_attention(q, k, v, mask, **options)


def _own(arrays: Any, **options: Any) -> Case:
    """The result alone."""
    theirs = {"is_causal" if key == "causal" else key: value for key, value in options.items()}
    return Case(
        lambda q, k, v, mask=None: ops.attention(q, k, v, mask, **options)[0],
        lambda q, k, v, mask=None: _theirs(q, k, v, mask, **theirs),
        arrays,
    )


def _formula(q: Any, k: Any, v: Any, *extras: Any, p: float) -> Any:
    """Result and weights, in PyTorch's words."""
    *mask, u = extras
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask:
        scores = (
            scores.masked_fill(~mask[0], -INF) if mask[0].dtype == torch.bool else scores + mask[0]
        )
    weights = torch.softmax(scores, -1)
    return (weights * (u >= p) / (1 - p)) @ v, weights


def _with_weights(arrays: Any, p: float) -> Case:
    def ours(q: Any, k: Any, v: Any, *extras: Any) -> Any:
        *mask, u = extras
        return ops.attention(q, k, v, *mask, dropout_u=u if p else None, p=p)

    return Case(ours, lambda *xs: _formula(*xs, p=p), arrays)


def _qkv(*batch: int, length: int = 3, keys: int = 4, width: int = 5, values: int = 2) -> Any:
    return (
        normal(*batch, length, width, seed=1),
        normal(*batch, keys, width, seed=2),
        normal(*batch, keys, values, seed=3),
    )


def _some(*shape: int) -> Any:
    """A mask that leaves each query its first key."""
    mask = truth(*shape, seed=4)
    mask[..., 0] = True
    return mask


def _one_row_masked(*shape: int) -> Any:
    mask = _some(*shape)
    mask[..., 1, :] = False
    return mask


_ADDED = np.where(_one_row_masked(3, 4), normal(3, 4, seed=5), -INF)

CASES["scaled_dot_product_attention"] = [
    _own(_qkv()),
    _own(_qkv(2, 3)),
    _own(_qkv(2), causal=True),
    _own(_qkv(keys=2), causal=True, scale=0.3),
    _own((*_qkv(2), _some(3, 4))),
    _own((*_qkv(2, 2), _some(2, 1, 1, 4))),
    _own((*_qkv(2), _one_row_masked(3, 4))),
    _own((*_qkv(2), normal(3, 4, seed=5))),
    _own((*_qkv(2, 2), normal(2, 1, 3, 4, seed=5)), scale=1.5),
    _own((normal(2, 1, 3, 5, seed=1), normal(3, 4, 5, seed=2), normal(1, 1, 4, 2, seed=3))),
    _own(_qkv(0, 2)),
    _own(_qkv(2, length=0)),
    _own(_qkv(length=1, keys=1, width=1, values=1)),
    _with_weights((*_qkv(2), between(0, 1, 2, 3, 4, seed=6)), p=0.0),
    _with_weights((*_qkv(2), between(0, 1, 2, 3, 4, seed=6)), p=0.4),
    _with_weights((*_qkv(2), _some(3, 4), between(0, 1, 2, 3, 4, seed=6)), p=0.4),
    _with_weights((*_qkv(2), normal(3, 4, seed=5), between(0, 1, 2, 3, 4, seed=6)), p=0.2),
]

_ROWS = np.array([[1.0, NAN], [1.0, INF], [1.0, -INF], [800.0, -800.0], [0.0, 0.0]])
SPECIALS["scaled_dot_product_attention"] = [
    _own((_ROWS, normal(3, 2, seed=2), normal(3, 2, seed=3))),
    _own((normal(3, 2, seed=1), _ROWS, normal(5, 2, seed=3)), causal=True),
    _own((normal(3, 2, seed=1), normal(5, 2, seed=2), _ROWS)),
    _own((*_qkv(2), _ADDED)),
    _own((*_qkv(2), np.full((3, 4), -INF))),
]
