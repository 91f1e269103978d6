"""Cases of the less common activation functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from oracle import Case
from samples import INF, NAN, SHAPES, SPECIAL, grid
from torch.nn import functional as F

from chainrule.core.ops import activations as ops

CASES: dict[str, list[Case]] = {}
KINKS: dict[str, list[Case]] = {}
SPECIALS: dict[str, list[Case]] = {}


def _activation(name: str, reference: Any, kinks: list[float], **attrs: Any) -> None:
    op = getattr(ops, name)

    def build(z: Any) -> Any:
        return op(z, **attrs)

    CASES.setdefault(name, []).extend(
        Case(build, reference, (np.asarray(3.17 * grid(*shape, seed=3)),)) for shape in SHAPES
    )
    SPECIALS.setdefault(name, []).append(Case(build, reference, (SPECIAL,)))
    KINKS.setdefault(name, []).append(Case(build, reference, (np.array([*kinks, 0.0, -0.0]),)))


_activation("hardtanh", F.hardtanh, [-1.0, 1.0], low=-1.0, high=1.0)
_activation("hardtanh", F.relu6, [0.0, 6.0], low=0.0, high=6.0)
# PyTorch's own hardsigmoid has no second derivative.
_activation("hardsigmoid", lambda z: F.relu6(z + 3) / 6, [-3.0, 3.0])
_activation("hardswish", F.hardswish, [-3.0, 3.0])
_activation("threshold", lambda z: F.threshold(z, 0.3, -2.0), [0.3], limit=0.3, value=-2.0)
_activation("hardshrink", lambda z: F.hardshrink(z, 0.4), [-0.4, 0.4], width=0.4)
_activation("softshrink", lambda z: F.softshrink(z, 0.4), [-0.4, 0.4], width=0.4)
_activation("selu", F.selu, [])
_activation("celu", F.celu, [], alpha=1.0)
# PyTorch has 1 / alpha as a float32: a power of two is exact.
_activation("celu", lambda z: F.celu(z, 0.5), [], alpha=0.5)
_activation("softsign", F.softsign, [])
_activation("log_sigmoid", F.logsigmoid, [])
_activation("tanhshrink", F.tanhshrink, [])
_activation("mish", F.mish, [])


def _prelu(z: Any, w: Any) -> Case:
    return Case(ops.prelu, lambda z, w: F.prelu(z, w.reshape(-1)), (z, w))


CASES["prelu"] = [
    _prelu(grid(3, 4, seed=3), np.array([0.25])),
    _prelu(grid(2, 3, 4, seed=3), grid(3, 1)),
    _prelu(grid(0, 3), np.array([0.1, 0.2, 0.3])),
]
KINKS["prelu"] = [_prelu(np.array([0.0, -0.0]), np.array([0.25]))]
SPECIALS["prelu"] = [_prelu(np.array([NAN, INF, -INF, 1e300, -1e300]), np.array([0.25]))]
