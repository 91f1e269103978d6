"""How each elementwise primitive is computed on vectors: a table keyed by op and kind of number.

Kinds are "float" (float32), "double" (float64), "int" (signed), "uint" (unsigned) and "bool". What
stands in no row has no kernel, and its graph is left to the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chainrule.core.dtype import DTYPES, NAMES, DType
from chainrule.run.native import division, powers, vmath
from chainrule.run.native.ir import Value, is_float

Emit = Callable[..., Value]

# What a number is in a register, and in memory.
ELEMENT = {
    "float32": "float", "float64": "double", "int32": "i32", "int64": "i64", "uint8": "i8",
    "uint32": "i32", "bool": "i1",
}  # fmt: skip
IN_MEMORY = {**ELEMENT, "bool": "i8"}


def kind_of(dtype: str) -> str:
    """The column of the table for an element type."""
    if dtype in ("float32", "float64", "bool"):
        return {"float32": "float", "float64": "double", "bool": "bool"}[dtype]
    return "uint" if dtype[0] == "u" else "int"


def has_kernel(op: str, dtypes: Sequence[DType]) -> bool:
    """Whether an op on operands of these types can be computed here."""
    if op == "cast":
        return True
    kind = kind_of(NAMES[dtypes[-1]])
    return (op, kind) in TABLE


def emit(op: str, dtypes: Sequence[str], result: str, values: Sequence[Value]) -> Value:
    """The value of an op, from those of its operands.

    Args:
        op: name of the op.
        dtypes: element types of the operands.
        result: element type of the result.
        values: the operands, vectors of equally many lanes.
    """
    if op == "cast":
        return _cast(values[0], dtypes[0], result)
    return TABLE[op, kind_of(dtypes[-1])](*values)


# ------------------------------------------------------------------------------ pieces


def _and(a: Value, b: Value) -> Value:
    return a & b


def _or(a: Value, b: Value) -> Value:
    return a | b


def _not(a: Value) -> Value:
    return a ^ 1


def _float_maximum(a: Value, b: Value) -> Value:
    """NaN wins."""
    return a.fn.select(a.compare("oge", b) | vmath.is_nan(a), a, b)


def _float_minimum(a: Value, b: Value) -> Value:
    return a.fn.select(a.compare("ole", b) | vmath.is_nan(a), a, b)


def _pick(predicate: str) -> Emit:
    return lambda a, b: a.fn.select(a.compare(predicate, b), a, b)


def _compare(predicate: str) -> Emit:
    return lambda a, b: a.compare(predicate, b)


def _float_sign(x: Value) -> Value:
    one, zero = x.fn.value(1.0, x.type), x.fn.value(0.0, x.type)
    size = x.fn.select(x.compare("olt", 0.0), -one, zero)
    size = x.fn.select(x.compare("ogt", 0.0), one, size)
    return x.fn.select(vmath.is_nan(x), x, size)


def _int_sign(x: Value) -> Value:
    low = x.fn.select(x.compare("slt", 0), x.fn.value(-1, x.type), 0)
    return x.fn.select(x.compare("sgt", 0), x.fn.value(1, x.type), low)


def _uint_sign(x: Value) -> Value:
    return x.fn.select(x.compare("ne", 0), x.fn.value(1, x.type), 0)


def _int_abs(x: Value) -> Value:
    return x.fn.select(x.compare("slt", 0), -x, x)


def _sqrt(x: Value) -> Value:
    return x.fn.intrinsic("sqrt", x)


def _rounded(how: str) -> Emit:
    return lambda x: vmath.rounded(x, how)


def _where(condition: Value, a: Value, b: Value) -> Value:
    return a.fn.select(condition, a, b)


def _plus(a: Value, b: Value) -> Value:
    return a + b


def _minus(a: Value, b: Value) -> Value:
    return a - b


def _times(a: Value, b: Value) -> Value:
    return a * b


def _divide(a: Value, b: Value) -> Value:
    return a / b


def _negative(a: Value) -> Value:
    return -a


# ------------------------------------------------------------------------------ the table

_FLOATS = ("float", "double")
_WHOLE = ("int", "uint")

TABLE: dict[tuple[str, str], Emit] = {}


def _rows(kinds: Sequence[str], **emits: Emit) -> None:
    TABLE.update({(op, kind): emit for op, emit in emits.items() for kind in kinds})


_rows((*_FLOATS, *_WHOLE), add=_plus, sub=_minus, mul=_times, neg=_negative)
_rows((*_FLOATS, *_WHOLE, "bool"), where=_where)
_rows(_FLOATS, div=_divide, sqrt=_sqrt, abs=vmath.absolute, sign=_float_sign)
_rows(_FLOATS, maximum=_float_maximum, minimum=_float_minimum, isnan=vmath.is_nan)
_rows(
    _FLOATS, equal=_compare("oeq"), not_equal=_compare("une"), less=_compare("olt"),
    less_equal=_compare("ole"),
)  # fmt: skip
_rows(
    ("float",), exp=vmath.exp, log=vmath.log, expm1=vmath.expm1, log1p=vmath.log1p, sin=vmath.sin,
    cos=vmath.cos, atan=vmath.atan, tanh=vmath.tanh, erf=vmath.erf, pow=vmath.power,
    floor=_rounded("floor"), ceil=_rounded("ceil"), round=_rounded("rint"),
)  # fmt: skip
_rows(
    ("double",), floor=_rounded("floor"), ceil=_rounded("ceil"), round=_rounded("rint"),
    exp=vmath.exp64, log=vmath.log64, expm1=vmath.expm1_64, log1p=vmath.log1p_64,
    sin=vmath.sin64, cos=vmath.cos64, tanh=vmath.tanh64, pow=vmath.power64,
)  # fmt: skip
_rows((*_WHOLE, "bool"), equal=_compare("eq"), not_equal=_compare("ne"))
_rows(("int",), less=_compare("slt"), less_equal=_compare("sle"), sign=_int_sign, abs=_int_abs)
_rows(("int",), maximum=_pick("sgt"), minimum=_pick("slt"))
_rows(("uint", "bool"), less=_compare("ult"), less_equal=_compare("ule"))
_rows(("uint",), maximum=_pick("ugt"), minimum=_pick("ult"), abs=lambda x: x, sign=_uint_sign)
_rows(("bool",), add=_or, mul=_and, maximum=_or, minimum=_and)
_rows(("bool",), logical_and=_and, logical_or=_or, logical_xor=lambda a, b: a ^ b, logical_not=_not)


_rows(("double",), floor_divide=lambda a, b: division.real64(a, b)[0])
_rows(("double",), remainder=lambda a, b: division.real64(a, b)[1])
_rows(("float",), floor_divide=lambda a, b: division.real(a, b)[0])
_rows(("float",), remainder=lambda a, b: division.real(a, b)[1])
_rows(("int",), floor_divide=lambda a, b: division.whole(a, b, True)[0])
_rows(("int",), remainder=lambda a, b: division.whole(a, b, True)[1])
_rows(("uint",), floor_divide=lambda a, b: division.whole(a, b, False)[0])
_rows(("uint",), remainder=lambda a, b: division.whole(a, b, False)[1])
_rows(("int",), pow=lambda a, b: powers.whole(a, b, True))
_rows(("uint",), pow=lambda a, b: powers.whole(a, b, False))


def _cast(x: Value, source: str, target: str) -> Value:
    """The same numbers in another type; towards whole numbers cut off, towards bool "is not 0"."""
    if source == target:
        return x
    if target == "bool":
        return x.compare("une" if is_float(x.type) else "ne", 0)
    element = ELEMENT[target]
    signed = kind_of(source) == "int"
    if source == "bool":
        return x.convert("uitofp" if is_float(element) else "zext", element)
    if is_float(x.type) and is_float(element):
        return x.convert("fpext" if target == "float64" else "fptrunc", element)
    if is_float(element):
        return x.convert("sitofp" if signed else "uitofp", element)
    if is_float(x.type):
        return _to_whole(x, element)
    wider = DTYPES[target].itemsize - DTYPES[source].itemsize
    if wider == 0:
        return x
    return x.convert("trunc" if wider < 0 else "sext" if signed else "zext", element)


def _to_whole(x: Value, element: str) -> Value:
    """By way of int64; what does not fit there, and NaN, gives its smallest number."""
    fits = vmath.absolute(x).compare("olt", 2.0**63)
    inside = x.fn.select(fits, x, 0.0).convert("fptosi", "i64")
    whole = x.fn.select(fits, inside, -(2**63))
    return whole if element == "i64" else whole.convert("trunc", element)
