"""Direct convolution: blocks of output channels by pixels, their sums in registers.

A tile is some rows of pixels of one image and one group, all its output channels. The channels of
the input are copied into the thread's memory, padded (``windows``); then weights are read one by
one, pixels in vectors. A chain of fused products runs over channels, and in each over the rows and
columns of the kernel. It is cut after as many whole channels as fit into 384 products; the chains
are added in order.
"""

from __future__ import annotations

from chainrule.run.native.elementwise import IN_MEMORY
from chainrule.run.native.ir import Function, Module, Value, vector
from chainrule.run.native.kernels.calling import LINE, Call, add_chain
from chainrule.run.native.kernels.shapes import ConvolutionSpec, heights
from chainrule.run.native.kernels.windows import Plane
from chainrule.run.native.program import FAR, Lanes, Program, compute, constant

# Windows of up to so many entries are written out; larger ones are a loop.
_WRITTEN_OUT = 50


def convolution(module: Module, name: str, spec: ConvolutionSpec) -> None:
    """Arguments: x, packed weights, operands, what each call of a block asks for; groups, strips
    per image; strides of x along batch, channels, rows, columns; for each operand its strides along
    batch and channels, and along pixels if FAR; for each call, how many bytes further what it asks
    for is in the next slice.
    """
    height, tall, low = heights(spec.outputs, spec.blocks[0])
    sizes = [(height, tall), (height - 1, low)] if low else [(height, tall)]
    counts = sorted({min(spec.panel, spec.vectors), 1}, reverse=True)
    if spec.pixels == "halves":
        counts = counts[:1]  # two vectors are always whole ones of either half
    for rows, _ in sizes:
        for count in counts:
            _block(module, f"block{rows}x{count}", rows, count, spec)
    for count in [] if spec.is_plain else counts if spec.pixels != "flat" else [0]:
        _follow(module, f"follow{count}", count, spec)
    _Tile(module, name, spec, sizes, counts).write()


class _Tile:
    """The kernel's main function."""

    def __init__(
        self, module: Module, name: str, spec: ConvolutionSpec, sizes: list[tuple[int, int]],
        counts: list[int],
    ) -> None:  # fmt: skip
        self.spec, self.sizes, self.counts = spec, sizes, counts
        self.call = call = Call(module, name)
        self.fn = fn = call.fn
        x, w = call.tensor(), call.tensor()
        bases = [call.tensor() for _ in spec.program.operands]
        asked = spec.calls * spec.ahead.tiles if spec.ahead.lines else 0
        self.asked = call.tensors(asked)
        groups, strips = call.number(), call.number()
        x_image, self.x_channel, self.x_row, self.x_column = (call.number() for _ in range(4))
        above = call.tile // strips
        self.first = (call.tile - above * strips) * spec.strip
        self.image = above // groups
        group = above - self.image * groups
        self.here = fn.minimum(spec.rows.positions - self.first, spec.strip)
        self.x = x.at(self.image * x_image + group * spec.channels * self.x_channel)
        self.w = w.at(group * (spec.outputs * spec.channels * spec.taps))
        self.operands: list[tuple[Value, Value, Value]] = []
        pixel = self.first * spec.columns.positions
        for base, operand in zip(bases, spec.program.operands, strict=True):
            along_batch, along_rows = call.number(), call.number()
            along = call.number() if operand.column == FAR else fn.value(operand.column, "i64")
            element = IN_MEMORY[operand.dtype]
            place = self.image * along_batch + group * spec.outputs * along_rows + pixel * along
            self.operands.append((base.at(place, element), along_rows, along))
        self.steps = call.words(fn.value(0, "i64"))
        self.sums = call.scratch
        self.copy = call.scratch.at(spec.sums)

    def write(self) -> None:
        self.fn.loop(0, self.spec.channels, self.spec.depth, (), self._chain)
        self.fn.ret()

    def _chain(self, start: Value) -> None:
        """All sums of the tile, over some channels."""
        fn, spec = self.fn, self.spec
        depth = fn.minimum(spec.channels - start, spec.depth)
        slab = spec.slab

        def fill(c: Value) -> None:
            base = self.x.at((start + c) * self.x_channel)
            along = None if spec.near else self.x_column
            plane = Plane(base, spec.rows, spec.columns, self.x_row, along, spec.lanes)
            slab.fill(plane, self.copy.at(c * slab.size), self.first)

        fn.loop(0, depth, 1, (), fill)
        row: Value = fn.value(0, "i64")
        number = start // fn.value(spec.depth, "i64") * sum(count for _, count in self.sizes)
        for height, count in self.sizes:
            top, begun = row, number

            def block(
                i: Value, height: int = height, top: Value = top, begun: Value = begun
            ) -> None:
                self._rows(height, top + i * height, start, depth, begun + i)

            fn.loop(0, count, 1, (), block)
            row, number = top + count * height, begun + count

    def _rows(self, height: int, row: Value, start: Value, depth: Value, number: Value) -> None:
        """A block of output channels, all pixels; so many blocks came before it."""
        fn, spec = self.fn, self.spec
        lanes = spec.lanes
        whole = spec.channels > spec.depth
        weights = self.w.at(row * (spec.channels * spec.taps) + start * (spec.taps * height))
        sums = self.sums.at(row * (spec.vectors * lanes)) if whole else self.sums
        first = start.compare("eq", 0)
        last = (start + spec.depth).compare("sge", spec.channels)
        vectors = self._vectors()

        def panel(t: Value, count: int, before: Value) -> None:
            room = sums
            if spec.pixels == "flat":
                room = sums.at(t * lanes)
            elif whole:
                room = sums.at(t * (lanes * height))
            places = [place for j in range(count) for place in self._places(t + j)]
            name = f"block{height}x{count}"
            ahead = self._ahead(number * spec.panels + before)
            if spec.is_plain:
                ((result, down, _),) = self.operands
                result = result.at(row * down + self._pixel(t))
                fn.call(name, "void", depth, weights, *places, result, down, *ahead)
                return
            fn.call(name, "void", depth, weights, *places, room, first, *ahead)
            if spec.pixels != "flat":
                pixel = self._pixel(t)
                fn.when(last, lambda: self._followed(count, room, height, row, pixel))

        wide = self.counts[0]
        even = vectors - vectors % wide
        side = fn.value(wide, "i64")
        fn.loop(0, even, wide, (), lambda t: panel(t, wide, t // side))
        if 1 in self.counts[1:]:
            last_call = spec.panels - 1  # a lower strip may have more vectors by themselves
            before = even // side - even
            fn.loop(
                even, vectors, 1, (), lambda t: panel(t, 1, fn.minimum(before + t, last_call))
            )  # fmt: skip
        if spec.pixels == "flat":
            none = fn.value(0, "i64")
            fn.when(last, lambda: self._followed(0, sums, height, row, none))

    def _ahead(self, number: Value) -> list[Value]:
        """What the call of this number asks for."""
        spec, tile = self.spec, self.call.tile
        if not spec.ahead.lines:
            return []
        slice_ = tile // self.fn.value(spec.ahead.tiles, "i64")
        number = number + (tile - slice_ * spec.ahead.tiles) * spec.calls
        words = self.asked.at(number * 2, "i64")
        base = self.call.slots.at(words.load("i64", 0), "ptr").load("ptr")
        return [base.at(words.load("i64", 1) + slice_ * self.steps.load("i64", number), "i8")]

    def _vectors(self) -> Value:
        """How many vectors this strip has."""
        spec, width = self.spec, self.spec.columns.positions
        if spec.pixels != "flat":
            return self.here * width // self.fn.value(spec.lanes, "i64")
        pixels = (self.here - 1) * spec.slab.pitch + (width + spec.lanes - 1)
        return pixels // self.fn.value(spec.lanes, "i64")

    def _pixel(self, t: Value) -> Value:
        """The first pixel of vector t, or of the pair that begins with it."""
        run = self.spec.run if self.spec.pixels == "halves" else self.spec.lanes
        return t * run

    def _places(self, t: Value) -> list[Value]:
        """Where the windows of the pixels of vector t begin, for each of its starts."""
        spec = self.spec
        if spec.pixels == "flat":
            return [self.copy.at(t * spec.lanes)]
        if spec.pixels == "halves":
            row = t // self.fn.value(spec.columns.positions // spec.run, "i64")
            column = t * spec.run - row * spec.columns.positions
            return [self.copy.at(row * spec.slab.pitch + column * 2)]
        size = spec.lanes // spec.starts
        per_row = max(spec.columns.positions // size, 1)
        rows = max(size // spec.columns.positions, 1)
        found = []
        for start in range(spec.starts):
            number = t * spec.starts + start
            row = number // self.fn.value(per_row, "i64")
            column = (number - row * per_row) * size
            found.append(self.copy.at(row * (rows * spec.slab.pitch) + column))
        return found

    def _followed(self, count: int, sums: Value, height: int, row: Value, pixel: Value) -> None:
        """Call what follows on finished sums."""
        fn = self.fn
        args = [sums, fn.value(height, "i64"), self.here]
        for (place, along_rows, along), operand in zip(
            self.operands, self.spec.program.operands, strict=True
        ):
            element = IN_MEMORY[operand.dtype]
            args += [place.at(row * along_rows + pixel * along, element), along_rows, along]
        fn.call(f"follow{count}", "void", *args)


# ------------------------------------------------------------------------------ the sums


def _block(module: Module, name: str, height: int, count: int, spec: ConvolutionSpec) -> None:
    """A function: a chain for a block of channels and ``count`` vectors, added to what is there.

    ``(depth, weights, places of the vectors, sums, first, what is asked for)``; of a plain
    convolution the result and its stride along channels, for the sums.
    """
    args = [("i64", "depth"), ("ptr noalias readonly", "a")]
    args += [("ptr readonly", f"x{j}") for j in range(count * spec.starts)]
    args += [("ptr noalias", "sums"), ("i64", "down") if spec.is_plain else ("i1", "first")]
    lines = spec.ahead.lines
    fn = Function(module, name, [*args, ("ptr", "ahead")][: len(args) + (lines > 0)], internal=True)
    depth, a, *places, target, rest = fn.args[: len(args)]
    ahead = fn.args[len(args) :]
    slab, lanes = spec.slab, spec.lanes
    taps = slab.taps()

    def products(
        totals: list[Value], a: Value, places: list[Value], step: int, tap: Value | int
    ) -> list[Value]:
        at_tap = [place.at(tap) for place in places]
        right = [
            _pixels(fn, spec, at_tap[j * spec.starts : (j + 1) * spec.starts]) for j in range(count)
        ]
        made = []
        for i in range(height):
            left = fn.splat(a.load("float", i + step * height), lanes)
            made += [fn.fma(left, right[j], totals[i * count + j]) for j in range(count)]
        return made

    def channel(_: Value, *carried: Value) -> list[Value]:
        *totals, a = carried[: height * count + 1]
        places = list(carried[height * count + 1 :])
        asked = [places.pop() for _ in ahead]

        def ask(which: range) -> None:
            for place in asked:
                for k in which:
                    fn.prefetch(place.at(k * LINE, "i8"))

        if len(taps) <= _WRITTEN_OUT:
            for step, tap in enumerate(taps):
                # one after the other: many at once keep out what the products read
                ask(range(lines * step // len(taps), lines * (step + 1) // len(taps)))
                totals = products(totals, a, places, step, tap)
        else:
            ask(range(lines))
            table = _table(module, taps)

            def one(k: Value, *carried: Value) -> list[Value]:
                *totals, a = carried
                offset = Value(fn, "ptr", table).load("i64", k)
                return [*products(totals, a, places, 0, offset), a.at(height)]

            *totals, _end = fn.loop(0, len(taps), 1, [*totals, a], one)
        moved = [place.at(slab.size) for place in places]
        moved += [place.at(lines * LINE, "i8") for place in asked]
        return [*totals, a.at(len(taps) * height), *moved]

    zero = fn.value(0.0, vector(lanes, "float"))
    found = fn.loop(0, depth, 1, [*[zero] * (height * count), a, *places, *ahead], channel)
    totals = found[: height * count]
    if spec.pixels == "halves":
        totals = [
            fn.shuffle(a, b, range(half, 2 * lanes, 2))
            for a, b in zip(totals[::2], totals[1::2], strict=True)
            for half in range(2)
        ]
    if spec.is_plain:
        for i in range(height):
            line = target.at(rest * i)
            for j in range(count):
                line.store(totals[i * count + j], j * spec.vectors_apart)
        fn.ret()
        return
    pitch = (spec.vectors if spec.pixels == "flat" else count) * lanes
    at = [i * pitch + j * lanes for i in range(height) for j in range(count)]
    add_chain(target, totals, at, rest)
    fn.ret()


def _pixels(fn: Function, spec: ConvolutionSpec, places: list[Value]) -> Value:
    """A vector of pixels of the copy."""
    if len(places) == 1:
        return places[0].load(vector(spec.lanes, "float"))
    if len(places) == 2 and spec.lanes == 16:  # its masks have registers of their own
        first, second = places
        low = first.load(vector(spec.lanes, "float"))
        high = fn.vector_of(range(spec.lanes), "i32").compare("sge", spec.run)
        return fn.masked_load(second.at(-spec.run), low.type, high, low)
    parts = [place.load(vector(spec.run, "float")) for place in places]
    while len(parts) > 1:
        size = range(spec.lanes // len(parts) * 2)
        parts = [fn.shuffle(a, b, size) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _table(module: Module, taps: list[int]) -> str:
    """Where the entries of a window are, as a constant."""
    listed = ", ".join(f"i64 {tap}" for tap in taps)
    text = f"@taps = internal constant [{len(taps)} x i64] [{listed}]"
    if text not in module.globals:
        module.globals.append(text)
    return "@taps"


# ------------------------------------------------------------------------------ what follows


def _follow(module: Module, name: str, count: int, spec: ConvolutionSpec) -> None:
    """A function: the program on the sums of a block of channels.

    ``(sums, channels, rows of pixels, then for each operand its place and its strides along
    channels and pixels)``. ``count`` is how many vectors there are; 0 for all, over rows of pixels.
    """
    args = [("ptr noalias readonly", "sums"), ("i64", "height"), ("i64", "here")]
    for i in range(len(spec.program.operands)):
        args += [("ptr", f"p{i}"), ("i64", f"r{i}"), ("i64", f"c{i}")]
    fn = Function(module, name, args, internal=True)
    sums, height, here, *rest = fn.args
    places, downs, alongs = rest[::3], rest[1::3], rest[2::3]
    lanes = spec.lanes
    following = _Following(fn, spec.program, alongs, lanes)
    pitch = (count or spec.vectors) * lanes

    def channel(i: Value) -> None:
        starts = [
            place.at(i * down, IN_MEMORY[operand.dtype])
            for place, down, operand in zip(places, downs, spec.program.operands, strict=True)
        ]
        following.begin(starts)
        line = sums.at(i * pitch)
        every = Lanes(fn, lanes)
        for j in range(count):
            pixel = fn.value(j * spec.vectors_apart, "i64")
            following.vector(every, line.at(j * lanes), pixel)
        if count:
            return
        width = spec.columns.positions
        whole = width - width % lanes

        def row(r: Value) -> None:
            left, pixel = line.at(r * spec.slab.pitch), r * width
            fn.loop(0, whole, lanes, (), lambda c: following.vector(every, left.at(c), pixel + c))
            if whole < width:
                some = Lanes(fn, lanes, fn.value(width - whole, "i64"))
                following.vector(some, left.at(whole), pixel + whole)

        fn.loop(0, here, 1, (), row)

    fn.loop(0, height, 1, (), channel)
    fn.ret()


class _Following:
    """The elementwise chain on finished sums."""

    def __init__(self, fn: Function, program: Program, alongs: list[Value], lanes: int) -> None:
        self.fn, self.program, self.alongs, self.lanes = fn, program, alongs, lanes
        self.is_row = program.is_row()

    def begin(self, starts: list[Value]) -> None:
        """A channel begins: its operands are there; what is the same for all pixels is computed."""
        self.starts = starts
        self.row_known: dict[int, Value] = {}
        every = Lanes(self.fn, self.lanes)
        zero = self.fn.value(0, "i64")
        for index, step in enumerate(self.program.steps):
            if not self.is_row[index]:
                continue
            if step.op == "constant":
                self.row_known[index] = constant(self.fn, step, self.lanes)
            elif step.op == "load":
                self.row_known[index] = self._load(index, every, zero)
            else:
                compute(self.program, [index], self.row_known)

    def vector(self, lanes: Lanes, sums: Value, pixel: Value) -> None:
        """The pixels from ``pixel`` on."""
        known = dict(self.row_known)
        for index, step in enumerate(self.program.steps):
            if step.op == "product":
                known[index] = sums.load(vector(self.lanes, "float"))
            elif index in known:
                continue
            elif step.op == "load":
                known[index] = self._load(index, lanes, pixel)
            else:
                compute(self.program, [index], known)
        for index, operand in self.program.stores:
            column = self.program.operands[operand].column
            lanes.store(self.starts[operand], known[index], column, pixel, self.alongs[operand])

    def _load(self, index: int, lanes: Lanes, pixel: Value) -> Value:
        operand = self.program.steps[index].operand
        dtype, column, _ = self.program.operands[operand]
        return lanes.load(self.starts[operand], dtype, column, pixel, self.alongs[operand])
