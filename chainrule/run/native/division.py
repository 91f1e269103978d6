"""Division rounded down, and what it leaves over, with NumPy's signs and its answers at 0."""

from __future__ import annotations

import math

from chainrule.run.native import vmath
from chainrule.run.native.ir import Value

# Each pass takes 52 bits off the quotient, which is below 2^277 of float32, 2^1024 of float64.
_PASSES, _PASSES64 = 6, 20


def whole(a: Value, b: Value, signed: bool) -> tuple[Value, Value]:
    """Quotient and rest of whole numbers; both 0 where the divisor is 0."""
    fn = a.fn
    zero = b.compare("eq", 0)
    if not signed:
        safe = fn.select(zero, 1, b)
        quotient, rest = a // safe, a % safe
        return fn.select(zero, 0, quotient), fn.select(zero, 0, rest)
    minus_one = b.compare("eq", -1)  # the lowest number by -1 would trap
    safe = fn.select(zero | minus_one, 1, b)
    quotient = a / safe
    rest = a - quotient * safe
    down = rest.compare("ne", 0) & (rest ^ safe).compare("slt", 0)
    quotient = fn.select(down, quotient - 1, quotient)
    rest = fn.select(down, rest + safe, rest)
    quotient = fn.select(minus_one, -a, quotient)
    return fn.select(zero, 0, quotient), rest


def real(a: Value, b: Value) -> tuple[Value, Value]:
    """Quotient and rest of float32, through float64: the rest is exact before it is rounded."""
    x, y = (value.convert("fpext", "double") for value in (a, b))
    quotient, rest = real64(x, y, _PASSES)
    return quotient.convert("fptrunc", "float"), rest.convert("fptrunc", "float")


def real64(x: Value, y: Value, passes: int = _PASSES64) -> tuple[Value, Value]:
    """Quotient and rest of float64; exact where products fuse into sums, NaN beyond 2^1024."""
    fn = x.fn
    rest = x
    for _ in range(passes):
        rest = fn.fma(-vmath.truncated(rest / y), y, rest)
    size = vmath.absolute(y)
    beyond = size.compare("oeq", math.inf) & vmath.absolute(x).compare("olt", math.inf)
    rest = fn.select(beyond, x, rest)
    # A quotient that was rounded up leaves a rest of the wrong sign.
    wrong = (rest.bits("i64") ^ x.bits("i64")).compare("slt", 0) & rest.compare("one", 0.0)
    rest = fn.select(wrong, rest + fn.select(x.compare("olt", 0.0), -size, size), rest)
    quotient = (x - rest) / y
    off = (rest.bits("i64") ^ y.bits("i64")).compare("slt", 0) & rest.compare("une", 0.0)
    rest = fn.select(off, rest + y, rest)
    quotient = vmath.nearest(fn.select(off, quotient - 1.0, quotient))
    plain, zero = x / y, fn.value(0.0, x.type)
    quotient = fn.select(y.compare("oeq", 0.0), plain, quotient)
    quotient = fn.select(quotient.compare("oeq", 0.0), vmath.with_sign(zero, plain), quotient)
    rest = fn.select(rest.compare("oeq", 0.0), vmath.with_sign(zero, y), rest)
    broken = y.compare("oeq", 0.0) | vmath.absolute(x).compare("oeq", math.inf)
    return quotient, fn.select(broken, math.nan, rest)
