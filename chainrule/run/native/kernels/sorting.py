"""Entries in order, and where each came from.

An entry becomes a *record*: a whole number without sign, its size above and its place below. No two
records are equal, so that equal entries keep their order whatever is done to the records. They are
sorted in fours, and the fours are merged; how, depends on how many there are alone.
"""

from __future__ import annotations

from typing import NamedTuple

from chainrule.run.native.elementwise import IN_MEMORY
from chainrule.run.native.ir import SIZES, Function, Module, Value
from chainrule.run.native.kernels.calling import Call

# Compared and exchanged in this order, four records come out sorted.
_NETWORK = ((0, 1), (2, 3), (0, 2), (1, 3), (1, 2))
RUN = 4


class SortSpec(NamedTuple):
    """Key of :func:`sort`: the element type, and whether the largest comes first."""

    dtype: str
    descending: bool

    @property
    def size_bits(self) -> int:
        """Bits of a record for the size, and as many for the place."""
        return 64 if SIZES[IN_MEMORY[self.dtype]] == 8 else 32

    @property
    def record(self) -> str:
        return f"i{2 * self.size_bits}"

    def room(self, count: int) -> int:
        """Bytes for the records of ``count`` entries, twice, with one to spare for each."""
        return 2 * (-(-count // RUN) * RUN + 1) * SIZES[self.record]


def sort(module: Module, name: str, spec: SortSpec) -> None:
    """values[a, :, c] = x[a, :, c] in order; order[a, i, c]: where values[a, i, c] stood. NaN last.

    Arguments: x, values, order, room; rows (all a and c), entries of a row, entries after the axis,
    rows per tile, bytes of room per tile.
    """
    call = Call(module, name)
    fn, record, memory = call.fn, spec.record, IN_MEMORY[spec.dtype]
    x, values, order, room = (call.tensor() for _ in range(4))
    rows, count, step, per_tile, nbytes = (call.number() for _ in range(5))
    records = room.at(call.tile * nbytes, "i8")
    padded = (count + (RUN - 1)) // RUN * RUN
    spare = records.at(padded + 1, record)
    first = call.tile * per_tile

    def row(r: Value) -> None:
        outer = r // step
        start = outer * (count * step) + (r - outer * step)
        line = x.at(start, memory)

        def fill(i: Value) -> None:
            size = _size(line.load(memory, i * step), spec)
            records.store((size << spec.size_bits) | _wide(i, record), i)

        fn.loop(0, count, 1, (), fill)
        last = fn.value(-1, record)
        fn.loop(count, padded, 1, (), lambda i: records.store(last, i))
        fn.loop(0, padded, RUN, (), lambda i: _sort_four(fn, records.at(i, record), record))
        found = _merge_all(fn, records, spare, padded, record)

        def hand_out(i: Value) -> None:
            place = _place(found.load(record, i), spec)
            order.at(start, "i64").store(place, i * step)
            values.at(start, memory).store(line.load(memory, place * step), i * step)

        fn.loop(0, count, 1, (), hand_out)

    fn.loop(first, fn.minimum(first + per_tile, rows), 1, (), row)
    fn.ret()


def _wide(number: Value, record: str) -> Value:
    return number if number.type == record else number.convert("zext", record)


def _place(record: Value, spec: SortSpec) -> Value:
    """The lower half."""
    if spec.size_bits == 64:
        return record.convert("trunc", "i64")
    return record & 0xFFFFFFFF


def _size(number: Value, spec: SortSpec) -> Value:
    """The upper half: in the order of the numbers, when compared without sign."""
    fn, bits = number.fn, 8 * SIZES[IN_MEMORY[spec.dtype]]
    signed = spec.dtype[0] in "if"
    whole = number.bits("i32") if number.type == "float" else number
    top = fn.value(-1 << (bits - 1), whole.type)
    if number.type == "float":
        # Larger numbers have larger bits; of negative ones it is the other way round.
        size = whole & 0x7FFFFFFF
        whole = fn.select(size.compare("eq", 0), 0, whole)  # -0 is 0
        flipped = fn.select(whole.compare("slt", 0), whole ^ -1, whole ^ top)
        whole = fn.select(size.compare("ugt", 0x7F800000), -1, flipped)  # NaN
    elif signed:
        whole = whole ^ top
    if spec.descending:
        whole = whole ^ -1
    return whole.convert("zext", spec.record)


def _sort_four(fn: Function, four: Value, record: str) -> None:
    """Four records in order."""
    found = [four.load(record, i) for i in range(RUN)]
    for i, j in _NETWORK:
        a, b = found[i], found[j]
        is_less = a.compare("ult", b)
        found[i], found[j] = fn.select(is_less, a, b), fn.select(is_less, b, a)
    for i, each in enumerate(found):
        four.store(each, i)


def _merge_all(fn: Function, a: Value, b: Value, count: Value, record: str) -> Value:
    """Runs merged two by two, from one place to the other and back; where the last merge went."""
    passes = 64 - fn.op("i64", f"call i64 @llvm.ctlz.i64(i64 {(count - 1) // RUN}, i1 false)")
    fn.module.declare("llvm.ctlz.i64", "i64", ["i64", "i1"])

    def merge_pass(_: Value, source: Value, target: Value, width: Value) -> list[Value]:
        def pair(start: Value) -> None:
            middle = fn.minimum(start + width, count)
            end = fn.minimum(middle + width, count)
            _merge(fn, source, target, (start, middle, end), record)

        fn.loop(0, count, width * 2, (), pair)
        return [target, source, width * 2]

    found, _, _ = fn.loop(0, passes, 1, [a, b, fn.value(RUN, "i64")], merge_pass)
    return found


def _merge(
    fn: Function, source: Value, target: Value, cuts: tuple[Value, Value, Value], record: str
) -> None:
    """Two runs, ``start`` to ``middle`` and from there to ``end``, made one; without a branch."""
    start, middle, end = cuts

    def one(place: Value, left: Value, right: Value) -> list[Value]:
        a, b = source.load(record, left), source.load(record, right)
        is_left = left.compare("slt", middle) & (right.compare("sge", end) | a.compare("ult", b))
        target.store(fn.select(is_left, a, b), place)
        step = is_left.convert("zext", "i64")
        return [left + step, right + (1 - step)]

    fn.loop(start, end, 1, [start, middle], one)
