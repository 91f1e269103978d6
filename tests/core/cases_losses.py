"""Cases of the losses beyond the first."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from oracle import Case
from samples import INF, NAN, between, grid, normal
from torch.nn import functional as F

from chainrule.core.ops import losses as ops

CASES: dict[str, list[Case]] = {}
KINKS: dict[str, list[Case]] = {}
SPECIALS: dict[str, list[Case]] = {}

REDUCTIONS = ("mean", "sum", "none")
SHAPES = [(3, 4), (5,), (), (0, 2)]
# The second array is the target; the losses of an infinite difference differ by convention.
EDGES = (np.array([NAN, 1.0, 800.0, -800.0, 1e-9, 0.0]), np.array([0.5, NAN, 1.0, 1.0, 2.0, 1.0]))


def _loss(
    name: str, reference: Any, prediction: Any, target: Any, kinks: Any = None, **attrs: Any
) -> None:
    op = getattr(ops, name)

    def case(arrays: Any, reduction: str) -> Case:
        return Case(
            lambda a, y: op(a, y, reduction=reduction, **attrs),
            lambda a, y: _reduced(reference(a, y), reduction),
            arrays,
        )

    CASES.setdefault(name, []).extend(
        case((prediction(*shape), target(*shape)), reduction)
        for reduction in REDUCTIONS
        for shape in SHAPES
    )
    SPECIALS.setdefault(name, []).append(case(EDGES, "none"))
    if kinks:
        KINKS.setdefault(name, []).append(case(kinks, "none"))


def _reduced(losses: Any, reduction: str) -> Any:
    return losses if reduction == "none" else getattr(losses, reduction)()


def _points(*shape: int) -> Any:
    return np.asarray(3.17 * grid(*shape, seed=3))


def _others(*shape: int) -> Any:
    return grid(*shape, offset=0.03, seed=9)


def _probability(*shape: int) -> Any:
    return between(0.1, 0.9, *shape, seed=5)


def _pinball(q: float) -> Any:
    return lambda a, y: torch.maximum((q - 1) * (y - a), q * (y - a))


TIES = (np.array([0.0, 1.0, -1.0, 1.0]), np.array([0.0, 0.0, 0.0, 1.0]))
for _width in (1.0, 0.4):
    _at = (_width * TIES[0], TIES[1] * _width)
    _loss(
        "huber_loss",
        lambda a, y, d=_width: F.huber_loss(a, y, reduction="none", delta=d),
        _points, _others, _at, delta=_width,
    )  # fmt: skip
    _loss(
        "smooth_l1_loss",
        lambda a, y, b=_width: F.smooth_l1_loss(a, y, reduction="none", beta=b),
        _points, _others, _at, beta=_width,
    )  # fmt: skip
for _q in (0.5, 0.9):
    _loss("quantile_loss", _pinball(_q), _points, _others, TIES, q=_q)
_loss("poisson_loss", lambda z, y: z.exp() - y * z, normal, _probability)
_loss("soft_margin_loss", lambda z, y: torch.logaddexp(-y * z, 0 * z), normal, _others)
_loss("kl_div", lambda a, y: F.kl_div(a, y, reduction="none"), normal, _probability)
_loss("kl_div_log", lambda a, y: F.kl_div(a, y, reduction="none", log_target=True), normal, _others)


def _soft(z: Any, y: Any, reduction: str) -> Case:
    dim = min(1, z.ndim - 1)
    return Case(
        lambda z, y: ops.soft_cross_entropy(z, y, reduction=reduction),
        lambda z, y: _reduced(-(y * z.log_softmax(dim)).sum(dim), reduction),
        (z, y),
    )


CASES["soft_cross_entropy"] = [
    _soft(normal(*shape), between(0.0, 1.0, *shape, seed=4), reduction)
    for reduction in REDUCTIONS
    for shape in [(4, 3), (5,), (2, 3, 4), (0, 3)]
]
ROWS = np.array([[1.0, NAN, 2.0], [1.0, INF, 2.0], [800.0, -800.0, 0.0]])
SPECIALS["soft_cross_entropy"] = [_soft(ROWS, np.full((3, 3), 0.5), "none")]
