"""Cases of the primitives that move, fold and multiply entries."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from oracle import Case
from samples import INF, NAN, grid, normal, truth, whole

from chainrule.core.op import results
from chainrule.core.ops import linear, reduction, shape

CASES: dict[str, list[Case]] = {}
KINKS: dict[str, list[Case]] = {}
SPECIALS: dict[str, list[Case]] = {}

ODD = np.array([[NAN, INF, -INF], [0.0, -0.0, 1.0]])


def _moves(name: str, *cases: tuple[Any, Any, Any], special: tuple[Any, Any] | None = None) -> None:
    """Cases of an op of one input: (build, reference, array)."""
    CASES[name] = [Case(build, reference, (array,)) for build, reference, array in cases]
    build, reference = special or cases[0][:2]
    SPECIALS[name] = [Case(build, reference, (ODD,))]


# ------------------------------------------------------------------------------ views

_moves(
    "reshape",
    (lambda x: shape.reshape(x, (3, -1)), lambda x: x.reshape(3, -1), normal(2, 6)),
    (lambda x: shape.reshape(x, ()), lambda x: x.reshape(()), normal(1, 1)),
    (lambda x: shape.reshape(x, (1, 1)), lambda x: x.reshape(1, 1), normal()),
    (lambda x: shape.reshape(x, (0, 4)), lambda x: x.reshape(0, 4), normal(2, 0)),
    (lambda x: shape.unsqueeze(x, -1), lambda x: x.unsqueeze(-1), normal(2, 3)),
    (lambda x: shape.squeeze(x, -2), lambda x: x.squeeze(-2), normal(2, 1, 3)),
    (shape.squeeze, torch.squeeze, normal(1, 2, 1)),
)
_moves(
    "permute",
    (shape.transpose, lambda x: x.transpose(-2, -1), normal(2, 3)),
    (lambda x: shape.permute(x, (2, 0, 1)), lambda x: x.permute(2, 0, 1), normal(2, 3, 4)),
    (lambda x: shape.permute(x, (-1, 0, -2)), lambda x: x.permute(-1, 0, -2), normal(2, 3, 4)),
    (lambda x: shape.transpose(x, 0, -1), lambda x: x.transpose(0, -1), normal(2, 0, 3)),
)
_moves(
    "broadcast_to",
    (lambda x: shape.broadcast_to(x, (4, 2, 3)), lambda x: x.expand(4, 2, 3), normal(2, 3)),
    (lambda x: shape.broadcast_to(x, (2, 5, 3)), lambda x: x.expand(2, 5, 3), normal(2, 1, 3)),
    (lambda x: shape.broadcast_to(x, (3, 2)), lambda x: x.expand(3, 2), normal()),
    (lambda x: shape.broadcast_to(x, (0, 3)), lambda x: x.expand(0, 3), normal(1, 3)),
    (lambda x: shape.broadcast_to(x, (2, 0)), lambda x: x.expand(2, 0), normal(1)),
)
_moves(
    "flip",
    (lambda x: shape.flip(x, -1), lambda x: x.flip(-1), normal(2, 3)),
    (lambda x: shape.flip(x, (0, -1)), lambda x: x.flip(0, -1), normal(2, 3, 4)),
    (lambda x: shape.flip(x, 0), lambda x: x.flip(0), normal(0, 2)),
)

# ------------------------------------------------------------------------------ slices

_moves(
    "slice",
    (lambda x: shape.slice_(x, (0, 1), (2, 3)), lambda x: x[0:2, 1:3], normal(2, 3)),
    (lambda x: shape.slice_(x, (1,), (8,), (3,)), lambda x: x[1:8:3], normal(9)),
    (lambda x: shape.slice_(x, (0,), (9,), (2,)), lambda x: x[0:9:2], normal(9)),
    (lambda x: shape.slice_(x, (2, 0), (2, 3)), lambda x: x[2:2], normal(4, 3)),
    (lambda x: shape.slice_(x, (0, 1), (0, 3)), lambda x: x[:, 1:3], normal(0, 3)),
)
_moves(
    "pad",
    (
        lambda x: shape.pad(x, (1, 0), (0, 2)),
        lambda x: torch.nn.functional.pad(x, (0, 2, 1, 0)),
        normal(2, 3),
    ),
    (
        lambda x: shape.pad(x, (1,), (2,), (2,)),
        lambda x: torch.nn.functional.pad(
            torch.nn.functional.pad(x[:, None], (0, 2)).reshape(-1)[:-2], (1, 2)
        ),
        normal(4),
    ),
    (
        lambda x: shape.pad(x, (1,), (1,), (3,)),
        lambda x: torch.nn.functional.pad(x, (1, 1)),
        normal(0),
    ),
)
CASES["concatenate"] = [
    Case(lambda *x: shape.concatenate(x, -1), lambda *x: torch.cat(x, -1), arrays)
    for arrays in [
        (normal(2, 3), normal(2, 1, seed=1), normal(2, 4, seed=2)),
        (normal(2, 0), normal(2, 3)),
        (normal(0, 2), normal(0, 2)),
    ]
] + [
    Case(
        lambda x, y: shape.stack((x, y, x), 1),
        lambda x, y: torch.stack((x, y, x), 1),
        (normal(2, 3), normal(2, 3, seed=1)),
    ),
    Case(
        lambda *x: shape.concatenate(x), lambda *x: torch.cat(x), (whole(0, 5, 2), whole(0, 5, 3))
    ),
]
SPECIALS["concatenate"] = [
    Case(CASES["concatenate"][0].build, lambda *x: torch.cat(x, -1), (ODD, ODD))
]

# ------------------------------------------------------------------------------ indices


def _index(values: Any, dtype: Any = np.int64) -> Any:
    return np.array(values, dtype)


def _take(dim: int) -> Any:
    def reference(x: Any, index: Any) -> Any:
        flat = x.index_select(dim, index.reshape(-1).long())
        at = dim % x.ndim
        return flat.reshape(*x.shape[:at], *index.shape, *x.shape[at + 1 :])

    return reference


_TAKES = [
    (normal(5, 3), _index([0, 4, 4, 1]), 0),
    (normal(2, 4), _index([[3, 0], [1, 1]], np.int32), -1),
    (normal(2, 3, 2), _index(2, np.uint8), 1),
    (normal(4, 2), _index([]), 0),
    (normal(0, 2), _index([]), 0),
]
CASES["take"] = [
    Case(lambda x, i, d=d: shape.take(x, i, d), _take(d), (x, i)) for x, i, d in _TAKES
]
SPECIALS["take"] = [Case(lambda x, i: shape.take(x, i, 1), _take(1), (ODD, _index([0, 1, 2])))]


def _take_add(dim: int, size: int) -> Any:
    def reference(g: Any, index: Any) -> Any:
        rows = g.reshape(*g.shape[:dim], index.numel(), *g.shape[dim + index.ndim :])
        out = torch.zeros(*g.shape[:dim], size, *rows.shape[dim + 1 :], dtype=g.dtype)
        return out.index_add(dim, index.reshape(-1).long(), rows)

    return reference


CASES["take_add"] = [
    Case(lambda g, i, d=d, n=n: shape.take_add(g, i, d, n), _take_add(d, n), (g, i))
    for g, i, d, n in [
        (normal(4, 3), _index([0, 4, 4, 1]), 0, 5),
        (normal(2, 2, 2, 3), _index([[3, 0], [1, 1]], np.int32), 1, 4),
        (normal(0, 2), _index([]), 0, 3),
        (normal(2, 3), _index(1), 1, 4),
    ]
]
SPECIALS["take_add"] = [
    Case(lambda g, i: shape.take_add(g, i, 1, 3), _take_add(1, 3), (ODD, _index([0, 1, 2])))
]

_GATHERS = [
    (normal(3, 4), 1, _index([[0, 3], [1, 1], [2, 0]])),
    (normal(3, 4), -2, _index([[0, 2, 2, 1]], np.int32)),
    (normal(2, 3, 4), 2, _index([[[3]], [[0]]])),
    (normal(5), 0, _index([4, 4, 0])),
    (normal(3, 4), 1, np.zeros((3, 0), np.int64)),
]
CASES["gather"] = [
    Case(
        lambda x, i, d=d: shape.gather(x, d, i),
        lambda x, i, d=d: torch.gather(x, d, i.long()),
        (x, i),
    )
    for x, d, i in _GATHERS
]
SPECIALS["gather"] = [
    Case(
        lambda x, i: shape.gather(x, 1, i),
        lambda x, i: torch.gather(x, 1, i),
        (ODD, _index([[0, 1, 2], [2, 1, 0]])),
    )
]


def _gather_add_case(g: Any, index: Any, dim: int, size: tuple[int, ...]) -> Case:
    return Case(
        lambda g, i: shape.gather_add(g, i, dim, size),
        lambda g, i: torch.zeros(size, dtype=g.dtype).scatter_add(dim, i.long(), g),
        (g, index),
    )


CASES["gather_add"] = [
    _gather_add_case(normal(3, 2), _index([[0, 3], [1, 1], [2, 0]]), 1, (3, 4)),
    _gather_add_case(normal(1, 4), _index([[0, 2, 2, 1]], np.int32), 0, (3, 4)),
    _gather_add_case(normal(3, 0), np.zeros((3, 0), np.int64), 1, (3, 4)),
]
SPECIALS["gather_add"] = [_gather_add_case(ODD, _index([[0, 1, 2], [2, 1, 0]]), 1, (2, 3))]


def _put_case(x: Any, index: Any, values: Any, dim: int = 0) -> Case:
    def reference(x: Any, index: Any, values: Any) -> Any:
        """Slice by slice, so that of equal indices the last one counts."""
        slices = list(x.unbind(dim))
        flat = index.reshape(-1).tolist()
        rest = slices[0].shape if slices else ()
        at = dim % x.ndim
        slots = (*x.shape[:at], *index.shape, *x.shape[at + 1 :])
        rows = values.expand(slots).reshape(*x.shape[:at], len(flat), *x.shape[at + 1 :])
        for place, row in zip(flat, rows.unbind(dim), strict=True):
            slices[place] = row.expand(rest)
        return torch.stack(slices, dim)

    return Case(lambda x, i, v: shape.put(x, i, v, dim), reference, (x, index, values))


CASES["put"] = [
    _put_case(normal(5, 3), _index([3, 0]), normal(2, 3, seed=1)),
    _put_case(normal(2, 4), _index([3, 1]), normal(2, 1, seed=1), dim=-1),
    _put_case(normal(5), _index(2, np.int32), normal(seed=1)),
    _put_case(normal(5, 2), _index([1, 4, 1, 1]), normal(4, 2, seed=1)),
    _put_case(normal(3, 4), _index([[1, 2], [2, 0]]), normal(3, 2, 2, seed=1), dim=1),
    _put_case(normal(3, 2), _index([]), normal(0, 2)),
]
SPECIALS["put"] = [_put_case(ODD, _index([1, 0]), ODD[:, ::-1].copy())]
CASES["iota"] = [
    Case(lambda x: x * shape.iota(3), lambda x: x * torch.arange(3), (normal(3),)),
    Case(lambda x: x + shape.iota(0), lambda x: x + torch.arange(0), (normal(1),)),
]
SPECIALS["iota"] = [Case(lambda x: x * shape.iota(3), lambda x: x * torch.arange(3), (ODD,))]

# ------------------------------------------------------------------------------ folding

_AXES: list[tuple[Any, Any]] = [
    (grid(3, 4), 1),
    (grid(3, 4), -2),
    (grid(2, 3, 4), (0, -1)),
    (grid(2, 3), None),
    (grid(5), 0),
    (grid(0, 3), 1),
]


def _folds(name: str, ours: Any, theirs: Any, empty: bool) -> None:
    """Each axis with and without keepdim; ``empty``: it has a value for no entries."""
    axes = [*_AXES, (grid(0, 3), 0), (grid(2, 0), None)] if empty else _AXES
    CASES[name] = [
        Case(
            lambda x, d=d, k=k: ours(x, d, k),
            lambda x, d=d, k=k: theirs(x, tuple(range(x.ndim)) if d is None else d, k),
            (x,),
        )
        for x, d in axes
        for k in (False, True)
    ]
    SPECIALS[name] = [
        Case(lambda x: ours(x, -1), lambda x: theirs(x, -1, False), (special,))
        for special in (ODD, np.array([[INF, -INF], [INF, 1.0], [-INF, -INF], [1.0, NAN]]))
    ]


_folds("sum", reduction.sum, lambda x, d, k: x.sum(d, k), empty=True)
CASES["sum"] += [
    Case(reduction.sum, torch.sum, (whole(-5, 5, 2, 3),)),
    Case(lambda x: reduction.sum(x, 0), lambda x: x.sum(0), (truth(5, 2),)),
    Case(reduction.sum, torch.sum, (whole(0, 255, 9, dtype=np.uint8),)),
]
_folds("amax", reduction.amax, lambda x, d, k: torch.amax(x, d, k), empty=False)
CASES["amax"] += [
    Case(lambda x: reduction.amin(x, -1), lambda x: torch.amin(x, -1), (grid(3, 4),)),
    Case(lambda x: reduction.amax(x, 0), lambda x: torch.amax(x, 0), (whole(-5, 5, 4, 3),)),
]
KINKS["amax"] = [
    Case(
        lambda x, d=d: reduction.amax(x, d),
        lambda x, d=d: torch.amax(x, d),
        (np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [3.0, 0.0, -0.0]]),),
    )
    for d in (1, 0)
]
CASES["argmax"] = [
    Case(lambda x: reduction.argmax(x, 1), lambda x: x.argmax(1), (grid(3, 4),)),
    Case(lambda x: reduction.argmax(x, -2, True), lambda x: x.argmax(-2, True), (grid(2, 3, 4),)),
    Case(reduction.argmax, torch.argmax, (grid(3, 4),)),
    Case(reduction.argmax, torch.argmax, (grid(),)),
    Case(lambda x: reduction.argmax(x, 1), lambda x: x.argmax(1), (grid(0, 3),)),
    Case(lambda x: reduction.argmax(x, 0), lambda x: x.argmax(0), (np.array([1, 3, 3, 2]),)),
    Case(lambda x: reduction.argmax(x, 0), lambda x: x.byte().argmax(0), (truth(6, 2),)),
]
SPECIALS["argmax"] = [Case(lambda x: reduction.argmax(x, 1), lambda x: x.argmax(1), (ODD,))]


def _sort_case(array: Any, dim: int = -1, descending: bool = False) -> Case:
    return Case(
        lambda x: reduction.sort(x, dim, descending),
        lambda x: tuple(torch.sort(x, dim=dim, descending=descending, stable=True)),
        (array,),
    )


CASES["sort"] = [
    _sort_case(grid(7)),
    _sort_case(grid(3, 4), dim=0),
    _sort_case(grid(3, 4), dim=-2, descending=True),
    _sort_case(grid(0, 2), dim=0),
    _sort_case(grid(2, 0), descending=True),
    _sort_case(whole(0, 4, 9)),
    _sort_case(whole(0, 4, 9), descending=True),
    _sort_case(grid()),
]
SPECIALS["sort"] = [_sort_case(ODD), _sort_case(ODD, descending=True)]
KINKS["sort"] = [_sort_case(np.array([2.0, 1.0, 2.0, 1.0]), descending=d) for d in (False, True)]
CASES["pick"] = [
    Case(
        lambda x: results(reduction.SORT(x, dim=0, descending=False))[0],
        lambda x: torch.sort(x, dim=0).values,
        (grid(5, 2),),
    )
]
SPECIALS["pick"] = [
    Case(lambda x: reduction.sort(x)[0], lambda x: torch.sort(x).values, (ODD,)),
]

# ------------------------------------------------------------------------------ products

CASES["matmul"] = [
    Case(linear.matmul, torch.matmul, (normal(*a), normal(*b, seed=1)))
    for a, b in [
        ((3, 4), (4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4, 5)),
        ((2, 1, 3, 4), (6, 4, 2)),
        ((2, 3, 4), (4,)),
        ((4,), (2, 4, 3)),
        ((0, 4), (4, 2)),
        ((3, 0), (0, 2)),
        ((1, 1), (1, 1)),
    ]
] + [Case(linear.matmul, torch.matmul, (whole(-5, 5, 2, 3), whole(-5, 5, 3, 4)))]
SPECIALS["matmul"] = [
    Case(linear.matmul, torch.matmul, (ODD, np.eye(3))),
    Case(linear.matmul, torch.matmul, (np.eye(2), ODD)),
]
