"""Cases of scan and of the steps of recurrent networks, against loops in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from oracle import Case
from samples import INF, NAN, normal, whole

from chainrule.core.graph import Node, TensorType
from chainrule.core.ops import recurrent
from chainrule.core.ops.arithmetic import tanh
from chainrule.core.ops.embedding import embedding
from chainrule.core.ops.functions import linear, softmax
from chainrule.core.ops.linear import matmul
from chainrule.core.ops.reduction import sum
from chainrule.core.ops.scan import scan
from chainrule.core.ops.shape import take, transpose
from chainrule.core.subgraph import Subgraph, placeholder

CASES: dict[str, list[Case]] = {}
KINKS: dict[str, list[Case]] = {}
SPECIALS: dict[str, list[Case]] = {}

# ------------------------------------------------------------------------------ scan


def loop(
    step: Any, carries: int, scanned: int, *nodes: Node, length: int, **options: Any
) -> tuple[Node, ...]:
    """A scan of ``step(carries, slices, constants) -> (carries, slices)`` over nodes."""
    ends = carries + scanned
    types = [node.tensor_type for node in nodes]
    holes = [
        placeholder(TensorType(type.shape[1:] if carries <= i < ends else type.shape, type.dtype),
                    f"hole{i}")
        for i, type in enumerate(types)
    ]  # fmt: skip
    after, slices = step(holes[:carries], holes[carries:ends], holes[ends:])
    body = Subgraph(holes, [*after, *slices])
    parts = nodes[:carries], nodes[carries:ends], nodes[ends:]
    return scan(body, *parts, length=length, **options)


def unrolled(
    step: Any,
    carries: int,
    scanned: int,
    *tensors: torch.Tensor,
    length: int,
    reverse: bool = False,
    truncate: int | None = None,
) -> tuple[torch.Tensor, ...]:
    """The same as a Python loop, with a detach where a group of steps begins."""
    carry = list(tensors[:carries])
    xs, constants = tensors[carries : carries + scanned], tensors[carries + scanned :]
    rows: list[Any] = [None] * length
    for count, t in enumerate(range(length)[::-1] if reverse else range(length)):
        if truncate and count and count % truncate == 0:
            carry = [c.detach() for c in carry]
        carry, rows[t] = step(carry, [x[t] for x in xs], constants)
    return (*carry, *[torch.stack(slices) for slices in zip(*rows, strict=True)])


def _case(ours: Any, theirs: Any, arrays: Any, carries: int, scanned: int, **options: Any) -> Case:
    return Case(
        lambda *nodes: loop(ours, carries, scanned, *nodes, **options),
        lambda *tensors: unrolled(theirs, carries, scanned, *tensors, **options),
        tuple(arrays),
    )


def _rnn(carry: Any, x: Any, k: Any) -> Any:
    h = tanh(x[0] + linear(carry[0], *k))
    return [h], [h]


def _torch_rnn(carry: Any, x: Any, k: Any) -> Any:
    h = torch.tanh(x[0] + torch.nn.functional.linear(carry[0], *k))
    return [h], [h]


def _pair(carry: Any, x: Any, k: Any) -> Any:
    """Two carries, no y of the second, a constant used twice and one that is never used."""
    a, b = carry
    w, s, _ = k
    a, b = tanh(matmul(a, w) * s + x[0]), a * s + b
    return [a, b], [sum(a * b)]


def _torch_pair(carry: Any, x: Any, k: Any) -> Any:
    a, b = carry
    w, s, _ = k
    a, b = torch.tanh(a @ w * s + x[0]), a * s + b
    return [a, b], [(a * b).sum()]


def _rows(carry: Any, x: Any, k: Any) -> Any:
    """Rows of a table, and attention over a constant with a batch of matrices."""
    row, scores = take(k[0], x[0]), softmax(matmul(carry[0], k[1]))
    return [tanh(row + matmul(scores, transpose(k[1])))], [row]


def _torch_rows(carry: Any, x: Any, k: Any) -> Any:
    row, scores = k[0][x[0]], torch.softmax(carry[0] @ k[1], -1)
    return [torch.tanh(row + scores @ k[1].mT)], [row]


def _counted(carry: Any, x: Any, k: Any) -> Any:
    """A whole number is carried beside; nothing is read."""
    return [carry[0] + 1, carry[1] * k[0]], [carry[1], carry[0]]


_RNN = [normal(2, 3), normal(5, 2, 3, seed=1), normal(3, 3, seed=2), normal(3, seed=3)]
_PAIR = [normal(2, 3), normal(2, 3, seed=1), normal(4, 2, 3, seed=2), normal(3, 3, seed=3),
         np.array(0.7), normal(3)]  # fmt: skip
_ROWS = [normal(2, 1, 3), whole(0, 4, 3, 2, 1), normal(4, 3, seed=1), normal(2, 3, 5, seed=2)]

CASES["scan"] = [
    _case(_rnn, _torch_rnn, _RNN, 1, 1, length=5),
    _case(_rnn, _torch_rnn, _RNN, 1, 1, length=5, reverse=True),
    _case(_rnn, _torch_rnn, _RNN, 1, 1, length=5, truncate=2),
    _case(_rnn, _torch_rnn, _RNN, 1, 1, length=5, truncate=2, reverse=True),
    _case(_rnn, _torch_rnn, [x[:1] if x.ndim == 3 else x for x in _RNN], 1, 1, length=1),
    _case(_pair, _torch_pair, _PAIR, 2, 1, length=4),
    _case(_pair, _torch_pair, _PAIR, 2, 1, length=4, reverse=True),
    _case(_rows, _torch_rows, _ROWS, 1, 1, length=3),
    _case(_counted, _counted, [np.array(3), normal(2), normal(2, seed=1)], 2, 0, length=3),
    _case(_rnn, _torch_rnn, [normal(0, 3), normal(5, 0, 3), *_RNN[2:]], 1, 1, length=5),
]
SPECIALS["scan"] = [
    _case(_rnn, _torch_rnn, [np.array([[NAN, INF, 0.0], [-INF, 1.0, 0.0]]), *_RNN[1:]], 1, 1,
          length=5)
]  # fmt: skip

# ------------------------------------------------------------------------------ cells


def _lstm(z: torch.Tensor, c: torch.Tensor) -> Any:
    i, f, g, o = z.chunk(4, -1)
    after = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * after.tanh(), after


def _gru(x: torch.Tensor, u: torch.Tensor, h: torch.Tensor) -> Any:
    (xr, xz, xn), (ur, uz, un) = x.chunk(3, -1), u.chunk(3, -1)
    z = (xz + uz).sigmoid()
    n = (xn + (xr + ur).sigmoid() * un).tanh()
    return (1 - z) * n + z * h


_WIDE = np.array([[NAN, 0, 0, 0], [INF, 1, 1, 1], [-800, 800, 0, INF], [1, -INF, NAN, 0.0]])
CASES["lstm_cell"] = [
    Case(recurrent.lstm_cell, _lstm, (normal(*shape, 4 * n), normal(*shape, n, seed=1)))
    for shape, n in [((2,), 3), ((), 2), ((2, 3), 1), ((0,), 2)]
]
SPECIALS["lstm_cell"] = [
    Case(recurrent.lstm_cell, _lstm, (_WIDE, np.array([[1.0], [INF], [2.0], [NAN]])))
]
CASES["gru_cell"] = [
    Case(
        recurrent.gru_cell,
        _gru,
        (normal(*shape, 3 * n), normal(*shape, 3 * n, seed=1), normal(*shape, n, seed=2)),
    )
    for shape, n in [((2,), 3), ((), 2), ((2, 3), 1), ((0,), 2)]
]
SPECIALS["gru_cell"] = [
    Case(
        recurrent.gru_cell, _gru, (_WIDE[:, :3], _WIDE[:, 1:], np.array([[1.0], [INF], [2], [NAN]]))
    )
]

# ------------------------------------------------------------------------------ embedding


def _embedding(index: Any, padding: int | None) -> Case:
    return Case(
        lambda i, w: embedding(i, w, padding),
        lambda i, w: torch.nn.functional.embedding(i.long(), w, padding),
        (index, normal(5, 3)),
    )


CASES["embedding"] = [
    _embedding(index, padding)
    for index in (
        np.array(2),
        whole(0, 5, 7),
        whole(0, 5, 2, 3, dtype=np.int32),
        whole(0, 5, 0),
        whole(0, 5, 4, dtype=np.uint8),
    )
    for padding in (None, 0, 3)
]
SPECIALS["embedding"] = [
    Case(
        lambda i, w: embedding(i, w, 0),
        lambda i, w: torch.nn.functional.embedding(i, w, 0),
        (np.array([0, 1, 2, 0]), np.array([[NAN, 1], [INF, -INF], [0.0, -0.0]])),
    )
]
