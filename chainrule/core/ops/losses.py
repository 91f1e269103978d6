"""Losses beyond the first: of quantities, counts, distributions and margins.

Each is a named function of a prediction ``a`` and a target ``y`` of the same shape; ``d`` is a - y.
"""

from __future__ import annotations

from collections.abc import Callable

from chainrule.core.graph import Node, TensorType
from chainrule.core.op import Notation, Op
from chainrule.core.ops.arithmetic import abs, exp, less, log, maximum, sign, where
from chainrule.core.ops.functions import (
    function,
    log_softmax,
    loss_type,
    paired,
    per_entry,
    reduce,
    sigmoid,
    softmax,
    softplus,
)
from chainrule.core.ops.reduction import sum
from chainrule.core.ops.shape import unsqueeze

Rule = Callable[..., Node]


def pair_loss(name: str, each: Rule, slopes: tuple[Rule, Rule], notation: Notation) -> Op:
    """Register a loss of every entry by itself, then reduced.

    Args:
        name: of the op.
        each: (a, y, **attributes) to the loss of each entry.
        slopes: its derivatives by a and by y, in the same form.
        notation: how one entry's loss is printed.
    """

    def rule(slope: Rule) -> Rule:
        return lambda g, L, a, y, *, reduction, **attrs: (
            per_entry(g, a, reduction) * slope(a, y, **attrs)
        )

    return function(
        name,
        lambda a, y, *, reduction, **attrs: reduce(each(a, y, **attrs), reduction),
        (rule(slopes[0]), rule(slopes[1])),
        notation,
        infer=lambda a, y, *, reduction, **_: loss_type(a, reduction=reduction),
        operands=paired,
        arity=2,
    )


def _named(name: str, latex: str, attr: str) -> Notation:
    return Notation(
        f"{name}({{0}} - {{1}}, {attr}={{{attr}}})",
        rf"\operatorname{{{{{latex}}}}}\left({{0}} - {{1}}\right)",
    )


# ------------------------------------------------------------------------------ quantities


def _huber(a: Node, y: Node, *, delta: float) -> Node:
    d = abs(a - y)
    return where(less(d, delta), 0.5 * d * d, delta * (d - 0.5 * delta))


def _clipped(d: Node, bound: float) -> Node:
    return where(less(bound, d), bound, where(less(d, -bound), -bound, d))


huber_loss = pair_loss(
    "huber_loss",
    _huber,
    (
        lambda a, y, *, delta: _clipped(a - y, delta),
        lambda a, y, *, delta: -_clipped(a - y, delta),
    ),
    _named("huber", "Huber", "delta"),
)


def _smooth_l1(a: Node, y: Node, *, beta: float) -> Node:
    d = abs(a - y)
    return where(less(d, beta), 0.5 * d * d / beta, d - 0.5 * beta)


smooth_l1_loss = pair_loss(
    "smooth_l1_loss",
    _smooth_l1,
    (
        lambda a, y, *, beta: _clipped((a - y) / beta, 1.0),
        lambda a, y, *, beta: -_clipped((a - y) / beta, 1.0),
    ),
    _named("smooth_l1", "SmoothL1", "beta"),
)


def _below(a: Node, y: Node, q: float) -> Node:
    """The slope of the quantile loss: -q where the prediction is below, 1 - q where above."""
    return 0.5 * sign(a - y) + (0.5 - q)


quantile_loss = pair_loss(
    "quantile_loss",
    lambda a, y, *, q: maximum((q - 1) * (y - a), q * (y - a)),
    (lambda a, y, *, q: _below(a, y, q), lambda a, y, *, q: -_below(a, y, q)),
    _named("pinball", "pinball", "q"),
)

# ------------------------------------------------------------------------------ counts, margins

poisson_loss = pair_loss(
    "poisson_loss",
    lambda z, y: exp(z) - y * z,
    (lambda z, y: exp(z) - y, lambda z, y: -z),
    Notation("exp({0}) - {1} {0}", r"e^{{{0}}} - {1} {0}"),
)
soft_margin_loss = pair_loss(
    "soft_margin_loss",
    lambda z, y: softplus(-y * z),
    (lambda z, y: -y * sigmoid(-y * z), lambda z, y: -z * sigmoid(-y * z)),
    Notation("ln(1 + exp(-{1} {0}))", r"\ln\left(1 + e^{{-{1} {0}}}\right)"),
)

# ------------------------------------------------------------------------------ distributions


def _y_log_y(y: Node) -> Node:
    """y ln y, and 0 at 0."""
    zero = y * 0.0
    return where(
        less(0.0, y), y * log(where(less(0.0, y), y, 1.0)), where(less(y, 0.0), log(y), zero)
    )


kl_div = pair_loss(
    "kl_div",
    lambda a, y: _y_log_y(y) - y * a,
    (lambda a, y: -y, lambda a, y: log(y) + 1.0 - a),
    Notation("{1} (ln {1} - {0})", r"{1} \left(\ln {1} - {0}\right)"),
)
kl_div_log = pair_loss(
    "kl_div_log",
    lambda a, y: exp(y) * (y - a),
    (lambda a, y: -exp(y), lambda a, y: exp(y) * (y - a) + exp(y)),
    Notation("exp({1}) ({1} - {0})", r"e^{{{1}}} \left({1} - {0}\right)"),
)


def _class_dim(z: Node | TensorType) -> int:
    return 1 if len(z.shape) > 1 else 0


def _soft_type(z: TensorType, y: TensorType, *, reduction: str) -> TensorType:
    dim = _class_dim(z)
    return loss_type(TensorType(z.shape[:dim] + z.shape[dim + 1 :], z.dtype), reduction=reduction)


def _soft(z: Node, y: Node, *, reduction: str) -> Node:
    dim = _class_dim(z)
    return reduce(-sum(y * log_softmax(z, dim), dim), reduction)


def _each(g: Node, z: Node, reduction: str) -> Node:
    """The cotangent of each sample's loss, with the axis of the classes."""
    dim = _class_dim(z)
    return unsqueeze(per_entry(g, sum(z, dim), reduction), dim)


def _soft_z(g: Node, L: Node, z: Node, y: Node, *, reduction: str) -> Node:
    dim = _class_dim(z)
    return _each(g, z, reduction) * (softmax(z, dim) * sum(y, dim, keepdim=True) - y)


def _soft_y(g: Node, L: Node, z: Node, y: Node, *, reduction: str) -> Node:
    return _each(g, z, reduction) * -log_softmax(z, _class_dim(z))


soft_cross_entropy = function(
    "soft_cross_entropy",
    _soft,
    (_soft_z, _soft_y),
    Notation(
        "-sum({1} ln(softmax({0})))", r"-\sum {1} \ln \operatorname{{softmax}}\left({0}\right)"
    ),
    infer=_soft_type,
    operands=paired,
    arity=2,
)
