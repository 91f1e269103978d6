"""Back-propagation through time: the derivative of a scan is a scan in the other direction.

At step t the forward loop did ``c', y = body(c, x, k)``. Walking back, the cotangent of ``c'`` is
the carry: with the cotangent of ``y`` it gives those of ``c`` (the next carry), of ``x`` (a slice
of the result) and of ``k``, which is summed over all steps. What the rules read of the forward step
(its residuals) the forward loop writes out as further ``y``.

The cotangent of a constant that stood in a matrix product is no carry: its summands are products
A[t] B[t], and the sum over t is one product of the A's side by side with the B's below each other.
So the loop writes the factors, and one product after it forms the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from chainrule.core.dtype import bool_, is_float
from chainrule.core.grad import gradients
from chainrule.core.graph import Node, TensorType, walk
from chainrule.core.ops.arithmetic import equal, logical_or, not_equal, remainder, where
from chainrule.core.ops.linear import MATMUL
from chainrule.core.ops.reduction import sum
from chainrule.core.ops.scan import scan
from chainrule.core.ops.shape import full, iota, permute, reshape, take_add, transpose
from chainrule.core.subgraph import Subgraph, copied, placeholder

# A value that is known once the backward loop has been built.
Later = Callable[[], Node]

# Not worth keeping: they are made again from their input.
_VIEWS = ("reshape", "permute", "broadcast_to")


def cotangents(
    g: Sequence[Node],
    y: Sequence[Node],
    inputs: Sequence[Node],
    *,
    body: Subgraph,
    carries: int,
    scanned: int,
    length: int,
    reverse: bool,
    truncate: int | None,
) -> list[Node | None]:
    """The cotangents of a scan's inputs, from those of its results."""
    holes, fixed = body.inputs, body.inputs[carries + scanned :]
    seeds = {  # placeholders for the cotangents of one step's results
        index: placeholder(node.tensor_type, f"g{index}")
        for index, node in enumerate(body.outputs)
        if is_float(node.dtype) and (index < carries or not _is_zero(g[index]))
    }
    flowing = [index for index in seeds if index < carries]
    wrt = [hole for hole in holes if is_float(hole.dtype)]
    found = gradients([body.outputs[index] for index in seeds], wrt, list(seeds.values()))
    parts = dict(zip(wrt, found, strict=True))

    # The slices that stand ready outside the loop, and those that this step's carry hands on.
    outside = {seeds[index]: g[index] for index in seeds if index >= carries}
    back = []
    for index in flowing:
        part, hole = parts[holes[index]], holes[index]
        back.append(full(hole.shape, 0, hole.dtype) if part is None else part)
    if truncate is not None:
        keep = placeholder(TensorType((), bool_), "keep")
        outside[keep] = _kept(length, reverse, truncate)
        back = [where(keep, part, 0.0) for part in back]

    loop = _Loop(body, set(fixed), {seeds[index] for index in flowing}, set(outside), length)
    to_xs = [_maybe(loop.stacked, parts.get(x)) for x in holes[carries : carries + scanned]]
    to_fixed = [_maybe(loop.total, parts.get(constant)) for constant in fixed]
    residuals = loop.residuals(back)

    # The forward loop, once more with its residuals written out; a pass makes the two one.
    extra = [node for node in residuals if node not in (*holes[carries:], *body.outputs[carries:])]
    if extra:
        y = scan(
            Subgraph(holes, [*body.outputs, *extra]),
            inputs[:carries],
            inputs[carries : carries + scanned],
            inputs[carries + scanned :],
            length=length,
            reverse=reverse,
            truncate=truncate,
        )
    stacks = dict(zip([*body.outputs, *extra][carries:], y[carries:], strict=True))
    stacks |= dict(zip(holes[carries:], inputs[carries:], strict=True))

    renamed = {node: placeholder(node.tensor_type, "residual") for node in residuals}
    per_step = outside | {renamed[node]: stacks[node] for node in residuals if node not in fixed}
    constants = {renamed[node]: stacks[node] for node in residuals if node in fixed}
    same = {leaf: leaf for leaf in (*seeds.values(), *outside)}
    made = copied([*back, *loop.summands, *loop.slices], {**same, **loop.aliases(renamed)})
    sums = [placeholder(node.tensor_type, "sum") for node in loop.summands]
    for position, before in enumerate(sums, len(back)):
        made[position] = before + made[position]
    results = scan(
        Subgraph([*(seeds[index] for index in flowing), *sums, *per_step, *constants], made),
        [g[index] for index in flowing] + [full(n.shape, 0, n.dtype) for n in sums],
        list(per_step.values()),
        list(constants.values()),
        length=length,
        reverse=not reverse,
    )
    loop.built(results[len(back) :], {**outside, **stacks})
    arrived = dict(zip(flowing, results, strict=False))
    return [
        *(arrived.get(index) for index in range(carries)),
        *(later() if later else None for later in (*to_xs, *to_fixed)),
    ]


def _maybe(wanted: Callable[[Node], Later], part: Node | None) -> Later | None:
    return None if part is None else wanted(part)


def _is_zero(node: Node) -> bool:
    while node.op.name in _VIEWS:
        node = node.inputs[0]
    return node.op.name == "constant" and node.attrs["value"] == 0


def _kept(length: int, reverse: bool, every: int) -> Node:
    """Whether the cotangent flows on from a step: not where a group of ``every`` steps begins."""
    order = iota(length)
    if reverse:
        order = length - 1 - order
    return logical_or(not_equal(remainder(order, every), 0), equal(order, 0))


class _Loop:
    """What the backward loop has to give besides its carry.

    Attributes:
        slices: nodes of one step that are wanted stacked.
        summands: nodes of one step that are wanted summed over all steps.
    """

    def __init__(
        self,
        body: Subgraph,
        fixed: set[Node],
        carried: set[Node],
        outside: set[Node],
        length: int,
    ) -> None:
        self._length = length
        self._fixed, self._outside = fixed, outside
        self._holes = set(body.inputs)
        self._forward = set(body.nodes)
        self._leaves = carried | outside
        self._picks = {
            (node.inputs[0], node.attrs["index"]): node
            for node in body.nodes
            if node.op.name == "pick"
        }
        self._read: dict[Node, Node] = {}
        self._stacks: dict[Node, Node] = {}
        self._sums: dict[Node, Node] = {}
        self.slices: list[Node] = []
        self.summands: list[Node] = []

    # ------------------------------------------------------------------ the forward step's values

    def _is_residual(self, node: Node) -> bool:
        """Whether the forward step has this value, and it is worth keeping."""
        if node.op.name == "pick":
            return node.inputs[0] in self._forward
        made = bool(node.inputs) and node.op.name not in _VIEWS and node in self._forward
        return node in self._holes or (made and isinstance(node.type, TensorType))

    def _read_of(self, node: Node) -> None:
        """Note that the backward step reads a value; rules make picks of their own: one of each."""
        if node.op.name == "pick":
            key = (node.inputs[0], node.attrs["index"])
            self._read[node] = self._picks.setdefault(key, node)
        else:
            self._read[node] = node

    def residuals(self, results: Sequence[Node]) -> list[Node]:
        """The values of the forward step that the backward step reads, each once."""
        wanted = [*results, *self.slices, *self.summands]
        for node in walk(wanted, stop=lambda n: n in self._leaves or self._is_residual(n)):
            if node not in self._leaves and self._is_residual(node):
                self._read_of(node)
        return list(dict.fromkeys(self._read.values()))

    def aliases(self, renamed: Mapping[Node, Node]) -> dict[Node, Node]:
        """What every node that is read is called inside the backward step."""
        return {node: renamed[one] for node, one in self._read.items()}

    # ------------------------------------------------------------------ wanted after the loop

    def built(self, results: Sequence[Node], outside: Mapping[Node, Node]) -> None:
        """The loop's results after its carry; what stands outside it."""
        count = len(self.summands)
        self._sums = dict(zip(self.summands, results[:count], strict=True))
        self._stacks = {**outside, **dict(zip(self.slices, results[count:], strict=True))}

    def stacked(self, node: Node) -> Later:
        """The slices of all steps as one array, the steps along its first axis."""
        if node.op.name == "reshape":
            inner = self.stacked(node.inputs[0])
            return lambda: reshape(inner(), (self._length, *node.shape))
        if node.op.name == "permute":
            inner = self.stacked(node.inputs[0])
            return lambda: permute(inner(), (0, *(dim + 1 for dim in node.attrs["dims"])))
        if self._is_residual(node) and node not in self._fixed:
            self._read_of(node)
            one = self._read[node]
        else:
            one = node
            if node not in self._outside:
                _add(self.slices, node)
        return lambda: self._stacks[one]

    def total(self, node: Node) -> Later:
        """The sum over all steps."""
        name = node.op.name
        if name == "add":
            a, b = map(self.total, node.inputs)
            return lambda: a() + b()
        if name == "reshape":
            inner = self.total(node.inputs[0])
            return lambda: reshape(inner(), node.shape)
        if name == "permute":
            inner = self.total(node.inputs[0])
            return lambda: permute(inner(), node.attrs["dims"])
        if name == "matmul":
            return self._product(node, node.ndim - 2)
        if name == "sum" and not node.attrs["keepdim"]:
            term, dims = node.inputs[0], node.attrs["dims"]
            if term.op.name != "matmul":
                inner = self.stacked(term)
                return lambda: sum(inner(), (0, *(dim + 1 for dim in dims)))
            if dims == tuple(range(term.ndim - 2)):
                return self._product(term, 0)
        if name == "take_add" and node.attrs["dim"] == 0:  # rows of a table
            rows, index = map(self.stacked, node.inputs)
            return lambda: take_add(rows(), index(), 0, node.attrs["size"])
        _add(self.summands, node)
        return lambda: self._sums[node]

    def _product(self, node: Node, batch: int) -> Later:
        """The sum of A[t] B[t], and over the leading axes but the first ``batch``: one product."""
        a, b = map(self.stacked, node.inputs)

        def tall(x: Node) -> Node:
            """(steps, batch, others, rows, columns) as (batch, steps * others * rows, columns)."""
            x = permute(x, (*range(1, batch + 1), 0, *range(batch + 1, x.ndim)))
            rows = math.prod(x.shape[batch:-1])
            return reshape(x, (*x.shape[:batch], rows, x.shape[-1]))

        return lambda: MATMUL(transpose(tall(transpose(a()))), tall(b()))


def _add(nodes: list[Node], node: Node) -> None:
    if node not in nodes:
        nodes.append(node)
