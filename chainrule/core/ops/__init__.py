"""The ops, by family; each file is one."""

from chainrule.core.ops import (
    arithmetic,
    attention,
    convolution,
    functions,
    linear,
    normalization,
    parts,
    pooling,
    random,
    recurrent,
    reduction,
    resampling,
    scan,
    shape,
)

__all__ = [
    "arithmetic",
    "attention",
    "convolution",
    "functions",
    "linear",
    "normalization",
    "parts",
    "pooling",
    "random",
    "recurrent",
    "reduction",
    "resampling",
    "scan",
    "shape",
]
