"""Elementwise primitives. ``g`` is the cotangent of the result ``y``: dL/dy.

At kinks the derivative follows PyTorch: abs' = 0 at 0, maximum and minimum halve ties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.core import special
from chainrule.core.dtype import DType, as_dtype, bool_
from chainrule.core.graph import Array, Node, TensorType
from chainrule.core.op import (
    ATOM,
    POWER,
    PRODUCT,
    SUM,
    UNARY,
    Derivative,
    Hazard,
    Notation,
    Op,
    broadcast_shape,
    broadcasting,
    common_dtype,
    floating,
    lift,
    register,
)
from chainrule.core.shape_rules import bool_type, same_type
from chainrule.errors import DTypeError

Rule = Callable[..., Node]


def _infer(name: str, logic: bool) -> Callable[..., TensorType]:
    """The type of the first operand; without ``logic``, true and false are no numbers."""

    def infer(*types: TensorType, **attrs: Any) -> TensorType:
        if types[0].dtype == bool_ and not logic:
            raise DTypeError(
                op=name,
                expected="numbers",
                got="true or false (bool)",
                mend="x.int() or x.float() makes them 1 and 0; logic has ~a, a & b, a | b, a ^ b",
            )
        return types[0]

    return infer


def unary(
    name: str,
    evaluate: Callable[..., Array],
    rule: Rule | None,
    notation: Notation,
    *hazards: Hazard,
    whole: bool = False,
) -> Op:
    """A primitive of one operand; ``whole``: it is defined on whole numbers too."""
    operands = broadcasting if whole else floating
    derivative = (rule,) if rule else None
    return register(
        Op(
            name,
            _infer(name, logic=False),
            evaluate,
            derivative,
            notation,
            hazards,
            operands=operands,
            elementwise=True,
        )
    )


def binary(
    name: str,
    evaluate: Callable[..., Array],
    derivative: Derivative | None,
    notation: Notation,
    *hazards: Hazard,
    whole: bool = True,
    logic: bool = False,
    logical: bool = False,
) -> Op:
    """A primitive of two operands.

    Args:
        whole: it is defined on whole numbers too.
        logic: it is defined on true and false too.
        logical: its result is true or false.
    """
    return register(
        Op(
            name,
            bool_type if logical else _infer(name, logic),
            evaluate,
            derivative,
            notation,
            hazards,
            operands=broadcasting if whole else floating,
            arity=2,
            elementwise=True,
        )
    )


def infix(sign: str, latex: str, precedence: int, right: int) -> Notation:
    """``a + b``; the right operand needs parentheses below precedence ``right``."""
    return Notation(f"{{0}} {sign} {{1}}", f"{{0}} {latex} {{1}}", precedence, (precedence, right))


ZERO_DIVISOR = Hazard("zero_divisor", lambda a, b: b == 0)
LOG_OF_ZERO = Hazard("log_of_zero", lambda x: x <= 0)

# ------------------------------------------------------------------------- sums and products

add = binary(
    "add",
    np.add,
    (lambda g, y, a, b: g, lambda g, y, a, b: g),
    infix("+", "+", SUM, SUM),
    logic=True,
)
sub = binary(
    "sub", np.subtract, (lambda g, y, a, b: g, lambda g, y, a, b: -g), infix("-", "-", SUM, PRODUCT)
)
mul = binary(
    "mul",
    np.multiply,
    (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    Notation("{0}*{1}", r"{0} \cdot {1}", PRODUCT, (PRODUCT, PRODUCT)),
    logic=True,
)
div = binary(
    "div",
    np.divide,
    (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    Notation("{0}/{1}", r"\frac{{{0}}}{{{1}}}", PRODUCT, (PRODUCT, UNARY)),
    ZERO_DIVISOR,
    whole=False,
)
neg = unary(
    "neg",
    np.negative,
    lambda g, y, x: -g,
    Notation("-{0}", "-{0}", UNARY, (UNARY,)),
    whole=True,
)
floor_divide = binary("floor_divide", np.floor_divide, None, infix("//", "//", PRODUCT, UNARY))
remainder = binary(
    "remainder",
    np.remainder,
    (lambda g, y, a, b: g, lambda g, y, a, b: -g * (a // b)),
    infix("%", r"\bmod", PRODUCT, UNARY),
)

# ------------------------------------------------------------------------- powers


def _pow_base(g: Node, y: Node, a: Node, b: Node) -> Node:
    return where(equal(b, 0), 0.0, g * b * pow(a, b - 1))


def _pow_exponent(g: Node, y: Node, a: Node, b: Node) -> Node:
    flat = logical_and(equal(a, 0), less_equal(0, b))  # 0^b does not move with b > 0
    return where(flat, 0.0, g * y * log(a))


pow = binary(
    "pow",
    np.power,
    (_pow_base, _pow_exponent),
    Notation("{0}^{1}", "{{{0}}}^{{{1}}}", POWER, (ATOM, ATOM)),
    whole=True,
)
sqrt = unary(
    "sqrt",
    np.sqrt,
    lambda g, y, x: g / (2 * y),
    Notation("sqrt({0})", r"\sqrt{{{0}}}"),
    Hazard("sqrt_of_zero", lambda x: x <= 0),
)
exp = unary(
    "exp",
    np.exp,
    lambda g, y, x: g * y,
    Notation("exp({0})", r"e^{{{0}}}"),
    Hazard("exp_overflow", lambda x: x > np.log(np.finfo(x.dtype).max)),
)
expm1 = unary(
    "expm1",
    np.expm1,
    lambda g, y, x: g * (y + 1),
    Notation("(exp({0}) - 1)", r"\left(e^{{{0}}} - 1\right)"),
)
log = unary(
    "log", np.log, lambda g, y, x: g / x, Notation("ln({0})", r"\ln\left({0}\right)"), LOG_OF_ZERO
)
log1p = unary(
    "log1p",
    np.log1p,
    lambda g, y, x: g / (1 + x),
    Notation("ln(1 + {0})", r"\ln\left(1 + {0}\right)", ATOM, (SUM,)),
    Hazard("log_of_zero", lambda x: x <= -1),
)

# ------------------------------------------------------------------------- curves

sin = unary("sin", np.sin, lambda g, y, x: g * cos(x), Notation.call("sin", r"\sin"))
cos: Op = unary("cos", np.cos, lambda g, y, x: -g * sin(x), Notation.call("cos", r"\cos"))
tanh = unary("tanh", np.tanh, lambda g, y, x: g * (1 - y * y), Notation.call("tanh", r"\tanh"))
erf = unary(
    "erf",
    special.erf,
    lambda g, y, x: g * (2 / float(np.sqrt(np.pi))) * exp(-x * x),
    Notation.call("erf"),
)

# ------------------------------------------------------------------------- pieces

abs = unary(
    "abs", np.abs, lambda g, y, x: g * sign(x), Notation("|{0}|", r"\left|{0}\right|"), whole=True
)
sign: Op = unary("sign", np.sign, lambda g, y, x: zeros_like(x), Notation.call("sign"), whole=True)
floor = unary("floor", np.floor, lambda g, y, x: zeros_like(x), Notation.call("floor"))
ceil = unary("ceil", np.ceil, lambda g, y, x: zeros_like(x), Notation.call("ceil"))
round = unary("round", np.rint, lambda g, y, x: zeros_like(x), Notation.call("round"))


def _share(g: Node, loses: Node, ties: Node) -> Node:
    """Nothing for the loser, half for a tie; beside NaN nobody loses."""
    return where(loses, 0.0, where(ties, g * 0.5, g))


maximum = binary(
    "maximum",
    np.maximum,
    (
        lambda g, y, a, b: _share(g, less(a, b), equal(a, b)),
        lambda g, y, a, b: _share(g, less(b, a), equal(a, b)),
    ),
    Notation.call("max", r"\max", 2),
    logic=True,
)
minimum = binary(
    "minimum",
    np.minimum,
    (
        lambda g, y, a, b: _share(g, less(b, a), equal(a, b)),
        lambda g, y, a, b: _share(g, less(a, b), equal(a, b)),
    ),
    Notation.call("min", r"\min", 2),
    logic=True,
)

# ------------------------------------------------------------------------- comparisons

equal: Op = binary("equal", np.equal, None, infix("==", "=", SUM, SUM), logical=True)
not_equal = binary("not_equal", np.not_equal, None, infix("!=", r"\neq", SUM, SUM), logical=True)
less: Op = binary("less", np.less, None, infix("<", "<", SUM, SUM), logical=True)
less_equal = binary("less_equal", np.less_equal, None, infix("<=", r"\le", SUM, SUM), logical=True)


def _logical(op: Op, *operands: Any) -> tuple[Node, ...]:
    return broadcasting(op, *[lift(operand, bool_) for operand in operands])


def _connective(name: str, evaluate: Callable[..., Array], sign: str, latex: str) -> Op:
    notation = infix(sign, latex, SUM, SUM)
    return register(
        Op(
            name,
            bool_type,
            evaluate,
            None,
            notation,
            operands=_logical,
            arity=2,
            elementwise=True,
        )
    )


logical_and = _connective("logical_and", np.logical_and, "and", r"\land")
logical_or = _connective("logical_or", np.logical_or, "or", r"\lor")
logical_xor = _connective("logical_xor", np.logical_xor, "xor", r"\oplus")
logical_not = register(
    Op(
        "logical_not",
        bool_type,
        np.logical_not,
        None,
        Notation("not {0}", r"\lnot {0}", UNARY, (UNARY,)),
        operands=_logical,
        elementwise=True,
    )
)
isnan = register(
    Op(
        "isnan",
        bool_type,
        np.isnan,
        None,
        Notation.call("isnan"),
        operands=floating,
        elementwise=True,
    )
)


def _where_operands(op: Op, condition: Any, a: Any, b: Any) -> tuple[Node, ...]:
    from chainrule.core.ops.shape import broadcast_to

    dtype = common_dtype(op, (a, b))
    nodes = (lift(condition, bool_), lift(a, dtype), lift(b, dtype))
    shape = broadcast_shape(op, [node.shape for node in nodes])
    return tuple(broadcast_to(node, shape) for node in nodes)


where: Op = register(
    Op(
        "where",
        lambda condition, a, b: a,
        np.where,
        (
            None,
            lambda g, y, condition, a, b: where(condition, g, 0.0),
            lambda g, y, condition, a, b: where(condition, 0.0, g),
        ),
        Notation(
            "({1} if {0} else {2})",
            r"\begin{{cases}} {1} & {0} \\ {2} & \text{{else}} \end{{cases}}",
        ),
        operands=_where_operands,
        arity=3,
        elementwise=True,
    )
)

# ------------------------------------------------------------------------- types

CAST = register(
    Op(
        "cast",
        lambda x, *, dtype: TensorType(x.shape, dtype),
        lambda x, *, dtype: x.astype(dtype),
        (lambda g, y, x, *, dtype: cast(g, x.dtype),),
        Notation("{0}", "{0}"),
        elementwise=True,
    )
)


def cast(x: Node, dtype: DType | str) -> Node:
    """The same numbers in another element type; towards whole numbers, cut off."""
    dtype = as_dtype(dtype)
    return x if x.dtype == dtype else CAST(x, dtype=dtype)


stop_gradient = register(
    Op(
        "stop_gradient",
        same_type,
        lambda x: x,
        (None,),
        Notation("{0}", "{0}"),
        elementwise=True,
    )
)


def zeros_like(x: Node) -> Node:
    """Zeros of the same type."""
    from chainrule.core.ops.shape import full

    return full(x.shape, 0, x.dtype)
