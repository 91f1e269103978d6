"""The ops, by family; each file is one."""

from chainrule.core.ops import (
    activations,
    arithmetic,
    attention,
    convolution,
    embedding,
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
    "activations",
    "arithmetic",
    "attention",
    "convolution",
    "embedding",
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
