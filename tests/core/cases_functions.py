"""Cases of the named functions."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from oracle import Case
from samples import INF, NAN, SHAPES, SPECIAL, between, grid, normal, truth, whole
from torch.nn import functional as F

from chainrule.core.ops import functions as ops

CASES: dict[str, list[Case]] = {}
KINKS: dict[str, list[Case]] = {}
SPECIALS: dict[str, list[Case]] = {}

# ------------------------------------------------------------------------------ activations


def _activation(name: str, reference: Any, kink: bool = False, **attrs: Any) -> None:
    op = getattr(ops, name)

    def build(z: Any) -> Any:
        return op(z, **attrs)

    CASES.setdefault(name, []).extend(
        Case(build, reference, (np.asarray(2 * grid(*shape, seed=3)),)) for shape in SHAPES
    )
    SPECIALS.setdefault(name, []).append(Case(build, reference, (SPECIAL,)))
    if kink:
        KINKS.setdefault(name, []).append(Case(build, reference, (np.array([0.0, -0.0]),)))


def _step(z: Any) -> Any:
    return (z >= 0).to(z.dtype)


def _softplus(z: Any) -> Any:
    """PyTorch's own is z above a threshold of 20, which is off by 2e-9."""
    return torch.logaddexp(z, torch.zeros_like(z))


_activation("step", _step, kink=True)
_activation("sigmoid", torch.sigmoid)
_activation("relu", torch.relu, kink=True)
_activation("leaky_relu", lambda z: F.leaky_relu(z, 0.01), kink=True, slope=0.01)
_activation("leaky_relu", lambda z: F.leaky_relu(z, 0.3), kink=True, slope=0.3)
_activation("elu", F.elu, kink=True, alpha=1.0)
_activation("elu", lambda z: F.elu(z, 1.7), kink=True, alpha=1.7)
_activation("softplus", _softplus, kink=True)
_activation("silu", F.silu)
_activation("gelu", F.gelu, approximate="none")
_activation("gelu", lambda z: F.gelu(z, approximate="tanh"), approximate="tanh")
CASES["relu"].append(Case(ops.relu, torch.relu, (whole(-5, 5, 7),)))
KINKS["relu"].append(Case(ops.relu, torch.relu, (np.array([NAN, INF, -INF]),)))

ROWS_WITH_NAN = np.array([[1.0, NAN, 2.0], [1.0, INF, 2.0], [1.0, -INF, 2.0], [800.0, -800.0, 0.0]])
for _name in ("softmax", "log_softmax"):
    _ours, _theirs = getattr(ops, _name), getattr(torch, _name)
    CASES[_name] = [
        Case(lambda z, f=_ours, d=d: f(z, d), lambda z, f=_theirs, d=d: f(z, d), (z,))
        for z, d in [
            (normal(3, 4), -1),
            (normal(3, 4), 0),
            (normal(2, 3, 4), -2),
            (normal(5), 0),
            (normal(0, 3), 1),
            (normal(2, 1), 1),
        ]
    ]
    SPECIALS[_name] = [
        Case(lambda z, f=_ours: f(z), lambda z, f=_theirs: f(z, -1), (ROWS_WITH_NAN,))
    ]

# ------------------------------------------------------------------------------ arithmetic

CASES["square"] = [Case(ops.square, torch.square, (normal(*shape),)) for shape in SHAPES]
CASES["square"].append(Case(ops.square, torch.square, (whole(-5, 5, 4),)))
SPECIALS["square"] = [Case(ops.square, torch.square, (SPECIAL,))]

_AXES: list[tuple[Any, Any]] = [
    (normal(3, 4), 1),
    (normal(3, 4), -2),
    (normal(2, 3, 4), (0, -1)),
    (normal(2, 3), None),
    (normal(0, 3), 1),
]
CASES["mean"] = [
    Case(
        lambda x, d=d, k=k: ops.mean(x, d, k),
        lambda x, d=d, k=k: x.mean(tuple(range(x.ndim)) if d is None else d, k),
        (x,),
    )
    for x, d in [*_AXES, (normal(0, 3), 0), (normal(), None)]
    for k in (False, True)
]
SPECIALS["mean"] = [Case(lambda x: ops.mean(x, 1), lambda x: x.mean(1), (ROWS_WITH_NAN,))]


def _var(x: Any, dim: Any, correction: int, keepdim: bool) -> Any:
    """PyTorch's own, which warns when there is nothing to divide by."""
    with warnings.catch_warnings(action="ignore"):
        return x.var(dim, correction=correction, keepdim=keepdim)


CASES["var"] = [
    Case(
        lambda x, d=d, c=c, k=k: ops.var(x, d, c, k),
        lambda x, d=d, c=c, k=k: _var(x, d, c, k),
        (x,),
    )
    for x, d in [*_AXES, (normal(3, 1), 1)]
    for c, k in [(1, False), (0, True)]
]
SPECIALS["var"] = [Case(lambda x: ops.var(x, 1), lambda x: x.var(1), (ROWS_WITH_NAN,))]

# ------------------------------------------------------------------------------ linear

CASES["linear"] = [
    Case(ops.linear, F.linear, tuple(normal(*size, seed=i) for i, size in enumerate(sizes)))
    for sizes in [
        ((4, 3), (2, 3), (2,)),
        ((4, 3), (2, 3)),
        ((3,), (2, 3), (2,)),
        ((2, 5, 3), (4, 3), (4,)),
        ((0, 3), (2, 3), (2,)),
        ((1, 1), (1, 1), (1,)),
    ]
]
SPECIALS["linear"] = [Case(ops.linear, F.linear, (ROWS_WITH_NAN, np.eye(3), np.zeros(3)))]

# ------------------------------------------------------------------------------ dropout


def _dropout_case(x: Any, u: Any, p: float) -> Case:
    return Case(
        lambda x, u: ops.dropout(x, u, p=p),
        lambda x, u: x * (u >= p) / (1 - p) if p < 1 else x * 0,
        (x, u),
    )


CASES["dropout"] = [
    _dropout_case(normal(3, 4), np.abs(grid(3, 4)) % 1, 0.2),
    _dropout_case(normal(3, 4), np.abs(grid(3, 4)) % 1, 0.0),
    _dropout_case(normal(6), np.abs(grid(6)) % 1, 1.0),
    _dropout_case(normal(0, 2), normal(0, 2), 0.5),
]
SPECIALS["dropout"] = [_dropout_case(SPECIAL, np.full(SPECIAL.shape, 0.9), 0.5)]

# ------------------------------------------------------------------------------ losses

REDUCTIONS = ("mean", "sum", "none")


def _losses(
    name: str,
    prediction: Any,
    target: Any,
    reference: Any = None,
    *,
    special: Any = None,
    kinks: Any = None,
) -> None:
    """Smooth points against ``reference``, the others against PyTorch's own function."""
    ours, theirs = getattr(ops, name), getattr(F, name)

    def case(arrays: Any, reduction: str, theirs: Any = theirs) -> Case:
        return Case(
            lambda a, y: ours(a, y, reduction=reduction),
            lambda a, y: theirs(a, y.to(a.dtype), reduction=reduction),
            arrays,
        )

    CASES[name] = [
        case((prediction(*shape), target(*shape)), reduction, reference or theirs)
        for reduction in REDUCTIONS
        for shape in [(3, 4), (5,), (), (0, 2)]
    ]
    SPECIALS[name] = [case(special or (SPECIAL, np.zeros_like(SPECIAL)), "none")]
    if kinks:
        KINKS[name] = [case(kinks, reduction) for reduction in REDUCTIONS]


def probability(*shape: int) -> Any:
    return between(0.05, 0.95, *shape, seed=5)


def targets(*shape: int) -> Any:
    return between(0.0, 1.0, *shape, seed=6)


def other(*shape: int) -> Any:
    return grid(*shape, offset=0.03, seed=9)


def _bce(a: Any, y: Any, *, reduction: str) -> Any:
    """The formula; the second derivative of PyTorch's own is off by its epsilon of 1e-12."""
    losses = -(y * a.log() + (1 - y) * (-a).log1p())
    return losses if reduction == "none" else getattr(losses, reduction)()


# Whole targets, which have no slope: PyTorch clips the logarithm in the loss, but not in the slope
# of the target, which is infinite there.
CERTAIN = (np.array([0.0, 1.0, 0.0, 1.0, 1e-13]), np.array([0, 1, 1, 0, 1]))
_losses("mse_loss", normal, targets)
_losses("l1_loss", grid, other, kinks=(np.array([1.0, 2.0, 0.0]), np.array([1.0, 1.0, -0.0])))
_losses("binary_cross_entropy", probability, targets, _bce, special=CERTAIN, kinks=CERTAIN)
_losses(
    "binary_cross_entropy_with_logits",
    grid,
    targets,
    # At -inf and label 1 the loss is inf; PyTorch has 0 * inf there, NaN.
    special=(np.delete(SPECIAL, 2), np.ones(len(SPECIAL) - 1)),
    kinks=(np.zeros(3), np.array([0.0, 0.5, 1.0])),
)


def _cross_entropy_case(z: Any, y: Any, reduction: str) -> Case:
    return Case(
        lambda z, y: ops.cross_entropy(z, y, reduction=reduction),
        lambda z, y: F.cross_entropy(z, y.long(), reduction=reduction),
        (z, y),
    )


CASES["cross_entropy"] = [
    _cross_entropy_case(z, y, reduction)
    for reduction in REDUCTIONS
    for z, y in [
        (normal(4, 3), whole(0, 3, 4)),
        (normal(5), whole(0, 5)),
        (normal(2, 3, 4), whole(0, 3, 2, 4, dtype=np.int32)),
        (normal(2, 3, 2, 2), whole(0, 3, 2, 2, 2, dtype=np.uint8)),
        (normal(3, 2), truth(3)),
        (normal(0, 3), whole(0, 3, 0)),
    ]
]
SPECIALS["cross_entropy"] = [_cross_entropy_case(ROWS_WITH_NAN, whole(0, 3, 4), "none")]
