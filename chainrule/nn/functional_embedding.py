"""Functions of embeddings: rows of a table, and bags of them."""

from __future__ import annotations

from typing import Any

from chainrule.core.ops.embedding import embedding as rows_of
from chainrule.errors import OptionError, ShapeError, closest
from chainrule.tensor.functions import arange, where
from chainrule.tensor.tensor import Tensor, need_node, wrap

__all__ = ["embedding", "embedding_bag"]

_MODES = ("sum", "mean", "max")


def embedding(input: Any, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """y[i] = weight[input[i]]: rows of a table.

    Args:
        input: numbers of rows, any shape (...).
        weight: the table, (rows, features).
        padding_idx: a row that gets no gradient; it may count from the end.

    Returns:
        (..., features).

    Raises:
        IndexRangeError: a number that is not in 0 .. rows - 1.

    Example:
        >>> import chainrule as cr
        >>> embedding(cr.tensor([2, 0]), cr.eye(3)).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    return wrap(rows_of(need_node(input), weight.node, row_number(padding_idx, weight.shape[0])))


def embedding_bag(
    input: Any,
    weight: Tensor,
    offsets: Any = None,
    mode: str = "mean",
    per_sample_weights: Tensor | None = None,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or largest entry of the embeddings of each bag; 0 for an empty bag.

    Args:
        input: (bags, size), or all bags one after the other, (total,), with ``offsets``.
        weight: the table, (rows, features).
        offsets: where each bag begins, (bags,), the first at 0.
        mode: "sum", "mean" or "max".
        per_sample_weights: a factor for each number of a "sum", of the shape of ``input``.
        padding_idx: a row that does not count, and gets no gradient.

    Returns:
        (bags, features).
    """
    if mode not in _MODES:
        near = closest(mode, _MODES)
        raise OptionError(
            name="mode", expected='"sum", "mean" or "max"', got=repr(mode),
            mend=f"did you mean {near!r}?" if near else "",
        )  # fmt: skip
    if per_sample_weights is not None and mode != "sum":
        raise OptionError(name="mode", expected='"sum" with per_sample_weights', got=repr(mode))
    index = wrap(need_node(input))
    if (index.ndim == 1) == (offsets is None):
        raise ShapeError(
            op="embedding_bag", expected="an input (bags, size), or (total,) with offsets",
            got=f"{index.shape} {'without' if offsets is None else 'with'} offsets", mend="",
        )  # fmt: skip
    padding = row_number(padding_idx, weight.shape[0])
    rows = embedding(index, weight, padding)
    counted = index >= 0 if padding is None else index != padding
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    if offsets is not None:  # every number beside every bag
        starts = wrap(need_node(offsets))
        before = arange(index.shape[0]).unsqueeze(0) >= starts.unsqueeze(1)
        bag = before.long().sum(0) - 1
        counted = (bag == arange(starts.shape[0]).unsqueeze(1)) & counted
        rows = rows.unsqueeze(0)
    return _folded(rows, counted, mode)


def _folded(rows: Tensor, counted: Tensor, mode: str) -> Tensor:
    """The rows that count, (bags, size, features) or (1, ...), folded into one for each bag."""
    each = counted.unsqueeze(-1)
    number = counted.long().sum(1, keepdim=True).to(rows.dtype)
    if mode == "max":
        best = where(each, rows, -float("inf")).max(1).values
        return where(number > 0, best, 0.0)
    total = where(each, rows, 0.0).sum(1)
    return total if mode == "sum" else total / where(number > 0, number, 1.0)


def row_number(padding_idx: int | None, rows: int) -> int | None:
    """A row counted from the front."""
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise OptionError(
            name="padding_idx", expected=f"a row in {-rows}..{rows - 1}", got=padding_idx
        )
    return padding_idx % rows
