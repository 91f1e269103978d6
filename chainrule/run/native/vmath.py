"""Curves on vectors of float32, and on those of float64 that the float32 ones are made of.

Infinities, NaN and zero come out exactly; results that would be subnormal come out as 0. Nothing
here calls a library. A test sweeps each curve over the float32 bit patterns and holds it under 2.5
units in the last place.

Sources: Cephes (exp, log, tanh in float32), FreeBSD's msun (log, sin, cos in float64), N. Juffa's
erff (near 0), and M. Payne and R. Hanek, "Radian reduction for trigonometric functions", 1983.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from chainrule.run.native.ir import Function, Value, element_of, lanes_of

INF, NAN = math.inf, math.nan
TINY = 1.17549435e-38  # the smallest normal float32


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """c[0] x^n + ... + c[n], by Horner's rule."""
    result = x.fn.value(coefficients[0], x.type)
    for c in coefficients[1:]:
        result = x.fn.fma(result, x, c)
    return result


def absolute(x: Value) -> Value:
    """Without its sign."""
    if element_of(x.type) == "float":
        return (x.bits("i32") & 0x7FFFFFFF).bits("float")
    return (x.bits("i64") & 0x7FFFFFFFFFFFFFFF).bits("double")


def with_sign(size: Value, x: Value) -> Value:
    """``size``, which is not negative, with the sign of ``x``."""
    element = element_of(x.type)
    whole, top = ("i32", -(1 << 31)) if element == "float" else ("i64", -(1 << 63))
    return (size.bits(whole) | (x.bits(whole) & top)).bits(element)


def _at_most(x: Value, bound: float) -> Value:
    """x or the bound, if that is less; NaN stays NaN."""
    return x.fn.select(x.compare("ogt", bound), bound, x)


def is_nan(x: Value) -> Value:
    """Where x is no number."""
    return x.compare("uno", x)


# ------------------------------------------------------------------------- float32


def exp(x: Value) -> Value:
    """As :func:`_exp_inside`, and what it does not know."""
    fn = x.fn
    if _has_scaling(x):  # to 0 and to infinity, which these bounds give
        return _exp_inside(_at_most(fn.select(x.compare("olt", -104.0), -104.0, x), 89.0))
    y = fn.select(x.compare("ugt", 88.72283905), x + INF, _exp_inside(x))  # NaN stays NaN
    return fn.select(x.compare("olt", -87.33654474), 0.0, y)


def _exp_inside(x: Value) -> Value:
    """e^x where it is a normal number: 2^n e^r with n the nearest whole number to x / ln 2."""
    fn = x.fn
    shifted = fn.fma(x, 1.44269504088896341, 12582912.0)  # 1.5 2^23: n stands in the low bits
    n = shifted - 12582912.0
    r = fn.fma(n, 2.12194440e-4, fn.fma(n, -0.693359375, x))
    p = polynomial(r, (1.3814610e-3, 8.3687110e-3, 4.1668390e-2, 1.6666521e-1, 4.9999994e-1))
    y = fn.fma(p, r * r, r) + 1.0
    if _has_scaling(x):
        return _scaled(y, n)
    return (y.bits("i32") + (shifted.bits("i32") << 23)).bits("float")


def _has_scaling(x: Value) -> bool:
    """Whether there is :func:`_scaled`: vectors as long as these are AVX-512's."""
    return lanes_of(x.type) == 16


def _scaled(x: Value, n: Value) -> Value:
    """x 2^n, be it infinite or 0: one instruction, where bits and selections took five."""
    type, name = x.type, "llvm.x86.avx512.mask.scalef.ps.512"
    x.fn.module.declare(name, type, [type, type, type, "i16", "i32"])
    all_lanes, as_set = "i16 -1", "i32 4"  # rounding as set
    given = f"{type} {x}, {type} {n}, {type} zeroinitializer, {all_lanes}, {as_set}"
    return x.fn.op(type, f"call {type} @{name}({given})")


def log(x: Value) -> Value:
    """e ln 2 + ln m with m between sqrt(1/2) and sqrt(2)."""
    fn = x.fn
    bits = x.bits("i32")
    exponent = (bits - 0x3F3504F3).shift_signed(23)
    m = (bits - (exponent << 23)).bits("float") - 1.0
    e = exponent.convert("sitofp", "float")
    square = m * m
    p = polynomial(
        m,
        (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
         -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
    )  # fmt: skip
    y = fn.fma(e, -2.12194440e-4, p * m * square)
    y = fn.fma(e, 0.693359375, m + fn.fma(square, -0.5, y))
    y = fn.select(x.compare("ult", INF), y, x)
    nothing = fn.select(x.compare("ole", -TINY), NAN, fn.value(-INF, x.type))
    y = fn.select(x.compare("olt", TINY), nothing, y)
    return fn.select(is_nan(x), x, y)


def tanh(x: Value) -> Value:
    """An odd polynomial near 0, else 1 - 2 / (e^(2x) + 1)."""
    fn = x.fn
    size = absolute(x)
    square = x * x
    p = polynomial(
        square,
        (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1,
         -3.33332819422e-1),
    )  # fmt: skip
    near = fn.fma(p * square, x, x)
    bounded = _at_most(size, 10.0)  # where tanh is 1
    far = with_sign(1.0 - 2.0 / (_exp_inside(bounded + bounded) + 1.0), x)
    return fn.select(size.compare("oge", 0.625), far, near)  # NaN comes from near


def erf(x: Value) -> Value:
    """An odd polynomial near 0, else 1 - e^(-x^2) p(|x| - 3/2).

    Beside it stands the density, in the derivative of GELU: with the same e^(-x^2), which the code
    generator computes once.
    """
    fn = x.fn
    size = absolute(x)
    square = x * x
    p = polynomial(
        square,
        (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1,
         1.28379166e-1),
    )  # fmt: skip
    near = fn.fma(p, x, x)
    p = polynomial(
        _at_most(size, 4.0) - 1.5,  # where erf is 1
        (1.262779e-4, -6.820002e-4, 1.982207e-3, -5.150969e-3, 1.3347213e-2, -3.2931004e-2,
         7.615391e-2, -1.6362275e-1, 3.215854e-1),
    )  # fmt: skip
    far = with_sign(fn.fma(-exp(-square), p, 1.0), x)
    return fn.select(size.compare("oge", 0.927734375), far, near)  # NaN comes from near


# ------------------------------------------------------------------------- float32 by float64


def _wide(x: Value) -> Value:
    return x.convert("fpext", "double")


def _narrow(x: Value) -> Value:
    return x.convert("fptrunc", "float")


def expm1(x: Value) -> Value:
    """e^x - 1 through float64."""
    return x.fn.select(x.compare("oeq", 0.0), x, _narrow(expm1_64(_wide(x))))


def log1p(x: Value) -> Value:
    """ln(1 + x) through float64."""
    return x.fn.select(x.compare("oeq", 0.0), x, _narrow(log1p_64(_wide(x))))


def power(x: Value, y: Value) -> Value:
    """x^y through float64, which leaves one rounding."""
    return _narrow(power64(_wide(x), _wide(y)))


def atan(x: Value) -> Value:
    """A series near 0, where 1/x and (x - 1) / (x + 1) lead."""
    fn = x.fn
    size = absolute(_wide(x))
    far = size.compare("ogt", 1.0)
    y = fn.select(far, 1.0 / size, size)
    middle = y.compare("ogt", math.sqrt(2) - 1)
    t = fn.select(middle, (y - 1.0) / (y + 1.0), y)
    odd = [(-1) ** k / (2 * k + 1) for k in range(13, -1, -1)]
    y = polynomial(t * t, odd) * t
    y = fn.select(middle, y + math.pi / 4, y)
    y = fn.select(far, math.pi / 2 - y, y)
    return with_sign(_narrow(y), x)


def sin(x: Value) -> Value:
    """Through float64, for every float32."""
    r, n = _quadrant(x)
    return _narrow(_sin64(r, n))


def cos(x: Value) -> Value:
    """As :func:`sin`."""
    r, n = _quadrant(x)
    return _narrow(_sin64(r, n + 1))


# ------------------------------------------------------------------------- float64


def exp64(x: Value) -> Value:
    """As :func:`exp`; Taylor's series to r^13 is exact in float64."""
    fn = x.fn
    shifted = fn.fma(x, 1.4426950408889634, 6755399441055744.0)
    n = shifted - 6755399441055744.0
    r = fn.fma(n, -1.90821492927058770002e-10, fn.fma(n, -6.93147180369123816490e-01, x))
    y = polynomial(r, [1 / math.factorial(k) for k in range(13, -1, -1)])
    y = (y.bits("i64") + (shifted.bits("i64") << 52)).bits("double")
    y = fn.select(x.compare("ugt", 709.782712893384), x * INF, y)
    return fn.select(x.compare("olt", -708.3964185322641), 0.0, y)


def expm1_64(x: Value) -> Value:
    """e^x - 1, to 46 bits: a series near 0."""
    fn = x.fn
    near = fn.fma(polynomial(x, [1 / math.factorial(k) for k in range(7, 1, -1)]) * x, x, x)
    return fn.select(absolute(x).compare("olt", 0.01), near, exp64(x) - 1.0)


def log1p_64(x: Value) -> Value:
    """ln(1 + x); the rounding of 1 + x is made good by the factor x / (u - 1)."""
    fn = x.fn
    u = x + 1.0
    # x - x^2 / 2 to the last digit
    tiny = absolute(x).compare("olt", 1e-9)
    y = fn.select(tiny, fn.fma(x * x, -0.5, x), log64(u) * (x / (u - 1.0)))
    y = fn.select(u.compare("oeq", 0.0), -INF, y)
    return fn.select(x.compare("oeq", INF), x, y)


def log64(x: Value) -> Value:
    """As :func:`log`, through s = f / (2 + f)."""
    fn = x.fn
    bits = x.bits("i64")
    exponent = (bits - 0x3FE6A09E667F3BCD).shift_signed(52)
    f = (bits - (exponent << 52)).bits("double") - 1.0
    e = exponent.convert("sitofp", "double")
    s = f / (f + 2.0)
    z = s * s
    r = z * polynomial(
        z,
        (1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
         2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
         6.666666666666735130e-01),
    )  # fmt: skip
    half = f * f * 0.5
    y = e * 6.93147180369123816490e-01 - (
        (half - (s * (half + r) + e * 1.90821492927058770002e-10)) - f
    )
    y = fn.select(x.compare("ult", INF), y, x)
    nothing = fn.select(x.compare("olt", 0.0), NAN, fn.value(-INF, x.type))
    y = fn.select(x.compare("olt", 2.2250738585072014e-308), nothing, y)
    return fn.select(is_nan(x), x, y)


def power64(x: Value, y: Value) -> Value:
    """e^(y ln |x|), and the cases that this formula does not know."""
    fn = x.fn
    size = absolute(x)
    result = exp64(y * log64(size))
    whole = truncated(y)
    is_whole = whole.compare("oeq", y)
    half = y * 0.5
    half_whole = truncated(half)
    odd = is_whole & half_whole.compare("one", half)
    below = x.bits("i64").compare("slt", 0)
    result = fn.select(below & odd, -result, result)
    outside = x.compare("olt", 0.0) & x.compare("ogt", -INF) & y.compare("one", whole)
    result = fn.select(outside, NAN, result)
    unit = size.compare("oeq", 1.0) & absolute(y).compare("oeq", INF)
    always = y.compare("oeq", 0.0) | x.compare("oeq", 1.0) | unit
    return fn.select(always, 1.0, result)


def sin64(x: Value) -> Value:
    """For sizes up to 2^24."""
    return _sin64(*_quadrant64(x))


def cos64(x: Value) -> Value:
    """For sizes up to 2^24."""
    r, n = _quadrant64(x)
    return _sin64(r, n + 1)


def tanh64(x: Value) -> Value:
    """(e^2x - 1) / (e^2x + 1), a series near 0."""
    fn = x.fn
    size = absolute(x)
    square = x * x
    near = fn.fma(
        polynomial(square, (-1382 / 155925, 62 / 2835, -17 / 315, 2 / 15, -1 / 3)) * square, x, x
    )
    far = 1.0 - 2.0 / (exp64(size + size) + 1.0)
    far = fn.select(x.compare("olt", 0.0), -far, far)
    return fn.select(size.compare("olt", 0.02), near, far)


def truncated(y: Value) -> Value:
    """Without its fraction; float64."""
    if y.fn.module.has_rounding:
        return y.fn.intrinsic("trunc", y)
    big = absolute(y).compare("uge", 4503599627370496.0)
    small = y.fn.select(big, 0.0, y)
    return y.fn.select(big, y, small.convert("fptosi", "i64").convert("sitofp", "double"))


# ------------------------------------------------------------------------- sine and cosine


def _sin64(r: Value, n: Value) -> Value:
    """sin(r + n pi/2) for r within pi/4; n + 1 gives the cosine."""
    fn = r.fn
    z = r * r
    sine = fn.fma(
        polynomial(
            z,
            (1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
             -1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01),
        ) * z,
        r, r,
    )  # fmt: skip
    cosine = fn.fma(
        polynomial(
            z,
            (-1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
             2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02,
             -0.5),
        ),
        z, 1.0,
    )  # fmt: skip
    y = fn.select((n & 1).compare("eq", 0), sine, cosine)
    return fn.select((n & 2).compare("eq", 0), y, -y)


# pi/2 in parts: of 33 bits each; and of 29, whose products with n are exact without FMA.
_HALF_PI = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_HALF_PI_29 = (1.570796325802803, 9.920935774287987e-10, 2.2517417741562176e-18)


def _quadrant64(x: Value) -> tuple[Value, Value]:
    """r and n of x = r + n pi/2; exact to float64 for sizes up to 2^24."""
    fn = x.fn
    shifted = fn.fma(x, 2 / math.pi, 6755399441055744.0)
    n = shifted - 6755399441055744.0
    r = x
    for part in _HALF_PI if fn.module.has_fma else _HALF_PI_29:
        r = fn.fma(n, -part, r)
    return r, shifted.bits("i64")


def _quadrant(x: Value) -> tuple[Value, Value]:
    """r (float64) and n of x = r + n pi/2, for every float32."""
    fn = x.fn
    lanes = lanes_of(x.type)
    wide = _wide(x)
    r, n = _quadrant64(wide)
    large = absolute(x).compare("oge", 2.0**24)
    some = fn.op("i1", f"call i1 @llvm.vector.reduce.or.v{lanes}i1({large.type} {large})")
    fn.module.declare(f"llvm.vector.reduce.or.v{lanes}i1", "i1", [large.type])
    _write_large_reduction(fn)

    def each() -> list[Value]:
        def one(i: Value, r: Value, n: Value) -> list[Value]:
            packed = fn.call("reduce_large", "{ double, i64 }", fn.lane(x, i))
            near = fn.op("double", f"extractvalue {{ double, i64 }} {packed}, 0")
            turn = fn.op("i64", f"extractvalue {{ double, i64 }} {packed}, 1")
            put = f"insertelement {r.type} {r}, double {near}, i64 {i}"
            put_n = f"insertelement {n.type} {n}, i64 {turn}, i64 {i}"
            return [fn.op(r.type, put), fn.op(n.type, put_n)]

        start = [fn.value(0.0, r.type), fn.value(0, n.type)]
        far, turns = fn.loop(0, lanes, 1, start, one)
        return [fn.select(large, far, r), fn.select(large, turns, n)]

    found = fn.when(some, each, lambda: [r, n])
    return found[0], found[1]


def _write_large_reduction(user: Function) -> None:
    """``reduce_large``: r and n of one large float32, from the bits of 2/pi that matter.

    x = m 2^s with m of 24 bits. Of m 2^s (2/pi), only the part below 4 counts, so a window of 128
    bits of 2/pi, from weight 2^1 down, times m, modulo 2^128, holds n and the fraction.
    """
    module = user.module
    if module.has("reduce_large"):
        return
    words = _two_over_pi()
    module.globals.append(
        f"@two_over_pi = internal constant [{len(words)} x i64] "
        f"[{', '.join(f'i64 {word}' for word in words)}]"
    )
    fn = Function(module, "reduce_large", [("float", "x")], "{ double, i64 }", internal=True)
    (x,) = fn.args
    bits = x.bits("i32")
    shift = ((bits >> 23) & 0xFF).convert("zext", "i64") - 150
    shift = fn.select(shift.compare("slt", 0), 0, shift)
    mantissa = ((bits & 0x7FFFFF) | 0x800000).convert("zext", "i128")
    table = Value(fn, "ptr", "@two_over_pi")
    first, rest = shift >> 6, shift & 63
    a, b, c = (table.load("i64", first + k) for k in range(3))
    high = fn.intrinsic("fshl", a, b, rest).convert("zext", "i128")
    low = fn.intrinsic("fshl", b, c, rest).convert("zext", "i128")
    product = mantissa * ((high << 64) | low)
    half = fn.value(1, "i128") << 125
    n = (product + half) >> 126
    fraction = (product - (n << 126)).shift_signed(62).convert("trunc", "i64")
    r = fraction.convert("sitofp", "double") * (math.pi / 2 * 2.0**-64)
    n = n.convert("trunc", "i64")
    negative = bits.compare("slt", 0)
    r, n = fn.select(negative, -r, r), fn.select(negative, -n, n)
    broken = x.compare("uno", x) | absolute(x).compare("oeq", INF)
    r = fn.select(broken, NAN, r)
    one = fn.op("{ double, i64 }", f"insertvalue {{ double, i64 }} poison, double {r}, 0")
    both = fn.op("{ double, i64 }", f"insertvalue {{ double, i64 }} {one}, i64 {n}, 1")
    fn.do(f"ret {{ double, i64 }} {both}")


def _two_over_pi() -> list[int]:
    """2/pi in words of 64 bits; the first bit weighs 2."""
    # Machin's formula with Python's whole numbers: pi to 400 bits.
    one = 1 << 400

    def arctan(inverse: int) -> int:
        term, total, k = one // inverse, 0, 1
        while term:
            total += (term if k % 4 == 1 else -term) // k
            term //= inverse * inverse
            k += 2
        return total

    pi = 4 * (4 * arctan(5) - arctan(239))
    bits = int(Fraction(2 * one, pi) * (1 << 318))  # 320 bits, the first of weight 2
    return [(bits >> shift) & (2**64 - 1) for shift in range(256, -1, -64)]


def nearest(y: Value) -> Value:
    """The nearest whole number; float64."""
    return rounded(y, "rint")


def rounded(x: Value, how: str) -> Value:
    """``floor``, ``ceil`` or ``rint``."""
    fn, element = x.fn, element_of(x.type)
    if fn.module.has_rounding:
        return fn.intrinsic(how, x)
    limit, whole = (2.0**23, "i32") if element == "float" else (2.0**52, "i64")
    big = absolute(x).compare("uge", limit)  # such numbers are whole already, or NaN
    small = fn.select(big, 0.0, x)
    if how == "rint":
        # adding 2^23 (2^52) to the size rounds it to the nearest whole number, ties to even
        y = (absolute(small) + limit) - limit
    else:
        y = small.convert("fptosi", whole).convert("sitofp", element)
        off = y.compare("ogt", small) if how == "floor" else y.compare("olt", small)
        y = fn.select(off, y - 1.0 if how == "floor" else y + 1.0, y)
    return fn.select(big, x, with_sign(absolute(y), x))
