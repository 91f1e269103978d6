"""Powers of whole numbers."""

from __future__ import annotations

from chainrule.run.native.ir import SIZES, Value, element_of


def whole(a: Value, b: Value, signed: bool) -> Value:
    """a^b by squaring, in the type's own range; with b < 0 it is 1 / a^-b cut off, 0 for a = 0."""
    fn = a.fn
    one = fn.value(1, a.type)
    rest, odd = b, b & 1

    def square(_: Value, result: Value, factor: Value, rest: Value) -> list[Value]:
        result = fn.select((rest & 1).compare("ne", 0), result * factor, result)
        return [result, factor * factor, rest >> 1]

    (result, _, _) = fn.loop(0, 8 * SIZES[element_of(a.type)], 1, [one, a, rest], square)
    if not signed:
        return result
    flipped = fn.select(odd.compare("ne", 0), a, one)  # of -1; 1 is its own inverse
    is_unit = a.compare("eq", 1) | a.compare("eq", -1)
    inverse = fn.select(is_unit, flipped, fn.value(0, a.type))
    return fn.select(b.compare("slt", 0), inverse, result)
