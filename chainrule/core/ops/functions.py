"""Named functions: one node each, with a body in primitives and the textbook's derivative.

``z`` is what goes in, ``a`` what comes out, ``g`` the cotangent dL/da. A test holds every
derivative written here against the derivative of the body.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.core import special
from chainrule.core.dtype import is_float
from chainrule.core.graph import Array, Node, Shape, TensorType
from chainrule.core.op import (
    ATOM,
    POWER,
    SUM,
    Derivative,
    Hazard,
    Joint,
    Notation,
    Op,
    broadcasting,
    floating,
    of_one_dtype,
    register,
)
from chainrule.core.ops import reduction
from chainrule.core.ops.arithmetic import (
    abs,
    cast,
    erf,
    exp,
    expm1,
    less,
    less_equal,
    log,
    log1p,
    maximum,
    sign,
    tanh,
    where,
    zeros_like,
)
from chainrule.core.ops.linear import MATMUL
from chainrule.core.ops.reduction import amax, spread, sum
from chainrule.core.ops.shape import (
    broadcast_to,
    check_range,
    gather,
    one_hot,
    reshape,
    sum_to,
    transpose,
    unsqueeze,
)
from chainrule.core.shape_rules import normalize_dim, normalize_dims, same_type
from chainrule.errors import LabelTypeError, LayerInputError, OptionError, ShapeError, closest

Rule = Callable[..., Node]


def function(
    name: str,
    body: Callable[..., Any],
    derivative: Derivative | Joint | None,
    notation: Notation,
    *hazards: Hazard,
    infer: Callable[..., Any] = same_type,
    evaluate: Callable[..., Any] | None = None,
    operands: Any = floating,
    arity: int | None = 1,
    elementwise: bool = False,
) -> Op:
    """Register a named function."""
    return register(
        Op(name, infer, evaluate, derivative, notation, hazards, body, operands, arity, elementwise)
    )


def activation(*facts: Any, **more: Any) -> Op:
    """Register a named function of each entry by itself; the arguments are :func:`function`'s."""
    return function(*facts, **more, elementwise=True)


# ------------------------------------------------------------------------------ activations

step = activation(
    "step",
    lambda z: cast(less_equal(0, z), z.dtype),
    (lambda g, a, z: zeros_like(z),),
    Notation.call("step"),
    Hazard("step_has_no_gradient", lambda z: np.ones_like(z, bool)),
)
sigmoid = activation(
    "sigmoid",
    lambda z: 1 / (1 + exp(-z)),
    (lambda g, a, z: g * a * (1 - a),),
    Notation.call("sigmoid", r"\sigma"),
    Hazard("saturated", lambda z: np.abs(z) > 5),
)
relu = activation(
    "relu",
    lambda z: where(less_equal(z, 0), 0, z),  # NaN passes through
    (lambda g, a, z: where(less_equal(z, 0), 0.0, g),),
    Notation.call("relu", r"\operatorname{{ReLU}}"),
    Hazard("dead_unit", lambda z: z <= 0),
    evaluate=lambda z: np.maximum(z, 0, dtype=z.dtype),
    operands=broadcasting,
)
leaky_relu = activation(
    "leaky_relu",
    lambda z, *, slope: where(less(0, z), z, z * slope),
    (lambda g, a, z, *, slope: where(less(0, z), g, g * slope),),
    Notation("leaky_relu({0})", r"\operatorname{{LeakyReLU}}({0})"),
)
elu = activation(
    "elu",
    lambda z, *, alpha: where(less(0, z), z, alpha * expm1(minimum_zero(z))),
    (lambda g, a, z, *, alpha: where(less(0, z), g, g * alpha * exp(minimum_zero(z))),),
    Notation.call("elu", r"\operatorname{{ELU}}"),
)
softplus = activation(
    "softplus",
    lambda z: maximum(z, 0.0) + log1p(exp(-abs(z))),
    (lambda g, a, z: g * sigmoid(z),),
    Notation("ln(1 + exp({0}))", r"\ln\left(1 + e^{{{0}}}\right)"),
)
silu = activation(
    "silu",
    lambda z: z * sigmoid(z),
    (lambda g, a, z: g * (sigmoid(z) * (1 + z * (1 - sigmoid(z)))),),
    Notation.call("silu", r"\operatorname{{SiLU}}"),
)


def minimum_zero(z: Node) -> Node:
    """min(z, 0), with derivative 1 below 0 and 0 above: keeps exp from overflowing."""
    return where(less(0, z), 0.0, z)


def _gelu(z: Node, *, approximate: str) -> Node:
    if approximate == "tanh":
        return 0.5 * z * (1 + tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)))
    return 0.5 * z * (1 + erf(z * math.sqrt(0.5)))


def _gelu_rule(g: Node, a: Node, z: Node, *, approximate: str) -> Node:
    if approximate == "tanh":
        c = math.sqrt(2 / math.pi)
        t = tanh(c * (z + 0.044715 * z * z * z))
        return g * (0.5 * (1 + t) + 0.5 * z * (1 - t * t) * c * (1 + 3 * 0.044715 * z * z))
    t = z * math.sqrt(0.5)
    density = exp(-(t * t)) * math.sqrt(0.5 / math.pi)
    return g * (0.5 * (1 + erf(t)) + z * density)


def _gelu_type(z: TensorType, *, approximate: str) -> TensorType:
    if approximate not in ("none", "tanh"):
        raise OptionError(
            name="approximate", expected='"none" or "tanh"', got=repr(approximate), mend=""
        )
    return z


def _gelu_evaluate(z: Array, *, approximate: str) -> Array:
    if approximate == "tanh":
        curve: Array = np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))
    else:
        curve = special.erf(z * z.dtype.type(math.sqrt(0.5)))
    result: Array = 0.5 * z * (1 + curve)
    return result


gelu = activation(
    "gelu",
    _gelu,
    (_gelu_rule,),
    Notation.call("gelu", r"\operatorname{{GELU}}"),
    infer=_gelu_type,
    evaluate=_gelu_evaluate,
)


def _softmax_rule(g: Node, a: Node, z: Node, *, dim: int) -> Node:
    return a * (g - sum(g * a, dim, keepdim=True))


def _softmax(z: Node, *, dim: int) -> Node:
    e = exp(z - broadcast_to(amax(z, dim, keepdim=True), z.shape))
    return e / sum(e, dim, keepdim=True)


SOFTMAX = function(
    "softmax",
    _softmax,
    (_softmax_rule,),
    Notation.call("softmax"),
)


def softmax(z: Node, dim: int = -1) -> Node:
    """exp(z) normalised to sum 1 along ``dim``."""
    return SOFTMAX(z, dim=normalize_dim("softmax", dim, z.ndim))


def _log_softmax(z: Node, *, dim: int) -> Node:
    shifted = z - amax(z, dim, keepdim=True)
    return shifted - log(sum(exp(shifted), dim, keepdim=True))


LOG_SOFTMAX = function(
    "log_softmax",
    _log_softmax,
    (lambda g, y, z, *, dim: g - exp(y) * sum(g, dim, keepdim=True),),
    Notation("ln(softmax({0}))", r"\ln \operatorname{{softmax}}\left({0}\right)"),
)


def log_softmax(z: Node, dim: int = -1) -> Node:
    """ln of softmax, without the loss of digits near 0."""
    return LOG_SOFTMAX(z, dim=normalize_dim("log_softmax", dim, z.ndim))


# ------------------------------------------------------------------------------ arithmetic

square = activation(
    "square",
    lambda x: x * x,
    (lambda g, y, x: g * (2 * x),),
    Notation("{0}^2", "{{{0}}}^2", POWER, (ATOM,)),
    evaluate=np.square,
    operands=broadcasting,
)


def _mean(x: Node, *, dims: Shape, keepdim: bool) -> Node:
    return sum(x, dims, keepdim) / reduction.count(x, dims)


MEAN = function(
    "mean",
    _mean,
    (lambda g, y, x, *, dims, keepdim: spread(g / reduction.count(x, dims), x, dims),),
    Notation.call("mean"),
    infer=reduction.folded,
)


def mean(x: Node, dim: reduction.Dims = None, keepdim: bool = False) -> Node:
    """The sum over axes divided by the number of entries."""
    return MEAN(x, dims=normalize_dims("mean", dim, x.ndim), keepdim=keepdim)


def _var(x: Node, *, dims: Shape, keepdim: bool, correction: int) -> Node:
    centred = square(x - mean(x, dims, keepdim=True))
    return sum(centred, dims, keepdim) / (reduction.count(x, dims) - correction)


def _var_rule(g: Node, y: Node, x: Node, *, dims: Shape, keepdim: bool, correction: int) -> Node:
    share = g / (reduction.count(x, dims) - correction)
    return spread(share, x, dims) * (2 * (x - mean(x, dims, keepdim=True)))


VAR = function(
    "var",
    _var,
    (_var_rule,),
    Notation.call("var"),
    infer=lambda x, *, dims, keepdim, correction: reduction.folded(x, dims=dims, keepdim=keepdim),
)


def var(x: Node, dim: reduction.Dims = None, correction: int = 1, keepdim: bool = False) -> Node:
    """Mean squared distance from the mean, over n - correction."""
    dims = normalize_dims("var", dim, x.ndim)
    return VAR(x, dims=dims, keepdim=keepdim, correction=correction)


# ------------------------------------------------------------------------------ linear


def _linear_type(x: TensorType, weight: TensorType, *bias: TensorType) -> TensorType:
    outputs, features = weight.shape
    got = x.shape[-1] if x.shape else 0
    if got != features:
        raise LayerInputError(name="Linear", expected=features, got=got, shape=x.shape)
    return TensorType((*x.shape[:-1], outputs), x.dtype)


def _rows(x: Node) -> Node:
    return reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _linear(x: Node, weight: Node, *bias: Node) -> Node:
    z = reshape(MATMUL(_rows(x), transpose(weight)), (*x.shape[:-1], weight.shape[0]))
    return z + bias[0] if bias else z


def _linear_rule(position: int) -> Rule:
    def rule(g: Node, z: Node, x: Node, weight: Node, *bias: Node) -> Node:
        if position == 0:
            return reshape(MATMUL(_rows(g), weight), x.shape)
        if position == 1:
            return MATMUL(transpose(_rows(g)), _rows(x))
        return sum_to(g, bias[0].shape)

    return rule


def _linear_evaluate(x: Array, weight: Array, *bias: Array) -> Array:
    z: Array = np.matmul(x, weight.T)
    return np.add(z, bias[0]) if bias else z


linear = function(
    "linear",
    _linear,
    _linear_rule,
    Notation("{1} {0} + {2}", "{1} {0} + {2}", SUM),
    infer=_linear_type,
    evaluate=_linear_evaluate,
    operands=of_one_dtype,
    arity=None,
)


# ------------------------------------------------------------------------------ dropout

dropout = activation(
    "dropout",
    lambda x, u, *, p: where(less(u, p), 0.0, x / (1 - p) if p < 1 else x),
    (lambda g, y, x, u, *, p: where(less(u, p), 0.0, g / (1 - p) if p < 1 else g), None),
    Notation("dropout({0})", r"\operatorname{{dropout}}({0})"),
    arity=2,
)

# ------------------------------------------------------------------------------ losses

_REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str) -> None:
    """Raise for a misspelt reduction."""
    if reduction not in _REDUCTIONS:
        near = closest(reduction, _REDUCTIONS)
        raise OptionError(
            name="reduction",
            expected='"mean", "sum" or "none"',
            got=repr(reduction),
            mend=f"did you mean {near!r}?" if near else "",
        )


def loss_type(prediction: TensorType, *rest: TensorType, reduction: str) -> TensorType:
    """The type of a loss: one number, or with "none" one for every entry."""
    check_reduction(reduction)
    return prediction if reduction == "none" else TensorType((), prediction.dtype)


def reduce(losses: Node, reduction: str) -> Node:
    """The losses of all entries as one number (or, for "none", as they are)."""
    if reduction == "none":
        return losses
    return mean(losses) if reduction == "mean" else sum(losses)


def per_entry(g: Node, x: Node, reduction: str) -> Node:
    """The cotangent of each entry's own loss."""
    if reduction == "none":
        return g
    return broadcast_to(g / x.size if reduction == "mean" else g, x.shape)


def paired(op: Op, prediction: Node, target: Node) -> tuple[Node, ...]:
    """A prediction and a target of one shape: broadcasting here is nearly always a mistake."""
    if prediction.shape != target.shape:
        raise ShapeError(
            op=op.name,
            expected=f"a target of the prediction's shape {prediction.shape}",
            got=target.shape,
            mend="target.reshape(prediction.shape), or prediction.squeeze(-1)",
        )
    return floating(op, prediction, target)


def loss(name: str, body: Rule, derivative: Derivative, notation: Notation, *hazards: Hazard) -> Op:
    """Register a loss of a prediction and a target of the same shape."""
    return function(
        name,
        lambda a, y, *, reduction: reduce(body(a, y), reduction),
        derivative,
        notation,
        *hazards,
        infer=loss_type,
        operands=paired,
        arity=2,
    )


mse_loss = loss(
    "mse_loss",
    lambda a, y: square(a - y),
    (
        lambda g, L, a, y, *, reduction: per_entry(g, a, reduction) * (2 * (a - y)),
        lambda g, L, a, y, *, reduction: per_entry(g, a, reduction) * (-2 * (a - y)),
    ),
    Notation("({0} - {1})^2", r"\left({0} - {1}\right)^2", ATOM, (SUM, SUM + 1)),
)
l1_loss = loss(
    "l1_loss",
    lambda a, y: abs(a - y),
    (
        lambda g, L, a, y, *, reduction: per_entry(g, a, reduction) * sign(a - y),
        lambda g, L, a, y, *, reduction: per_entry(g, a, reduction) * -sign(a - y),
    ),
    Notation("|{0} - {1}|", r"\left|{0} - {1}\right|", ATOM, (SUM, SUM + 1)),
)

_LEAST_LOG = -100.0  # as PyTorch: keeps the loss finite at a = 0 and a = 1
_LEAST_SLOPE = float(np.float32(1e-12))  # PyTorch has it as a float32


def _bce(a: Node, y: Node) -> Node:
    return -(y * maximum(log(a), _LEAST_LOG) + (1 - y) * maximum(log1p(-a), _LEAST_LOG))


binary_cross_entropy = loss(
    "binary_cross_entropy",
    _bce,
    (
        lambda g, L, a, y, *, reduction: (
            per_entry(g, a, reduction) * ((a - y) / maximum(a * (1 - a), _LEAST_SLOPE))
        ),
        lambda g, L, a, y, *, reduction: (
            per_entry(g, a, reduction)
            * (maximum(log1p(-a), _LEAST_LOG) - maximum(log(a), _LEAST_LOG))
        ),
    ),
    Notation(
        "-({1} ln({0}) + (1 - {1}) ln(1 - {0}))",
        r"-\left({1} \ln {0} + (1 - {1}) \ln(1 - {0})\right)",
        ATOM,
    ),
    Hazard("log_of_zero", lambda a, y, *, reduction: (a <= 0) | (a >= 1)),
)
binary_cross_entropy_with_logits = loss(
    "binary_cross_entropy_with_logits",
    lambda z, y: maximum(z, 0.0) - z * y + log1p(exp(-abs(z))),
    (
        lambda g, L, z, y, *, reduction: per_entry(g, z, reduction) * (sigmoid(z) - y),
        lambda g, L, z, y, *, reduction: per_entry(g, z, reduction) * -z,
    ),
    Notation(
        "-({1} ln(sigmoid({0})) + (1 - {1}) ln(1 - sigmoid({0})))",
        r"-\left({1} \ln \sigma({0}) + (1 - {1}) \ln(1 - \sigma({0}))\right)",
        ATOM,
    ),
)


def _class_dim(z: Node | TensorType) -> int:
    """Classes stand in axis 1 of a batch, and in axis 0 of a single sample."""
    return 1 if len(z.shape) > 1 else 0


def _cross_entropy_operands(op: Op, z: Node, y: Node) -> tuple[Node, ...]:
    dim = _class_dim(z)
    if is_float(y.dtype):
        raise LabelTypeError(op="cross_entropy", got=y.dtype, shape=y.shape)
    expected = z.shape[:dim] + z.shape[dim + 1 :]
    if y.shape != expected:
        raise ShapeError(
            op="cross_entropy",
            expected=f"labels of shape {expected} for scores of shape {z.shape}",
            got=y.shape,
            mend="labels are class numbers, one per sample: labels.reshape(-1), "
            "or labels.argmax(dim=1) if they are one-hot",
        )
    if y.dtype.name not in ("int64", "int32"):
        y = cast(y, "int64")
    return (*floating(op, z), y)


def _cross_entropy(z: Node, y: Node, *, reduction: str) -> Node:
    dim = _class_dim(z)
    chosen = gather(log_softmax(z, dim), dim, unsqueeze(y, dim))
    return reduce(-reshape(chosen, y.shape), reduction)


def _cross_entropy_rule(g: Node, L: Node, z: Node, y: Node, *, reduction: str) -> Node:
    dim = _class_dim(z)
    truth = one_hot(y, z.shape[dim], z.dtype)
    if dim != z.ndim - 1:
        truth = _last_to(truth, dim)
    each = unsqueeze(per_entry(g, y, reduction), dim)
    return each * (softmax(z, dim) - truth)


def _last_to(x: Node, dim: int) -> Node:
    from chainrule.core.ops.shape import permute

    order = list(range(x.ndim - 1))
    order.insert(dim, x.ndim - 1)
    return permute(x, order)


def _cross_entropy_type(z: TensorType, y: TensorType, *, reduction: str) -> TensorType:
    return loss_type(TensorType(y.shape, z.dtype), reduction=reduction)


def _cross_entropy_evaluate(z: Array, y: Array, *, reduction: str) -> Array:
    dim = 1 if z.ndim > 1 else 0
    check_range("cross_entropy", y, z.shape[dim], "classes", "类别")
    shifted = z - z.max(axis=dim, keepdims=True)
    norm = np.log(np.exp(shifted).sum(axis=dim, keepdims=True))
    chosen = np.take_along_axis(shifted - norm, np.expand_dims(y, dim), dim)
    losses: Array = -chosen.reshape(y.shape)
    if reduction == "none":
        return losses
    total: Array = np.sum(losses)
    return total / y.size if reduction == "mean" else total


cross_entropy = function(
    "cross_entropy",
    _cross_entropy,
    (_cross_entropy_rule, None),
    Notation(
        "-ln(softmax({0})[{1}])", r"-\ln\left(\operatorname{{softmax}}({0})_{{{1}}}\right)", ATOM
    ),
    infer=_cross_entropy_type,
    evaluate=_cross_entropy_evaluate,
    operands=_cross_entropy_operands,
    arity=2,
)
