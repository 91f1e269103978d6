"""From groups of nodes to tasks: layouts, kernels, sizes and strides.

Every number here is a function of the graph and the processor, never of threads or time, since the
split into tiles decides the order of sums (decision 11).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from chainrule.core.dtype import NAMES, bool_
from chainrule.core.graph import Array, Graph, Node, Shape, TensorType
from chainrule.run.native import convolutions, elementwise
from chainrule.run.native.attention import ATTENTION
from chainrule.run.native.failures import NoKernelError
from chainrule.run.native.fuse import Fusion, Group, is_row_reduction
from chainrule.run.native.indexing import INDEXING
from chainrule.run.native.kernels.columns import WIDTH, ColumnsSpec
from chainrule.run.native.kernels.rows import FEW_VECTORS, RowsSpec
from chainrule.run.native.loops import LOOPS
from chainrule.run.native.ordering import ORDERING
from chainrule.run.native.parts import COLUMN_PART, column_parts, fold_rows, is_long
from chainrule.run.native.placing import GAP, parts_of, straightened, with_gaps
from chainrule.run.native.pools import POOLING
from chainrule.run.native.products import product_tasks
from chainrule.run.native.program import FAR, NEXT, SAME, Operand, Program, Step
from chainrule.run.native.tandem import same_tiles, sliced, sliced_rows
from chainrule.run.native.target import Target
from chainrule.run.native.task import Entry, task
from chainrule.run.native.turns import interleaving, take_turns
from chainrule.run.native.views import Buffer, View, at_windows, contiguous, merged
from chainrule.run.native.winners import SPREAD

# Axes before those of a plane.
PLANE = 2
# Entries of a tile of an elementwise chain. Few tiles are cut smaller, by their steps.
TILE, _FEW_TILES, _STEPS = 8192, 4, 8
# So many entries are hardly in the cache.
_MANY = 1 << 16


class Lowering:
    """The tasks of a graph, made group by group.

    Attributes:
        tasks: them, in order.
        constants: arrays that the plan holds, and the buffers they are in.
        errors: the buffer of the run's error flag.
        fixed: in the body of a loop, the buffers that stay the same; in inference, those that do
            while the variables do.
        packings: operands of products as they were packed.
        turn: in the body of a loop, gives a whole number that is 0 and 1 by turns, lap by lap.
        states: nodes that write over a variable; nothing may be there before they run.
    """

    def __init__(self, graph: Graph, fusion: Fusion, target: Target, errors: Buffer) -> None:
        self.fusion, self.target, self.errors = fusion, target, errors
        self.tasks: list[Entry] = []
        self.fixed: set[Buffer] = set()
        self._derived: tuple[int, set[Buffer]] = (0, set())
        self.packings: dict[tuple[View, str], View] = {}
        self.turn: Callable[[], View | None] = lambda: None
        self.states: set[Node] = set()
        self._part_of = parts_of(graph, fusion)
        self._spread = with_gaps(graph, fusion)
        self.constants: list[tuple[Array, Buffer]] = []
        self._given = {*graph.inputs, *graph.reads.values()}
        self._views: dict[Node, View] = {}
        self._singles: dict[str, Callable[[Node], None]] = {
            "sum": self._fold, "amax": self._fold, "concatenate": self._concatenate,
            "pad": self._pad,
        }  # fmt: skip
        for name, make in {**INDEXING, **LOOPS, **ATTENTION, **ORDERING, **POOLING}.items():
            self._singles[name] = partial(make, self)

    # ------------------------------------------------------------------ where values are

    def put(self, node: Node, buffer: Buffer) -> None:
        """The node's entries are in this buffer, in row-major order, or will be."""
        self._views[node] = contiguous(buffer, node.tensor_type)

    def inside(self, graph: Graph, fusion: Fusion, fixed: set[Buffer]) -> Lowering:
        """For the body of a loop; its constants are the plan's."""
        inner = Lowering(graph, fusion, self.target, self.errors)
        inner.constants, inner.fixed = self.constants, fixed
        return inner

    def show(self, node: Node, view: View) -> None:
        """The node's entries are seen there, or will be."""
        self._views[node] = view

    def has_place(self, node: Node) -> bool:
        """Whether it is decided where the node's entries are."""
        return node in self._views

    def new(self, type: TensorType) -> View:
        """Room in the arena."""
        return contiguous(Buffer(type.size * type.dtype.itemsize), type)

    def home(self, node: Node) -> View:
        """Where the node's entries go: the place it was given, or room in the arena."""
        if node not in self._views:
            whole = self._part_of.get(node)
            if whole and whole[0] not in self.states:
                self._views[node] = self.slot(*whole)
            elif node in self._spread:
                self._views[node] = self._with_gaps(node.tensor_type)
            else:
                self._views[node] = self.new(node.tensor_type)
        return self._views[node]

    def _with_gaps(self, type: TensorType) -> View:
        """Room whose rows do not fall on the same lines of the cache."""
        *outer, columns = type.shape
        wide = self.new(TensorType((*outer, columns + GAP), type.dtype))
        return wide.slice((0,) * len(type.shape), (1,) * len(type.shape), type.shape)

    def slot(self, whole: Node, position: int) -> View:
        """Where a part of a concatenation goes."""
        dim: int = whole.attrs["dim"]
        start = sum(part.shape[dim] for part in whole.inputs[:position])
        starts = tuple(start if axis == dim else 0 for axis in range(whole.ndim))
        shape = whole.inputs[position].shape
        return self.home(whole).slice(starts, (1,) * whole.ndim, shape)

    def view(self, node: Node) -> View:
        """Where the node's entries are; what can't be seen in place is copied once."""
        found = self._views.get(node)
        if found is None:
            found = self._views[node] = self._seen(node)
        return found

    def _seen(self, node: Node) -> View:
        name, attrs = node.op.name, node.attrs
        if name == "constant":
            return self.constant(np.asarray(attrs["value"], node.dtype))
        if name == "iota":
            return self.constant(np.arange(attrs["length"], dtype=node.dtype))
        if name in SPREAD:
            return at_windows(self.packed(node.inputs[0]), attrs["kernel"], node.dtype)
        x = self.view(node.inputs[0])
        if name == "permute":
            return x.permute(attrs["dims"])
        if name == "broadcast_to":
            return x.broadcast_to(node.shape)
        if name == "slice":
            return x.slice(attrs["starts"], attrs["steps"], node.shape)
        if name == "flip":
            return x.flip(attrs["dims"])
        assert name == "reshape", name
        seen = x.reshape(node.shape)
        if seen is None:
            seen = self.gathered(x).reshape(node.shape)
            assert seen is not None
        return seen

    def constant(self, array: Array) -> View:
        """An array that the plan holds."""
        buffer = Buffer(array.nbytes, slot=-1)
        self.constants.append((array, buffer))
        self.fixed.add(buffer)
        return contiguous(buffer, TensorType(array.shape, array.dtype))

    def stays(self, buffer: Buffer) -> bool:
        """Whether the buffer is fixed, or follows from what is fixed."""
        count, derived = self._derived
        for each in self.tasks[count:]:
            if not each.checks and all(b in self.fixed or b in derived for b in each.reads):
                derived.update(each.writes)
            else:
                derived.difference_update(each.writes)
        self._derived = len(self.tasks), derived
        return buffer in self.fixed or buffer in derived

    def gathered(self, x: View) -> View:
        """A copy in row-major order."""
        made = self.new(TensorType(x.shape, x.dtype))
        self.copy(x, made)
        return made

    def packed(self, node: Node) -> View:
        """The node's entries in row-major order, copied if need be."""
        x = self.view(node)
        return x if x.is_contiguous else self.gathered(x)

    # ------------------------------------------------------------------ groups

    def lower(self, group: Group) -> None:
        """Append the tasks of a group."""
        first = len(self.tasks)
        if group.is_chain:
            self._chain(group)
        else:
            (node,) = group.nodes
            if node.op.name not in self._singles:
                raise NoKernelError(node.op.name)
            self._singles[node.op.name](node)
        nodes = (*([group.product] if group.product else []), *reversed(group.nodes))
        for each in self.tasks[first:]:
            each.nodes = each.nodes or nodes

    def _chain(self, group: Group) -> None:
        product = group.product
        is_convolution = product is not None and product.op.name == "convolution"
        if product is not None and is_convolution:
            convolutions.show(self, product)
        chain = Chain(self, group)
        if product is not None:
            make = convolutions.convolution_tasks if is_convolution else product_tasks
            make(self, product, chain.program(), chain.views)
            return
        split = PLANE if group.pool is not None else group.split
        self.pass_over(chain.program(), chain.views, group.shape, split)

    def copy(self, source: View, target: View) -> None:
        """The entries of one view into another."""
        if take_turns(source, target):
            self.tasks.append(interleaving(source, target, self.target.lanes))
            return
        dtype = NAMES[source.dtype]
        program = Program(
            (Step("load", (), dtype, 0),), (Operand(dtype, NEXT), Operand(dtype, NEXT)), ((0, 1),)
        )
        self.pass_over(program, [source, target], source.shape, None)

    def fill(self, target: View, number: int) -> None:
        """One number everywhere."""
        dtype = NAMES[target.dtype]
        program = Program(
            (Step("constant", (), dtype, number),), (Operand(dtype, NEXT),), ((0, 0),)
        )
        self.pass_over(program, [target], target.shape, None)

    def pass_over(
        self, program: Program, views: Sequence[View], shape: Shape, split: int | None
    ) -> None:
        """A task for a program over the entries of a shape.

        Args:
            program: its operands' columns are filled in here.
            views: one per operand, all of ``shape``.
            split: how many axes are rows; None where any will do.
        """
        if 0 in (shape if split is None else shape[:split]):
            return
        strides = [view.strides for view in views]
        if split is None:
            lengths, by_view = merged(shape, strides)
            outer, inner = lengths[:-1], lengths[-1:]
            rows = [each[:-1] for each in by_view]
            cols = [each[-1:] for each in by_view]
        else:
            outer, rows = merged(shape[:split], [each[:split] for each in strides])
            inner, cols = merged(shape[split:], [each[split:] for each in strides])
            if len(inner) > 1:
                self.pass_over(program, straightened(self, program, views, split), shape, split)
                return
        width = math.prod(inner)
        if split is not None and is_long(program, width):
            fold_rows(self, program, views, shape, split)
            return
        operands = tuple(
            Operand(operand.dtype, _column(each, width), view.windows)
            for operand, each, view in zip(program.operands, cols, views, strict=True)
        )
        count = math.prod(outer)
        short = width < self.target.lanes
        lanes = 2 if count * width == 1 else self.target.lanes
        axes = max(len(outer), 1)
        seen = {(view.strides, view.offset) for view in views if view.windows}
        assert len(seen) < 2, "the kernel takes them to be seen from the same places"
        many = count * width >= _MANY
        whole, rest = divmod(width, lanes)
        few = program.has_reductions and not (rest or seen) and whole <= FEW_VECTORS
        spec = RowsSpec(
            program._replace(operands=operands), lanes, axes, short, whole if few else 0, many
        )
        cuts = len(program.steps) // _STEPS if count * width < _FEW_TILES * TILE else 0
        tile_rows, tile_cols = max(1, TILE // (1 + cuts) // max(width, 1)), width
        if not program.has_reductions and width > TILE:
            windows = [view.windows for view in views if view.windows]
            band = math.lcm(*(each.height * each.length for each in windows))
            tile_cols = max(TILE // band, 1) * band
        across = -(-width // tile_cols) if width else 1
        numbers = [count, width, tile_rows, tile_cols, across, *outer[1:]]
        for operand, view, along, column in zip(operands, views, rows, cols, strict=True):
            numbers += along or (0,)
            if operand.windows:
                numbers.append(view.offset)
            elif operand.column == FAR:
                numbers += column
        self._append(program, views, ("rows", spec), numbers, -(-count // tile_rows) * across)

    def _append(
        self, program: Program, views: Sequence[View], spec: tuple[str, RowsSpec],
        numbers: list[int], tiles: int,
    ) -> None:  # fmt: skip
        written = {operand for _, operand in program.stores}
        made = task(spec, [view.stored for view in views], [], numbers, tiles)
        made.writes = [views[i].buffer for i in sorted(written)]
        made.reads = [view.buffer for i, view in enumerate(views) if i not in written]
        self.tasks.append(sliced_rows(made, views, program.has_reductions))

    # ------------------------------------------------------------------ nodes by themselves

    def _fold(self, node: Node) -> None:
        """A sum or maximum over any axes: one run of neighbouring axes after the other."""
        op, dtype = node.op.name, node.dtype
        dims: Shape = node.attrs["dims"]
        x = self.view(node.inputs[0])
        shape = x.shape
        while dims:
            first = last = dims[-1]
            while first - 1 in dims:
                first -= 1
            dims = tuple(dim for dim in dims if dim < first)
            kept = TensorType(shape[:first] + shape[last + 1 :], dtype)
            y = self.new(kept) if dims else self._reshaped_home(node, kept.shape)
            if last == len(shape) - 1:
                self._fold_rows(op, x, y, first)
            else:
                self._fold_columns(op, x, y, first, last)
            x, shape = y, kept.shape

    def _reshaped_home(self, node: Node, shape: Shape) -> View:
        found = self.home(node).reshape(shape)
        assert found is not None
        return found

    def _fold_rows(self, op: str, x: View, y: View, split: int) -> None:
        dtype = NAMES[x.dtype]
        program = Program(
            (Step("load", (), dtype, 0), Step(op, (0,), dtype)),
            (Operand(dtype, NEXT), Operand(dtype, SAME)),
            ((1, 1),),
        )
        tail = (1,) * (len(x.shape) - split)
        kept = y.reshape(y.shape + tail)
        assert kept is not None
        self.pass_over(program, [x, kept.broadcast_to(x.shape)], x.shape, split)

    def _fold_columns(self, op: str, x: View, y: View, first: int, last: int) -> None:
        outer, count = math.prod(x.shape[:first]), math.prod(x.shape[first : last + 1])
        cols = math.prod(x.shape[last + 1 :])
        if not outer or not cols:
            return
        flat = x.reshape((outer, count, cols))
        if flat is None or (cols > 1 and flat.strides[2] != 1):
            flat = self.gathered(x).reshape((outer, count, cols))
        assert flat is not None
        if outer > 1 or count <= 2 * COLUMN_PART:
            self._sum_columns(op, flat, y)
            return
        pieces, total = column_parts(_only(flat))
        parts = self.new(TensorType((total, cols), x.dtype))
        start = 0
        for piece in pieces:
            target = parts.slice((start, 0), (1, 1), (piece.shape[0], cols))
            self._sum_columns(op, piece, target)
            start += piece.shape[0]
        self._fold_columns(op, parts, y, 0, 0)

    def _sum_columns(self, op: str, x: View, y: View) -> None:
        """y[a, c] from x[a, r, c]; y in row-major order, the columns of x along memory."""
        outer, count, cols = x.shape
        lanes = self.target.lanes
        tiles = -(-cols // (WIDTH * lanes))
        numbers = [count, cols, *x.strides[:2], cols, tiles]
        spec = ("columns", ColumnsSpec(op, NAMES[x.dtype], lanes))
        made = task(spec, [x], [y], numbers, outer * tiles)
        self.tasks.append(sliced(made, [x, y], outer, same_tiles(made)))

    def _concatenate(self, node: Node) -> None:
        for position, child in enumerate(node.inputs):
            part, place = self.view(child), self.slot(node, position)
            if not part.is_at(place):
                self.copy(part, place)

    def _pad(self, node: Node) -> None:
        y, x = self.home(node), self.view(node.inputs[0])
        self.fill(y, 0)
        steps = tuple(inside + 1 for inside in node.attrs["interior"])
        low: Shape = node.attrs["low"]
        if min(low, default=0) < 0 or min(node.attrs["high"], default=0) < 0:
            raise NoKernelError("pad with negative lengths")
        self.copy(x, y.slice(low, steps, x.shape))


class Chain:
    """The program of a group, and the views of its operands.

    Attributes:
        views: where the operands are, each stretched to the group's shape.
    """

    def __init__(self, lowering: Lowering, group: Group) -> None:
        self._lowering, self._group = lowering, group
        self._steps: list[Step] = []
        self._operands: list[Operand] = []
        self._stores: list[tuple[int, int]] = []
        self._number: dict[object, int] = {}
        self.views: list[View] = []
        self._members = {*group.nodes}
        if group.product is not None:
            self._members.add(group.product)
            self._number[group.product] = self._step("product", (), "float32")
        for node in reversed(group.nodes):
            if node is group.pool:
                self._pool(node)
            else:
                self._compute(node)
        stored = lowering.fusion.stored
        computed = [*group.nodes, *([group.product] if group.product else [])]
        for node in computed:
            if node is not group.pool and node in stored and lowering.fusion.of[node] is group:
                operand = self._operand(self._stretched(lowering.home(node), node))
                self._stores.append((self._number[node], operand))

    def program(self) -> Program:
        return Program(tuple(self._steps), tuple(self._operands), tuple(self._stores))

    def _step(
        self, op: str, args: tuple[int, ...], dtype: str, fact: int | float | str | None = None
    ) -> int:
        self._steps.append(Step(op, args, dtype, fact))
        return len(self._steps) - 1

    def _operand(self, view: View) -> int:
        self._operands.append(Operand(NAMES[view.dtype], NEXT))
        self.views.append(view)
        return len(self.views) - 1

    def _compute(self, node: Node) -> None:
        args = tuple(self._value(child) for child in node.inputs)
        dtypes = [child.dtype for child in node.inputs]
        reduction = is_row_reduction(node)
        if not reduction and not elementwise.has_kernel(node.op.name, dtypes):
            raise NoKernelError(f"{node.op.name} of {dtypes[-1]}")
        self._number[node] = self._step(node.op.name, args, NAMES[node.dtype])

    def _pool(self, node: Node) -> None:
        """The largest entries of windows, and which they are, as far as somebody reads them."""
        value = self._value(node.inputs[0])
        for each in self._lowering.fusion.picks[node]:
            dtype = bool_ if each.attrs["index"] else each.dtype
            view = at_windows(self._lowering.home(each), node.attrs["kernel"], dtype)
            self._stores.append((value, self._operand(view)))

    def _value(self, child: Node) -> int:
        """The step that has what a member reads."""
        lowering = self._lowering
        base = lowering.fusion.base(child)
        if base in self._members:
            return self._number[base]  # directly, or one per row copied along it
        if base.op.name == "constant" and base not in lowering._given:
            number = base.attrs["value"]
            key = (number.__repr__(), NAMES[base.dtype])
            if key not in self._number:
                fact = "-0.0" if key[0] == "-0.0" else number
                self._number[key] = self._step("constant", (), NAMES[base.dtype], fact)
            return self._number[key]
        view = self._stretched(lowering.view(child), child)
        if view not in self._number:
            operand = self._operand(view)
            self._number[view] = self._step("load", (), NAMES[view.dtype], operand)
        return self._number[view]

    def _stretched(self, view: View, node: Node) -> View:
        """A view of the group's shape; one number per row is the same along the row."""
        shape, split = self._group.shape, self._group.split
        if view.shape == shape:
            return view
        assert split is not None
        tail = (1,) * (len(shape) - split)
        if view.shape == shape[:split]:
            found = view.reshape(view.shape + tail)
            assert found is not None
            view = found
        return view.broadcast_to(shape)


def _only(stack: View) -> View:
    """The one slice of a stack."""
    return replace(stack, shape=stack.shape[1:], strides=stack.strides[1:])


def _column(strides: Shape, width: int) -> int:
    """How an operand moves along a row."""
    if width <= 1 and not strides:
        return NEXT
    if not strides:
        return SAME
    return {0: SAME, 1: NEXT}.get(strides[0], FAR)
