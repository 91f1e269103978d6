"""Cases of the elementwise primitives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from oracle import Case
from samples import SHAPES, SPECIAL, between, grid, normal, pairs, truth, whole

from chainrule.core.graph import Node, Variable
from chainrule.core.op import constant, written
from chainrule.core.ops import arithmetic as ops

CASES: dict[str, list[Case]] = {}
KINKS: dict[str, list[Case]] = {}
SPECIALS: dict[str, list[Case]] = {}

Sample = Callable[..., Any]


def positive(*shape: int, seed: int = 0) -> Any:
    return between(0.3, 2.0, *shape, seed=seed)


def _unary(
    name: str, reference: Any, sample: Sample = normal, kinks: tuple[float, ...] = ()
) -> None:
    op = getattr(ops, name)
    CASES[name] = [Case(op, reference, (sample(*shape),)) for shape in SHAPES]
    SPECIALS[name] = [Case(op, reference, (SPECIAL,))]
    if kinks:
        KINKS[name] = [Case(op, reference, (np.array(kinks),))]


_unary("neg", torch.neg)
_unary("sqrt", torch.sqrt, positive)
_unary("exp", torch.exp)
_unary("expm1", torch.expm1)
_unary("log", torch.log, positive)
_unary("log1p", torch.log1p, positive)
_unary("sin", torch.sin)
_unary("cos", torch.cos)
_unary("tanh", torch.tanh)
_unary("erf", torch.erf)
_unary("abs", torch.abs, grid, (0.0, -0.0))
_unary("sign", torch.sign, grid, (0.0, -0.0))
SPECIALS["sign"] = [
    Case(ops.sign, lambda x: torch.where(x.isnan(), x, x.sign()), (SPECIAL,))  # NaN stays NaN
]
_unary("floor", torch.floor, grid, (0.0, 1.0, -2.0))
_unary("ceil", torch.ceil, grid, (0.0, 1.0, -2.0))
_unary("round", torch.round, grid, (0.5, 1.5, -0.5, 2.0))

# Left and right shapes: equal, stretched on either side or on both, numbers, no entries.
PAIRS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((1, 4), (3, 1)),
    ((), (2, 3)),
    ((5,), ()),
    ((2, 1, 3), (4, 1)),
    ((0, 3), (3,)),
    ((0,), (1,)),
]


def near(*shape: int, seed: int = 0) -> Any:
    return grid(*shape, offset=0.03, seed=seed)


def _binary(
    name: str,
    reference: Any,
    left: Sample = grid,
    right: Sample = near,
    kinks: Any = None,
    specials: Any = None,
) -> None:
    op = getattr(ops, name)
    CASES[name] = [Case(op, reference, (left(*a, seed=1), right(*b, seed=2))) for a, b in PAIRS] + [
        Case(lambda x: op(x, 1.5), lambda x: reference(x, torch.tensor(1.5).double()), (left(3),)),
        Case(lambda x: op(2, x), lambda x: reference(torch.tensor(2.0).double(), x), (right(3),)),
    ]
    SPECIALS[name] = [Case(op, reference, pairs() if specials is None else specials)]
    if kinks is not None:
        KINKS[name] = [Case(op, reference, kinks)]


def _floor_divide(a: Any, b: Any) -> Any:
    return torch.div(a, b, rounding_mode="floor")


TIES = (np.array([1.0, 2.0, -0.0, 0.0, 3.0]), np.array([1.0, 1.0, 0.0, 0.0, 4.0]))
WITH_NAN = (np.array([np.nan, 1.0, np.nan]), np.array([1.0, np.nan, np.nan]))
# What no two libraries agree on is left out: the remainder of infinities and of huge quotients.
MODEST = pairs(np.array([np.nan, 1.0, -1.0, 0.5, -2.5, 3.0, 0.0]))

_binary("add", torch.add)
_binary("sub", torch.sub)
_binary("mul", torch.mul)
_binary("div", torch.div)
_binary(
    "floor_divide",
    _floor_divide,
    right=positive,
    kinks=(np.array([2.0, 3.0]), np.array([1.0, -1.5])),
    specials=MODEST,
)
_binary(
    "remainder",
    torch.remainder,
    right=positive,
    # 1.0 / 0.1 rounds to 10, though 1.0 holds .1 only nine times: the slope must be the -9.
    kinks=(np.array([1.0, 2.0, 3.0]), np.array([0.1, 1.0, -1.5])),
    specials=MODEST,
)
_binary(
    "pow",
    torch.pow,
    left=positive,
    right=normal,
    kinks=(np.array([0.0, 0.0, 0.0, 2.0]), np.array([0.0, 2.0, 1.0, 0.0])),
)
_binary("maximum", torch.maximum, kinks=TIES)
_binary("minimum", torch.minimum, kinks=TIES)
KINKS["maximum"].append(Case(ops.maximum, torch.maximum, WITH_NAN))
KINKS["minimum"].append(Case(ops.minimum, torch.minimum, WITH_NAN))
CASES["pow"] += [
    Case(lambda x: x**2, lambda x: x**2, (np.array([-1.5, 0.0, 0.7]),)),
    Case(lambda x: x**3, lambda x: x**3, (np.array([-1.5, 0.7]),)),
    Case(lambda x: 2**x, lambda x: 2**x, (normal(4),)),
]

_binary("equal", torch.eq)
_binary("not_equal", torch.ne)
_binary("less", torch.lt)
_binary("less_equal", torch.le)
for _name in ("equal", "not_equal", "less", "less_equal"):
    _reference = CASES[_name][0].reference
    CASES[_name].append(Case(getattr(ops, _name), _reference, TIES))

# Whole numbers: int64, int32, bytes that wrap, and a mixture.
SIGNED = (whole(-9, 9, 6), whole(1, 5, 6, seed=1))
SMALL = (whole(0, 200, 6, dtype=np.uint8), whole(1, 100, 6, dtype=np.uint8, seed=1))
SHORT = (whole(-9, 9, 2, 3, dtype=np.int32), whole(1, 5, 3, dtype=np.int32, seed=1))
for _name in ("add", "sub", "mul", "floor_divide", "remainder", "maximum", "minimum", "less"):
    _op, _reference = getattr(ops, _name), CASES[_name][0].reference
    CASES[_name] += [Case(_op, _reference, arrays) for arrays in (SIGNED, SHORT, SMALL)]
    CASES[_name].append(
        Case(_op, _reference, (whole(0, 9, 4), whole(1, 9, 4, dtype=np.uint8, seed=2)))
    )
for _name in ("neg", "abs", "sign"):
    _op, _reference = getattr(ops, _name), CASES[_name][0].reference
    CASES[_name] += [Case(_op, _reference, (arrays[0],)) for arrays in (SIGNED, SHORT)]
CASES["add"].append(Case(ops.add, torch.add, (truth(5), truth(5, seed=3))))
CASES["mul"].append(Case(ops.mul, torch.mul, (truth(5), truth(5, seed=3))))
CASES["pow"].append(Case(ops.pow, torch.pow, (whole(-4, 5, 6), whole(0, 4, 6))))

# 32-bit words wrap.
WORDS = (
    np.array([0, 1, 2**32 - 1, 0xDEADBEEF], np.uint32),
    np.array([7, 2**32 - 1, 2**32 - 1, 0x12345678], np.uint32),
)


def _wrapped(reference: Any) -> Any:
    return lambda a, b: reference(a, b) & 0xFFFFFFFF


for _name in ("add", "sub", "mul", "maximum"):
    _reference = CASES[_name][0].reference
    CASES[_name].append(Case(getattr(ops, _name), _wrapped(_reference), WORDS))

# ------------------------------------------------------------------------------ logic

for _name in ("logical_and", "logical_or", "logical_xor"):
    _op, _reference = getattr(ops, _name), getattr(torch, _name)
    CASES[_name] = [
        Case(_op, _reference, (truth(3, 4), truth(4, seed=1))),
        Case(_op, _reference, (truth(0), truth(1))),
        Case(_op, _reference, (grid(6), whole(0, 2, 6))),
    ]
    SPECIALS[_name] = [Case(_op, _reference, pairs())]
CASES["logical_not"] = [
    Case(ops.logical_not, torch.logical_not, (sample,))
    for sample in (truth(3, 4), truth(0), truth(), whole(0, 2, 5), grid(3))
]
SPECIALS["logical_not"] = [Case(ops.logical_not, torch.logical_not, (SPECIAL,))]
CASES["isnan"] = [
    Case(ops.isnan, torch.isnan, (grid(3, 2),)),
    Case(ops.isnan, torch.isnan, (grid(0),)),
]
SPECIALS["isnan"] = [Case(ops.isnan, torch.isnan, (SPECIAL,))]

CASES["where"] = [
    Case(ops.where, torch.where, (truth(*c, seed=4), normal(*a), normal(*b, seed=1)))
    for c, a, b in [
        ((3, 4), (3, 4), (3, 4)),
        ((3, 1), (4,), ()),
        ((), (2, 3), (3,)),
        ((0, 2), (2,), (1,)),
    ]
] + [
    Case(lambda c, x: ops.where(c, x, 0.0), lambda c, x: x * c, (truth(5), normal(5))),
    Case(
        lambda c, x: ops.where(c, 1, x), lambda c, x: torch.where(c, 1.0, x), (truth(5), normal(5))
    ),
    Case(ops.where, torch.where, (truth(5), whole(0, 9, 5), whole(-9, 0, 5))),
]
SPECIALS["where"] = [
    Case(ops.where, torch.where, (truth(len(SPECIAL), len(SPECIAL)), *pairs())),
]

# ------------------------------------------------------------------------------ types

TYPES = {
    "float32": torch.float32,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


def _cast_case(dtype: str, array: Any) -> Case:
    return Case(lambda x: ops.cast(x, dtype), lambda x: x.to(TYPES[dtype]), (array,))


CASES["cast"] = [
    *(_cast_case(dtype, between(0, 9, 3, 4)) for dtype in TYPES if dtype != "float32"),
    *(_cast_case(dtype, whole(0, 9, 5)) for dtype in TYPES if dtype != "int64"),
    _cast_case("int64", between(-3, 3, 7)),
    _cast_case("int32", np.zeros((0, 2))),
    _cast_case("float32", truth(4)),
    _cast_case("uint8", np.array([-1, 255, 256, 300])),
    # There and back: the way of the gradient through a narrower type. Eighths are exact in both.
    Case(
        lambda x: ops.cast(ops.cast(x, "float32"), "float64"),
        lambda x: x.float().double(),
        (whole(-9, 9, 6) / 8,),
    ),
    Case(
        lambda x: ops.cast(x, "uint32"), lambda x: x & 0xFFFFFFFF, (np.array([-1, 5, 2**33 + 3]),)
    ),
    Case(lambda x: ops.cast(x, "float64"), lambda x: x.double(), (WORDS[0],)),
]
SPECIALS["cast"] = [_cast_case("bool", SPECIAL)]
CASES["stop_gradient"] = [
    Case(ops.stop_gradient, lambda x: x.detach(), (normal(*shape),)) for shape in SHAPES
] + [Case(lambda x: x * ops.stop_gradient(x), lambda x: x * x.detach(), (normal(3),))]
SPECIALS["stop_gradient"] = [Case(ops.stop_gradient, lambda x: x, (SPECIAL,))]

# ------------------------------------------------------------------------------ leaves


VARIABLE = Variable(np.array([1.0, -2.0, 0.5]), "v", trainable=True)


def _read(x: Node) -> Node:
    return x * ops.cast(VARIABLE.read(), x.dtype)


CASES["input"] = [Case(lambda x: x, lambda x: x, (normal(2, 3),))]
CASES["read"] = [Case(_read, lambda x: x * torch.from_numpy(VARIABLE.value.copy()), (normal(3),))]
CASES["constant"] = [
    Case(
        lambda x: x * constant(0.1, x.dtype) + constant(3, np.dtype(np.int64)),
        lambda x: x * 0.1 + 3,
        (normal(3),),
    )
]
CASES["written"] = [
    Case(lambda x: x * written(x + 1, VARIABLE), lambda x: x * (x + 1).detach(), (normal(3),))
]
for _name in ("input", "read", "constant", "written"):
    SPECIALS[_name] = [
        Case(case.build, case.reference, (np.array([np.nan, np.inf, -np.inf]),))
        for case in CASES[_name]
    ]
