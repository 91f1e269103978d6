"""How a plan calls a kernel: ``kernel(slots, args, tile, scratch)``.

``slots`` is the plan's table of addresses. ``args`` is the task's table of whole numbers: for each
tensor its slot and an offset in bytes, then sizes and strides. ``tile`` says which part of the work
this call does; ``scratch`` is memory that belongs to the thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.run.native.ir import Function, Module, Value

SIGNATURE = (
    ("ptr", "slots"), ("ptr noalias readonly", "args"), ("i64", "tile"), ("ptr", "scratch")
)  # fmt: skip

# Bytes of a line of the cache, and float32 numbers.
LINE, LINE_NUMBERS = 64, 16
# Products are added one after the other in chains of this many; the chains are added in order.
CHAIN = 384
SCRATCH_BYTES = 1 << 20
# The plan's table of addresses may have so many places; a thread may keep a table of its own
# behind its scratch memory, and behind that slices of tensors that only a tandem sees.
MOST_SLOTS = 1 << 15
SLICES_AT = SCRATCH_BYTES + 8 * MOST_SLOTS
SLICES_BYTES = 1 << 23
THREAD_BYTES = SLICES_AT + SLICES_BYTES


class Call:
    """A kernel being written; arguments are taken in the order in which the plan lists them."""

    def __init__(
        self, module: Module, name: str, signature: Sequence[tuple[str, str]] = SIGNATURE
    ) -> None:
        self.fn = Function(module, name, signature)
        self.slots, self._args, self.tile, self.scratch = self.fn.args
        self._next = 0

    def number(self) -> Value:
        """The next whole number."""
        self._next += 1
        return self._args.load("i64", self._next - 1)

    def words(self, index: Value) -> Value:
        """Where the arguments from the next one on, and ``index`` more, are."""
        return self._args.at(index + self._next, "i64")

    def tensors(self, count: int) -> Value:
        """Where the slots and offsets of the next tensors are."""
        found = self.words(self.fn.value(0, "i64"))
        self._next += 2 * count
        return found

    def tensor(self) -> Value:
        """The address of the next tensor."""
        slot, offset = self.number(), self.number()
        return self.slots.at(slot, "ptr").load("ptr").at(offset, "i8")


def add_chain(sums: Value, totals: Sequence[Value], places: Sequence[int], first: Value) -> None:
    """Add the sums of a chain to what is there; those of the first chain are stored.

    Args:
        sums: where they are kept.
        totals: a vector each.
        places: where in ``sums`` each belongs, in elements.
        first: whether nothing is there yet.
    """

    def start() -> None:
        for total, place in zip(totals, places, strict=True):
            sums.store(total, place)

    def proceed() -> None:
        for total, place in zip(totals, places, strict=True):
            sums.store(sums.load(total.type, place) + total, place)

    first.fn.when(first, start, proceed)


def unraveled(index: Value, lengths: list[Value]) -> list[Value]:
    """The place along each axis of what has this number, in row-major order."""
    places = []
    for length in reversed(lengths):
        above = index // length
        places.append(index - above * length)
        index = above
    return [index, *reversed(places)]


def dot(places: Sequence[Value], strides: Sequence[Value]) -> Value:
    """How far an entry is from the first, in elements."""
    total = places[0] * strides[0]
    for place, stride in zip(places[1:], strides[1:], strict=True):
        total = total + place * stride
    return total
