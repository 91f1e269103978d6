"""A large batch as a loop over a few samples at a time.

In inference no sample knows of the others. Layer after layer, a large batch writes all it computes
to memory before the next layer reads it; a few samples stay in the cache from first layer to last.
Here the graph of a large batch becomes that of a small one, where every op allows it: each value
has its samples along one axis, in order, and no op looks across them. A sample gets the same bits
in any batch (decision 11), so nothing but time and memory changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from chainrule.core.graph import Graph, Node, Shape, TensorType, derived_from
from chainrule.core.op import input
from chainrule.core.ops.shape import broadcast_to, reshape
from chainrule.core.subgraph import Subgraph
from chainrule.run.native.fuse import VIEWS

# A batch whose largest value takes fewer bytes stays in the cache as it is.
_LARGE = 2 << 20
# Fewer parts than that are not worth a loop; fewer samples in a part keep fewer threads busy.
_FEWEST_LAPS = 4
_FEWEST_SAMPLES = 2
# A part reads at most so many bytes of weights per byte that it computes.
_WEIGHTS = 2


class Parts(NamedTuple):
    """The graph of one part, and how many parts make up the batch.

    Attributes:
        given: for each input, whether a part of it is handed in.
    """

    graph: Graph
    laps: int
    given: tuple[bool, ...]


class _Spread(NamedTuple):
    """Where samples are: along an axis whose places are numbered (outer, sample, inner).

    Attributes:
        axis: it.
        inner: how many neighbours along it are one sample's.
        outer: how often all samples come one after the other.
    """

    axis: int
    inner: int = 1
    outer: int = 1

    def moved(self, by: int) -> _Spread:
        """The same along another axis."""
        return self._replace(axis=self.axis + by)


class _MixedError(Exception):
    """Samples meet, or it is not known whether they do."""


# What a loop has: its results have spreads of their own.
_INSIDE = _Spread(-1)

_Spreads = dict[Node, _Spread | None]


def parted(graph: Graph) -> Parts:
    """The graph for a part of the batch, if that pays; else the graph and one lap."""
    whole = Parts(graph, 1, (False,) * len(graph.inputs))
    batch = next((node.shape[0] for node in graph.inputs if node.ndim), 0)
    given = tuple(node.ndim > 0 and node.shape[0] == batch for node in graph.inputs)
    if batch < _FEWEST_LAPS * _FEWEST_SAMPLES:
        return whole
    start = [_Spread(0) if is_given else None for is_given in given]
    try:
        spreads = _spread_over(graph, start, batch)
        ends = [spreads[node] for node in graph.outputs]
        if not all(map(_is_in_order, graph.outputs, ends)):
            return whole
        laps = _laps(graph, spreads, batch)
        if laps < _FEWEST_LAPS:
            return whole
        smaller = _Smaller(spreads, batch, batch // laps)
        inputs = [smaller.given(node) for node in graph.inputs]
        return Parts(Graph(inputs, smaller.outputs(graph, inputs)), laps, given)
    except _MixedError:
        return whole


def _laps(graph: Graph, spreads: _Spreads, batch: int) -> int:
    """How many parts: none where all stays in the cache, or where weights are most of the work."""
    largest = moved = weights = 0
    for node, times in _with_bodies(graph, 1):
        types = (node.type,) if isinstance(node.type, TensorType) else node.type
        size = sum(type.size * type.dtype.itemsize for type in types)
        if spreads.get(node) is not None:
            largest = max(largest, size)
            moved += 0 if node.op.name in VIEWS else times * size // batch
        if node.op.name in ("matmul", "convolution") and spreads.get(node.inputs[1]) is None:
            weight = node.inputs[1]
            weights += times * weight.size * weight.dtype.itemsize
    if largest < _LARGE or not moved:
        return 1
    samples = max(_FEWEST_SAMPLES, -(-weights // (_WEIGHTS * moved)))
    return max((n for n in range(1, batch // samples + 1) if batch % n == 0), default=1)


def _with_bodies(graph: Graph, times: int) -> Iterator[tuple[Node, int]]:
    """Every node, those in bodies of loops too, and how often it runs."""
    for node in graph.nodes:
        yield node, times
        if node.op.name == "scan":
            yield from _with_bodies(node.attrs["body"], times * node.attrs["length"])


# ------------------------------------------------------------------------------ where samples are


def _spread_over(graph: Graph, start: Sequence[_Spread | None], batch: int) -> _Spreads:
    """Where every value has its samples, None for values without.

    Raises:
        _MixedError: an op looks across samples.
    """
    found: _Spreads = dict(zip(graph.inputs, start, strict=True))
    for node in graph.nodes:
        if node in found:
            continue
        spreads = [found[child] for child in node.inputs]
        if not any(spreads):
            found[node] = None
        elif node.op.elementwise:
            found[node] = _common(node.inputs, spreads, batch)
        elif node.op.name in _RULES:
            found[node] = _RULES[node.op.name](node, spreads, batch)
        elif node.op.name == "scan":
            inside = _scan(node, spreads, batch)
            if any(found.get(each, spread) != spread for each, spread in inside.items()):
                raise _MixedError
            found |= inside
        elif node.op.name == "pick":
            found[node] = _picked(node, found)
        else:
            raise _MixedError
    return found


def _common(operands: Sequence[Node], spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    """The spread of operands of one shape; those without samples must be stretched over them."""
    (spread, *others) = {spread for spread in spreads if spread is not None}
    if others:
        raise _MixedError
    for node, each in zip(operands, spreads, strict=True):
        if each is None and _stretched(node, spread.axis) is None:
            raise _MixedError
    return spread


def _stretched(node: Node, axis: int) -> Node | None:
    """What the node is stretched from along an axis, or everywhere; None if it is not."""
    base = node
    while base.op.name in VIEWS:
        base = base.inputs[0]
    if base.size == 1:
        return base
    if node.op.name != "broadcast_to":
        return None
    (inner,) = node.inputs
    axis -= node.ndim - inner.ndim
    return inner if axis < 0 or inner.shape[axis] == 1 else None


def _only(spreads: Sequence[_Spread | None]) -> _Spread:
    """The spread of the first operand, the others having none."""
    first, *others = spreads
    if first is None or any(others):
        raise _MixedError
    return first


def _is_in_order(node: Node, spread: _Spread | None) -> bool:
    """Whether one sample after the other stands in memory."""
    return spread is not None and math.prod(node.shape[: spread.axis]) * spread.outer == 1


def _reshape(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    axis, inner, _ = _only(spreads)
    step = inner * math.prod(node.inputs[0].shape[axis + 1 :])  # from a sample to the next
    within = 1
    for axis in reversed(range(node.ndim)):
        length = node.shape[axis]
        if within * length >= step * batch:
            inner = step // within
            if step % within or length % (batch * inner):
                break
            return _Spread(axis, inner, length // (batch * inner))
        within *= length
    raise _MixedError


def _permute(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    spread = _only(spreads)
    return spread._replace(axis=node.attrs["dims"].index(spread.axis))


def _broadcast_to(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    return _only(spreads).moved(node.ndim - node.inputs[0].ndim)


def _slice(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    spread = _only(spreads)
    is_whole = node.shape[spread.axis] == node.inputs[0].shape[spread.axis]
    if not is_whole or node.attrs["steps"][spread.axis] != 1:
        raise _MixedError
    return spread


def _flip(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    spread = _only(spreads)
    if spread.axis in node.attrs["dims"]:
        raise _MixedError
    return spread


def _pad(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    spread = _only(spreads)
    if any(node.attrs[name][spread.axis] for name in ("low", "high", "interior")):
        raise _MixedError
    return spread


def _concatenate(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    spread = _common(node.inputs, spreads, batch)
    if spread.axis == node.attrs["dim"]:
        raise _MixedError
    return spread


def _fold(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    spread = _only(spreads)
    dims: Shape = node.attrs["dims"]
    if spread.axis in dims:
        raise _MixedError
    return spread.moved(0 if node.attrs["keepdim"] else -sum(dim < spread.axis for dim in dims))


def _argmax(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    spread = _only(spreads)
    dim: int = node.attrs["dim"]
    if spread.axis == dim:
        raise _MixedError
    return spread.moved(0 if node.attrs["keepdim"] else -(dim < spread.axis))


def _matmul(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    a, b = node.inputs
    if a.ndim != b.ndim:
        raise _MixedError
    if spreads[0] is not None and spreads[0].axis == a.ndim - 2:
        return _only(spreads)
    spread = _common(node.inputs, spreads, batch)
    if spread.axis >= a.ndim - 2:
        raise _MixedError
    return spread


def _samples_first(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    """Convolution and pooling: the first axis is the batch."""
    spread = _only(spreads)
    if spread.axis:
        raise _MixedError
    return spread


def _take(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spread:
    table, index = spreads
    if table is not None or index is None:
        raise _MixedError
    return index.moved(node.attrs["dim"])


_RULES: dict[str, Callable[[Node, Sequence[_Spread | None], int], _Spread]] = {
    "reshape": _reshape, "permute": _permute, "broadcast_to": _broadcast_to, "slice": _slice,
    "flip": _flip, "pad": _pad, "concatenate": _concatenate, "sum": _fold, "amax": _fold,
    "argmax": _argmax,
    "matmul": _matmul, "convolution": _samples_first, "max_pool": _samples_first, "take": _take,
}  # fmt: skip


def _scan(node: Node, spreads: Sequence[_Spread | None], batch: int) -> _Spreads:
    """The values of a loop's body. A carry is spread after a lap as it was before."""
    body, carries = node.attrs["body"], node.attrs["carries"]
    holes = _holes(node, spreads)
    for index, start in enumerate(node.inputs[:carries]):
        if holes[index] is None and batch in start.shape:  # zeros, perhaps
            axis = start.shape.index(batch)
            holes[index] = _Spread(axis) if _stretched(start, axis) is not None else None
    inside = _spread_over(body, holes, batch)
    if [inside[made] for made in body.outputs[:carries]] != holes[:carries]:
        raise _MixedError
    return inside | {node: _INSIDE}


def _holes(node: Node, spreads: Sequence[_Spread | None]) -> list[_Spread | None]:
    """The spreads of a body's inputs; a slice of what is looped over has lost the first axis."""
    start = node.attrs["carries"]
    end = start + node.attrs["scanned"]
    if any(spread is not None and not spread.axis for spread in spreads[start:end]):
        raise _MixedError
    sliced = [spread and spread.moved(-1) for spread in spreads[start:end]]
    return [*spreads[:start], *sliced, *spreads[end:]]


def _picked(node: Node, found: Mapping[Node, _Spread | None]) -> _Spread | None:
    (source,) = node.inputs
    if source.op.name != "scan":
        return found[source]
    index: int = node.attrs["index"]
    spread = found[source.attrs["body"].outputs[index]]
    if spread is None or index < source.attrs["carries"]:
        return spread
    return spread.moved(1)


# ------------------------------------------------------------------------------ the small graph


class _Smaller:
    """Writes graphs again for fewer samples."""

    def __init__(self, spreads: _Spreads, batch: int, samples: int) -> None:
        self._spreads, self._batch, self._samples = spreads, batch, samples

    def _type(self, type: TensorType, spread: _Spread | None) -> TensorType:
        if spread is None:
            return type
        shape = list(type.shape)
        shape[spread.axis] = self._samples * spread.inner * spread.outer
        return TensorType(tuple(shape), type.dtype)

    def given(self, node: Node) -> Node:
        """An input of the smaller graph."""
        return input(self._type(node.tensor_type, self._spreads[node]), "data")

    def outputs(self, graph: Graph, given: Sequence[Node]) -> list[Node]:
        """The outputs, from these inputs."""
        done = dict(zip(graph.inputs, given, strict=True))
        for node in graph.nodes:
            if node in done:
                continue
            if self._spreads[node] is not None:
                done[node] = self._written(node, done)
                continue
            inputs = tuple(done[child] for child in node.inputs)
            same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
            done[node] = node if same else node.with_inputs(inputs)
        return [done[node] for node in graph.outputs]

    def _written(self, node: Node, done: Mapping[Node, Node]) -> Node:
        """A node with samples."""
        spread = self._spreads[node]
        inputs = []
        with derived_from(node):
            for child, wanted in zip(node.inputs, self._wanted(node), strict=True):
                x = done[child]
                if wanted is not None and self._spreads[child] is None:
                    base = _stretched(child, wanted.axis)
                    assert base is not None
                    x = reshape(done[base], ()) if base.size == 1 else done[base]
                    x = broadcast_to(x, self._type(child.tensor_type, wanted).shape)
                inputs.append(x)
            made = node.op(*inputs, **self._attrs(node))
        if isinstance(made.type, TensorType):
            assert made.type == self._type(node.tensor_type, spread), (node, made)
        return made

    def _wanted(self, node: Node) -> Sequence[_Spread | None]:
        """Where inputs must have their samples."""
        spread, count = self._spreads[node], len(node.inputs)
        assert spread is not None
        if node.op.elementwise or node.op.name == "concatenate":
            return [spread] * count
        if node.op.name == "matmul" and spread.axis < node.ndim - 2:
            return [spread] * count
        if node.op.name == "scan":
            carries: int = node.attrs["carries"]
            holes = node.attrs["body"].inputs[:carries]
            return [*map(self._spreads.__getitem__, holes), *[None] * (count - carries)]
        return [None] * count

    def _attrs(self, node: Node) -> Mapping[str, Any]:
        """The attributes that speak of the batch."""
        spread = self._spreads[node]
        assert spread is not None
        name, attrs = node.op.name, dict(node.attrs)
        if name in ("reshape", "broadcast_to"):
            attrs["shape"] = self._type(node.tensor_type, spread).shape
        elif name == "slice":
            stops = list(attrs["stops"])
            stops[spread.axis] = self._samples * spread.inner * spread.outer
            attrs["stops"] = tuple(stops)
        elif name == "scan":
            body: Subgraph = attrs["body"]
            holes = [self.given(hole) for hole in body.inputs]
            attrs["body"] = Subgraph(holes, self.outputs(body, holes))
        return attrs
