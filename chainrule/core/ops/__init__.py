"""The ops, by family: arithmetic, shape, reduction, linear, random, functions, attention, loops."""

from chainrule.core.ops import (
    arithmetic,
    attention,
    functions,
    linear,
    random,
    recurrent,
    reduction,
    scan,
    shape,
)

__all__ = [
    "arithmetic",
    "attention",
    "functions",
    "linear",
    "random",
    "recurrent",
    "reduction",
    "scan",
    "shape",
]
