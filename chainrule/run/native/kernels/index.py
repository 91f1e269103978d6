"""Entries chosen by number: taken, and added or put back.

An index outside its range sets the run's error flag, and nothing is touched; the plan then commits
nothing and names the index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from chainrule.run.native.elementwise import IN_MEMORY
from chainrule.run.native.ir import Function, Module, Value, vector
from chainrule.run.native.kernels.calling import Call
from chainrule.run.native.program import NEXT, Lanes

# Columns of a tile that adds or puts whole slices.
COLUMNS_PER_TILE = 256


class IndexSpec(NamedTuple):
    """Key of these kernels.

    Attributes:
        dtype: element type of the entries, as it lies in memory.
        places: element type of the indices.
        lanes: of the vectors that copy slices.
        how: ``"add"`` or ``"put"``, for :func:`scatter`.
    """

    dtype: str
    places: str
    lanes: int
    how: str = ""


def _with_index(
    index: Value, dtype: str, size: Value, errors: Value, use: Callable[[Value], object]
) -> None:
    """``use`` the index as i64, or set the flag."""
    wide = index
    if index.type != "i64":
        wide = index.convert("sext" if dtype[0] == "i" else "zext", "i64")

    def flag() -> None:
        errors.store(errors.fn.value(1, "i64"))

    def proceed() -> None:
        use(wide)

    index.fn.when(wide.compare("ult", size), proceed, flag)


def take(module: Module, name: str, spec: IndexSpec) -> None:
    """y[a, i] = x[a, index[i]]: whole slices.

    Arguments: x, index, y, errors; number of indices, of slices, entries of a slice, indices per
    tile, tiles per a.
    """
    call = Call(module, name)
    fn = call.fn
    x, index, y, errors = (call.tensor() for _ in range(4))
    count, size, width, per_tile, tiles = (call.number() for _ in range(5))
    outer = call.tile // tiles
    first = (call.tile - outer * tiles) * per_tile
    x, y = x.at(outer * (size * width), spec.dtype), y.at(outer * (count * width), spec.dtype)

    def one(i: Value) -> None:
        def use(place: Value) -> None:
            _copy(fn, x.at(place * width, spec.dtype), y.at(i * width, spec.dtype), width, spec)

        _with_index(index.load(IN_MEMORY[spec.places], i), spec.places, size, errors, use)

    fn.loop(first, fn.minimum(first + per_tile, count), 1, (), one)
    fn.ret()


def _copy(fn: Function, source: Value, target: Value, width: Value, spec: IndexSpec) -> None:
    """A slice, by vectors and a masked rest."""
    whole = width - width % spec.lanes
    type = vector(spec.lanes, spec.dtype)
    fn.loop(0, whole, spec.lanes, (), lambda c: target.store(source.load(type, c), c))

    def rest() -> None:
        some = Lanes(fn, spec.lanes, width - whole)
        assert some.mask is not None
        loaded = fn.masked_load(source.at(whole, spec.dtype), type, some.mask)
        fn.masked_store(target.at(whole, spec.dtype), loaded, some.mask)

    fn.when(whole.compare("slt", width), rest)


def scatter(module: Module, name: str, spec: IndexSpec) -> None:
    """y[a, index[i]] += x[a, i], or = x[a, i], in the order of i; y is filled before.

    A tile is one a and some columns, so that no two tiles meet. Arguments: x, index, y, errors;
    number of indices, of slices, entries of a slice, tiles per a.
    """
    call = Call(module, name)
    fn, lanes = call.fn, spec.lanes
    x, index, y, errors = (call.tensor() for _ in range(4))
    count, size, width, tiles = (call.number() for _ in range(4))
    outer = call.tile // tiles
    left = (call.tile - outer * tiles) * COLUMNS_PER_TILE
    right = fn.minimum(left + COLUMNS_PER_TILE, width)
    x, y = x.at(outer * (count * width), spec.dtype), y.at(outer * (size * width), spec.dtype)
    dtype = {"float": "float32", "double": "float64", "i8": "uint8", "i32": "int32"}.get(
        spec.dtype, "int64"
    )

    def one(i: Value) -> None:
        def use(place: Value) -> None:
            source, target = x.at(i * width, spec.dtype), y.at(place * width, spec.dtype)

            def some(c: Value) -> None:
                part = Lanes(fn, lanes, fn.minimum(right - c, lanes))
                value = part.load(source, dtype, NEXT, c)
                if spec.how == "add":
                    value = part.load(target, dtype, NEXT, c) + value
                part.store(target, value, NEXT, c)

            fn.loop(left, right, lanes, (), some)

        _with_index(index.load(IN_MEMORY[spec.places], i), spec.places, size, errors, use)

    fn.loop(0, count, 1, (), one)
    fn.ret()


def gather(module: Module, name: str, spec: IndexSpec) -> None:
    """y[a, i, c] = x[a, index[a, i, c], c]: entries, each from its own row.

    Arguments: x, index, y, errors; indices along the axis, its length, entries after it, how many a
    there are, and how many in a tile.
    """
    call = Call(module, name)
    fn = call.fn
    x, index, y, errors = (call.tensor() for _ in range(4))
    count, size, width, outer, per_tile = (call.number() for _ in range(5))
    first = call.tile * per_tile

    def row(a: Value) -> None:
        line = x.at(a * (size * width), spec.dtype)
        start = a * (count * width)

        def one(i: Value) -> None:
            def use(place: Value) -> None:
                y.store(line.load(spec.dtype, place * width + i % width), start + i)

            number = index.load(IN_MEMORY[spec.places], start + i)
            _with_index(number, spec.places, size, errors, use)

        fn.loop(0, count * width, 1, (), one)

    fn.loop(first, fn.minimum(first + per_tile, outer), 1, (), row)
    fn.ret()


def gather_add(module: Module, name: str, spec: IndexSpec) -> None:
    """y[a, index[a, i, c], c] += x[a, i, c] in the order of i; y is filled before.

    Arguments: x, index, y, errors; indices along the axis, its length, entries after it. A tile is
    one a.
    """
    call = Call(module, name)
    fn = call.fn
    x, index, y, errors = (call.tensor() for _ in range(4))
    count, size, width = (call.number() for _ in range(3))
    y = y.at(call.tile * (size * width), spec.dtype)
    first = call.tile * (count * width)
    index, x = index.at(first, IN_MEMORY[spec.places]), x.at(first, spec.dtype)

    def one(i: Value) -> None:
        def use(place: Value) -> None:
            target = y.at(place * width + i % width, spec.dtype)
            target.store(target.load(spec.dtype) + x.load(spec.dtype, i))

        _with_index(index.load(IN_MEMORY[spec.places], i), spec.places, size, errors, use)

    fn.loop(0, count * width, 1, (), one)
    fn.ret()
