"""Random words and uniforms: Philox4x32-10, the same bits as ``core.random`` (decision 12)."""

from __future__ import annotations

from typing import NamedTuple

from chainrule.run.native.ir import Function, Module, Value
from chainrule.run.native.kernels.calling import Call
from chainrule.run.native.program import Lanes

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

# Blocks of four words per tile.
BLOCKS_PER_TILE = 2048


class RandomSpec(NamedTuple):
    """Key of :func:`random`: ``"uint32"`` for words, ``"float32"`` for uniforms, and the lanes."""

    dtype: str
    lanes: int


def random(module: Module, name: str, spec: RandomSpec) -> None:
    """Each lane works on one block of four words; the words are then put in order.

    Arguments: seed, base, y; the draw after base, the number of entries.
    """
    call = Call(module, name)
    fn, lanes = call.fn, spec.lanes
    seed, base, y = (call.tensor() for _ in range(3))
    ordinal, count = call.number(), call.number()
    key = seed.load("i64")
    draw = base.load("i64") + ordinal
    first = call.tile * BLOCKS_PER_TILE
    last = fn.minimum(first + BLOCKS_PER_TILE, (count + 3) >> 2)

    def word(x: Value, shift: int) -> Value:
        return fn.splat((x >> shift).convert("trunc", "i32"), lanes)

    def some(block: Value) -> None:
        numbers = fn.splat(block, lanes) + fn.vector_of(range(lanes), "i64")
        words = [
            numbers.convert("trunc", "i32"), (numbers >> 32).convert("trunc", "i32"),
            word(draw, 0), word(draw, 32),
        ]  # fmt: skip
        words = _philox(fn, words, [word(key, 0), word(key, 32)])
        for part, four in enumerate(_in_order(fn, words, lanes)):
            value = four
            if spec.dtype == "float32":
                value = (four >> 8).convert("uitofp", "float") * 2.0**-24
            at = block * 4 + part * lanes
            left = fn.select((count - at).compare("sgt", 0), count - at, 0)
            Lanes(fn, lanes, fn.minimum(left, lanes)).store(y, value, 1, at)

    fn.loop(first, last, lanes, (), some)
    fn.ret()


def _philox(fn: Function, words: list[Value], keys: list[Value]) -> list[Value]:
    c0, c1, c2, c3 = words
    k0, k1 = keys
    for _ in range(_ROUNDS):
        high0, low0 = _product(c0, _MULTIPLIERS[0])
        high1, low1 = _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return [c0, c1, c2, c3]


def _product(x: Value, factor: int) -> tuple[Value, Value]:
    """Both halves of a product of 32-bit words."""
    wide = x.convert("zext", "i64") * factor
    return (wide >> 32).convert("trunc", "i32"), wide.convert("trunc", "i32")


def _in_order(fn: Function, words: list[Value], lanes: int) -> list[Value]:
    """Vectors of consecutive words, from vectors of first, second, third and fourth words."""
    low = fn.shuffle(words[0], words[1], range(2 * lanes))
    high = fn.shuffle(words[2], words[3], range(2 * lanes))
    made = []
    for part in range(4):
        order = [
            (i % 4) * lanes + i // 4 for i in range(part * lanes, (part + 1) * lanes)
        ]  # fmt: skip
        made.append(fn.shuffle(low, high, order))
    return made
