"""One entry of a node as a formula of entries of named nodes.

``z[1]_2`` is found by following one entry back through the graph until quantities with names are
met. A few ops have a row that says which entries of their inputs one entry of their result is made
of; named functions without a row are followed through their bodies. So any network can be opened,
down to a single weight, without text written for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from chainrule.core.graph import Array, Node, Shape
from chainrule.core.op import pick
from chainrule.core.rewrite import body_of
from chainrule.explain.notation import Apply, Formula, Number, Printer, Symbol, apply, total


class Context(Protocol):
    """What an entry needs to know of the recorded run."""

    def symbol(self, node: Node, index: Shape) -> Symbol | Number | None:
        """The entry's symbol, where the node has a name."""
        ...

    def probability(self, node: Node, index: Shape) -> Symbol | None:
        """The entry of y-hat, where ``node`` is another softmax of the same scores."""
        ...

    def truth(self, node: Node, index: Shape) -> Symbol | None:
        """The entry of one-hot y, where ``node`` is that."""
        ...

    def value(self, node: Node) -> Array:
        """The node's recorded array."""
        ...

    def results_of(self, call: Node, body: Sequence[Node]) -> AbstractContextManager[None]:
        """Inside, the parts of a function's body that are results of it go under their names."""
        ...


Row = Callable[[Context, Node, Shape], Formula]


def entry(context: Context, node: Node, index: Shape, *, top: bool = False) -> Formula:
    """The formula of ``node[index]``.

    Args:
        context: names and values.
        node: a node with one result.
        index: one position in it.
        top: open the node itself even if it has a name.
    """
    if not top:
        named = context.symbol(node, index)
        if named is not None:
            return named
    row = ROWS.get(node.op.name)
    if row is not None:
        return row(context, node, index)
    if node.op.elementwise:
        args = [entry(context, child, index) for child in node.inputs]
        return apply(node.op.name, *args, **node.attrs)
    if node.op.body is not None:
        return entry(context, body_of(node)[0], index, top=True)
    return Number(float(context.value(node)[index]))


def opened(context: Context, node: Node, index: Shape) -> Formula:
    """As :func:`entry` of the node itself, a named function written out through its body."""
    if node.op.body is None or node.op.name in ROWS:
        return entry(context, node, index, top=True)
    return entry(context, body_of(node)[0], index, top=True)


# ------------------------------------------------------------------------------ rows


def _same(context: Context, node: Node, index: Shape) -> Formula:
    return entry(context, node.inputs[0], index)


def _cast(context: Context, node: Node, index: Shape) -> Formula:
    source = node.inputs[0]
    if source.dtype.kind == "b":
        return context.truth(node, index) or Number(float(context.value(node)[index]))
    return entry(context, source, index)


def _constant(context: Context, node: Node, index: Shape) -> Formula:
    return Number(float(node.attrs["value"]))


def _broadcast(context: Context, node: Node, index: Shape) -> Formula:
    source = node.inputs[0]
    tail = index[len(index) - source.ndim :] if source.ndim else ()
    kept = tuple(0 if length == 1 else i for i, length in zip(tail, source.shape, strict=True))
    return entry(context, source, kept)


def _reshape(context: Context, node: Node, index: Shape) -> Formula:
    source = node.inputs[0]
    flat = int(np.ravel_multi_index(index, node.shape)) if index else 0
    return entry(context, source, tuple(int(i) for i in np.unravel_index(flat, source.shape)))


def _permute(context: Context, node: Node, index: Shape) -> Formula:
    back = np.argsort(node.attrs["dims"])
    return entry(context, node.inputs[0], tuple(index[int(dim)] for dim in back))


def _slice(context: Context, node: Node, index: Shape) -> Formula:
    starts, steps = node.attrs["starts"], node.attrs["steps"]
    moved = tuple(start + i * step for i, start, step in zip(index, starts, steps, strict=True))
    return entry(context, node.inputs[0], moved)


def _pad(context: Context, node: Node, index: Shape) -> Formula:
    source = node.inputs[0]
    inner = []
    for i, low, gap, n in zip(
        index, node.attrs["low"], node.attrs["interior"], source.shape, strict=True
    ):
        place, off = divmod(i - low, gap + 1)
        if off or not 0 <= place < n:
            return Number(0.0)
        inner.append(place)
    return entry(context, source, tuple(inner))


def _flip(context: Context, node: Node, index: Shape) -> Formula:
    dims = node.attrs["dims"]
    shape = node.inputs[0].shape
    return entry(
        context,
        node.inputs[0],
        tuple(shape[dim] - 1 - i if dim in dims else i for dim, i in enumerate(index)),
    )


def _concatenate(context: Context, node: Node, index: Shape) -> Formula:
    dim = node.attrs["dim"]
    offset = index[dim]
    for source in node.inputs:
        if offset < source.shape[dim]:
            return entry(context, source, (*index[:dim], offset, *index[dim + 1 :]))
        offset -= source.shape[dim]
    raise IndexError(index)


def _take(context: Context, node: Node, index: Shape) -> Formula:
    source, chosen = node.inputs
    dim, width = node.attrs["dim"], chosen.ndim
    row = int(context.value(chosen)[index[dim : dim + width]])
    return entry(context, source, (*index[:dim], row, *index[dim + width :]))


def _gather(context: Context, node: Node, index: Shape) -> Formula:
    source, chosen = node.inputs
    dim = node.attrs["dim"]
    return entry(
        context, source, (*index[:dim], int(context.value(chosen)[index]), *index[dim + 1 :])
    )


def _take_add(context: Context, node: Node, index: Shape) -> Formula:
    source, chosen = node.inputs
    dim = node.attrs["dim"]
    places = np.argwhere(context.value(chosen) == index[dim])
    terms = [
        entry(context, source, (*index[:dim], *map(int, place), *index[dim + 1 :]))
        for place in places
    ]
    return total(terms) if terms else Number(0.0)


def _pick(context: Context, node: Node, index: Shape) -> Formula:
    """One result of a function with several, through the function's body."""
    call, number = node.inputs[0], node.attrs["index"]
    if call.op.name in WINNERS and number == 0:
        return entry(context, call.inputs[0], WINNERS[call.op.name](context, call, index))
    if call.op.body is None:
        return Number(float(context.value(node)[index]))
    body = body_of(call)
    with context.results_of(call, body):
        return entry(context, body[number], index, top=True)


def _sorted_from(context: Context, call: Node, index: Shape) -> Shape:
    """Where the entry that came to this place stood."""
    dim = call.attrs["dim"]
    return (*index[:dim], int(context.value(pick(call, 1))[index]), *index[dim + 1 :])


def _pooled_from(context: Context, call: Node, index: Shape) -> Shape:
    """Where the winner of this window stands."""
    source = call.inputs[0].shape
    rank = len(call.attrs["kernel"])
    place = int(context.value(pick(call, 1))[index])
    return (*index[:-rank], *map(int, np.unravel_index(place, source[len(source) - rank :])))


# Ops whose first result picks entries of their input: from which place.
WINNERS: Mapping[str, Callable[[Context, Node, Shape], Shape]] = {
    "max_pool": _pooled_from,
    "sort": _sorted_from,
}


def _gather_add(context: Context, node: Node, index: Shape) -> Formula:
    """The sum of the entries that were taken from this place."""
    source, chosen = node.inputs
    dim = node.attrs["dim"]
    line = np.moveaxis(context.value(chosen), dim, -1)[(*index[:dim], *index[dim + 1 :])]
    places = np.flatnonzero(line == index[dim])
    terms = [
        entry(context, source, (*index[:dim], int(place), *index[dim + 1 :])) for place in places
    ]
    return total(terms) if terms else Number(0.0)


def _sum(context: Context, node: Node, index: Shape) -> Formula:
    source = node.inputs[0]
    dims = node.attrs["dims"]
    kept = list(index)
    if node.attrs["keepdim"]:
        kept = [i for dim, i in enumerate(index) if dim not in dims]
    terms = []
    for folded in np.ndindex(*[source.shape[dim] for dim in dims]):
        inner = dict(zip(dims, folded, strict=True))
        rest = iter(kept)
        place = tuple(inner[dim] if dim in inner else next(rest) for dim in range(source.ndim))
        terms.append(entry(context, source, place))
    return total(terms) if terms else Number(0.0)


def _matmul(context: Context, node: Node, index: Shape) -> Formula:
    a, b = node.inputs
    *batch, i, j = index
    terms = [
        apply("mul", entry(context, a, (*batch, i, k)), entry(context, b, (*batch, k, j)))
        for k in range(a.shape[-1])
    ]
    return total(terms) if terms else Number(0.0)


def _convolution(context: Context, node: Node, index: Shape) -> Formula:
    """One output pixel: the kernel times the patch under it; padding is 0 and not written."""
    x, w = node.inputs
    sample, out, *place = index
    per_group = w.shape[1]
    first = out // (w.shape[0] // node.attrs["groups"]) * per_group
    moves = [node.attrs[name] for name in ("stride", "dilation", "low", "spread")]
    terms = []
    for channel, *cell in np.ndindex(*w.shape[1:]):
        source = []
        for p, k, n, stride, dilation, low, spread in zip(
            place, cell, x.shape[2:], *moves, strict=True
        ):
            at, off = divmod(p * stride + k * dilation - low, spread)
            if off or not 0 <= at < n:
                break
            source.append(at)
        else:
            weight = entry(context, w, (out, channel, *cell))
            pixel = entry(context, x, (sample, first + channel, *source))
            terms.append(apply("mul", weight, pixel))
    return total(terms) if terms else Number(0.0)


def _linear(context: Context, node: Node, index: Shape) -> Formula:
    """The textbook's order: w x for every input, then the bias."""
    x, weight, *bias = node.inputs
    *sample, neuron = index
    terms = [
        apply("mul", entry(context, weight, (neuron, k)), entry(context, x, (*sample, k)))
        for k in range(x.shape[-1])
    ]
    return total([*terms, *(entry(context, b, (neuron,)) for b in bias)])


def _softmax(context: Context, node: Node, index: Shape) -> Formula:
    """exp(z_i) / (exp(z_1) + ...): without the shift by the maximum, which cancels."""
    z, dim = node.inputs[0], node.attrs["dim"]
    named = context.probability(node, index)
    if named is not None:
        return named
    exps = [
        apply("exp", entry(context, z, (*index[:dim], k, *index[dim + 1 :])))
        for k in range(z.shape[dim])
    ]
    return apply("div", exps[index[dim]], total(exps))


def _log_softmax(context: Context, node: Node, index: Shape) -> Formula:
    return apply("log", _softmax(context, node, index))


ROWS: Mapping[str, Row] = {
    "broadcast_to": _broadcast,
    "cast": _cast,
    "concatenate": _concatenate,
    "constant": _constant,
    "convolution": _convolution,
    "flip": _flip,
    "gather": _gather,
    "gather_add": _gather_add,
    "linear": _linear,
    "log_softmax": _log_softmax,
    "matmul": _matmul,
    "pad": _pad,
    "permute": _permute,
    "pick": _pick,
    "reshape": _reshape,
    "slice": _slice,
    "softmax": _softmax,
    "stop_gradient": _same,
    "sum": _sum,
    "take": _take,
    "take_add": _take_add,
    "written": _same,
}


# ------------------------------------------------------------------------ whole tensors


class Symbols(Protocol):
    """What the formula of a whole tensor needs to know."""

    def whole(self, node: Node) -> Formula | None:
        """The node's symbol, where it has a name."""
        ...

    def results_of(self, call: Node, body: Sequence[Node]) -> AbstractContextManager[None]:
        """As in :class:`Context`."""
        ...


# Ops that are not written in formulas of whole tensors.
_UNWRITTEN = ("broadcast_to", "cast", "reshape", "slice", "stop_gradient")


def whole(symbols: Symbols, node: Node, *, top: bool = False) -> Formula:
    """The formula of a whole tensor, ``W x + b``: views are not written, broadcasts neither."""
    named = None if top else symbols.whole(node)
    if named is not None:
        return named
    if node.op.name in _UNWRITTEN or (node.op.name == "permute" and not _is_transpose(node)):
        return whole(symbols, node.inputs[0])
    if node.op.name == "constant":
        return Number(float(node.attrs["value"]))
    if node.op.name == "pick":
        return _whole_result(symbols, node.inputs[0], node.attrs["index"])
    if node.op.name == "linear" and len(node.inputs) == 2:
        x, weight = node.inputs
        return apply("matmul", whole(symbols, weight), whole(symbols, x))
    if node.op.is_leaf or not node.op.notation.plain:
        return Symbol(node.op.name, rf"\text{{{node.op.name}}}", float("nan"))
    masked = _masked(symbols, node) if node.op.name == "where" else None
    if masked is not None:
        return masked
    args = tuple(whole(symbols, child) for child in node.inputs)
    if node.op.name in _DECIDING:
        return Apply(node.op, args, tuple(node.attrs.items()))
    return apply(node.op.name, *args, **node.attrs)


def _is_transpose(node: Node) -> bool:
    """Whether a permutation transposes matrices: it exchanges the last two axes alone."""
    dims = list(node.attrs["dims"])
    dims[-2:] = dims[:-3:-1]
    return dims == sorted(dims)


def _masked(symbols: Symbols, node: Node) -> Formula | None:
    """Scores of which some are set to -infinity, as ``mask(scores)``."""
    other = node.inputs[2]
    while other.op.name in _UNWRITTEN:
        other = other.inputs[0]
    if other.op.name != "constant" or other.attrs["value"] != -math.inf:
        return None
    scores = whole(symbols, node.inputs[1])
    plain, latex = Printer()(scores), Printer(latex=True)(scores)
    return Symbol(f"mask({plain})", rf"\operatorname{{mask}}\left({latex}\right)", float("nan"))


# Ops whose tidying looks at values, which a whole tensor has many of.
_DECIDING = ("log1p", "maximum", "minimum", "where")


def _whole_result(symbols: Symbols, call: Node, index: int) -> Formula:
    """One result of a function with several: through its body, where it has one."""
    if call.op.body is None:
        return whole(symbols, call, top=True)
    body = body_of(call)
    with symbols.results_of(call, body):
        return whole(symbols, body[index], top=True)
