"""Rows of a table chosen by number, as a named function."""

from __future__ import annotations

from chainrule.core.dtype import is_float
from chainrule.core.graph import Node, TensorType
from chainrule.core.op import Notation, Op, register
from chainrule.core.ops.arithmetic import equal, stop_gradient, where
from chainrule.core.ops.shape import take, unsqueeze
from chainrule.errors import DTypeError, ShapeError


def _type(index: TensorType, weight: TensorType, *, padding_idx: int | None) -> TensorType:
    if index.dtype.kind not in "iu" or not is_float(weight.dtype):
        raise DTypeError(
            op="embedding",
            expected="whole numbers that choose rows of a float table",
            got=f"{index.dtype} and {weight.dtype}",
            mend="embedding(index.long(), weight)",
        )
    if len(weight.shape) != 2:
        raise ShapeError(op="embedding", expected="a table (rows, features)", got=weight.shape)
    return TensorType((*index.shape, weight.shape[1]), weight.dtype)


def _rows(index: Node, weight: Node, *, padding_idx: int | None) -> Node:
    rows = take(weight, index)
    if padding_idx is None:
        return rows
    return where(unsqueeze(equal(index, padding_idx), -1), stop_gradient(rows), rows)


EMBEDDING = register(
    Op(
        "embedding",
        _type,
        None,
        None,
        Notation("{1}[{0}]", "{1}_{{{0}}}"),
        body=_rows,
        arity=2,
    )
)


def embedding(index: Node, weight: Node, padding_idx: int | None = None) -> Node:
    """y[i] = weight[index[i]]; the row ``padding_idx`` gets no gradient."""
    return EMBEDDING(index, weight, padding_idx=padding_idx)
