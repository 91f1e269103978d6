"""The less common activation functions, as :mod:`chainrule.core.ops.functions` has the others.

``z`` is what goes in, ``a`` what comes out, ``g`` the cotangent dL/da. On kinks the slope is
PyTorch's.
"""

from __future__ import annotations

from chainrule.core.graph import Node
from chainrule.core.op import Notation, broadcasting
from chainrule.core.ops.arithmetic import (
    abs,
    exp,
    expm1,
    less,
    less_equal,
    log1p,
    logical_and,
    minimum,
    tanh,
    where,
)
from chainrule.core.ops.functions import activation, minimum_zero, sigmoid, softplus


def _call(name: str, latex: str = "") -> Notation:
    return Notation.call(name, rf"\operatorname{{{{{latex or name}}}}}")


def _inside(z: Node, low: float, high: float) -> Node:
    """Strictly between two numbers."""
    return logical_and(less(low, z), less(z, high))


def _clamped(z: Node, low: float, high: float) -> Node:
    """Written so that NaN passes."""
    return where(less_equal(z, low), low, where(less_equal(high, z), high, z))


# ---------------------------------------------------------------------------- straight pieces

hardtanh = activation(
    "hardtanh",
    lambda z, *, low, high: _clamped(z, low, high),
    (lambda g, a, z, *, low, high: where(_inside(z, low, high), g, 0.0),),
    Notation("hardtanh({0}, {low}, {high})", r"\operatorname{{hardtanh}}_{{{low},{high}}}({0})"),
    operands=broadcasting,
)
hardsigmoid = activation(
    "hardsigmoid",
    lambda z: _clamped(z + 3, 0.0, 6.0) / 6,
    (lambda g, a, z: where(_inside(z, -3.0, 3.0), g / 6, 0.0),),
    _call("hardsigmoid"),
)
hardswish = activation(  # Howard et al., "Searching for MobileNetV3", 2019
    "hardswish",
    lambda z: z * (_clamped(z + 3, 0.0, 6.0) / 6),
    (lambda g, a, z: where(less_equal(z, -3.0), 0.0, where(less(z, 3.0), g * (z / 3 + 0.5), g)),),
    _call("hardswish"),
)
threshold = activation(
    "threshold",
    lambda z, *, limit, value: where(less_equal(z, limit), value, z),
    (lambda g, a, z, *, limit, value: where(less_equal(z, limit), 0.0, g),),
    Notation("threshold({0}, {limit})", r"\operatorname{{threshold}}_{{{limit}}}({0})"),
    operands=broadcasting,
)
hardshrink = activation(
    "hardshrink",
    lambda z, *, width: where(less_equal(abs(z), width), 0.0, z),
    (lambda g, a, z, *, width: where(less_equal(abs(z), width), 0.0, g),),
    _call("hardshrink"),
)
softshrink = activation(
    "softshrink",
    lambda z, *, width: where(
        less(width, z), z - width, where(less(z, -width), z + width, z * 0.0)
    ),
    (lambda g, a, z, *, width: where(less_equal(abs(z), width), 0.0, g),),
    _call("softshrink"),
)
prelu = activation(  # He et al., "Delving deep into rectifiers", 2015
    "prelu",
    lambda z, w: where(less(0, z), z, w * z),
    (
        lambda g, a, z, w: where(less(0, z), g, g * w),
        lambda g, a, z, w: where(less(0, z), 0.0, g * z),
    ),
    Notation("prelu({0}, {1})", r"\operatorname{{PReLU}}_{{{1}}}({0})"),
    arity=2,
)

# ---------------------------------------------------------------------------- curves

# Klambauer et al., "Self-normalizing neural networks", 2017
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

selu = activation(
    "selu",
    lambda z: SELU_SCALE * where(less(0, z), z, SELU_ALPHA * expm1(minimum_zero(z))),
    (lambda g, a, z: g * (SELU_SCALE * where(less(0, z), 1.0, SELU_ALPHA * exp(minimum_zero(z)))),),
    _call("selu", "SELU"),
)
celu = activation(  # Barron, "Continuously differentiable exponential linear units", 2017
    "celu",
    lambda z, *, alpha: where(less(0, z), z, alpha * expm1(minimum_zero(z) / alpha)),
    (lambda g, a, z, *, alpha: g * where(less(0, z), 1.0, exp(minimum_zero(z) / alpha)),),
    _call("celu", "CELU"),
)
softsign = activation(
    "softsign",
    lambda z: z / (1 + abs(z)),
    (lambda g, a, z: g / ((1 + abs(z)) * (1 + abs(z))),),
    Notation("{0} / (1 + |{0}|)", r"\frac{{{0}}}{{1 + |{0}|}}"),
)
log_sigmoid = activation(
    "log_sigmoid",
    lambda z: minimum(z, 0.0) - log1p(exp(-abs(z))),
    (lambda g, a, z: g * sigmoid(-z),),
    Notation("ln(sigmoid({0}))", r"\ln \sigma\left({0}\right)"),
)
tanhshrink = activation(
    "tanhshrink",
    lambda z: z - tanh(z),
    (lambda g, a, z: g * tanh(z) * tanh(z),),
    Notation("{0} - tanh({0})", r"{0} - \tanh {0}", 1),
)
mish = activation(  # Misra, "Mish", 2019
    "mish",
    lambda z: z * tanh(softplus(z)),
    (
        lambda g, a, z: (
            g * (tanh(softplus(z)) + z * sigmoid(z) * (1 - tanh(softplus(z)) * tanh(softplus(z))))
        ),
    ),
    _call("mish", "Mish"),
)
