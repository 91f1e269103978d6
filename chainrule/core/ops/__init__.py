"""The ops, by family: arithmetic, shape, reduction, linear, random, named functions."""

from chainrule.core.ops import arithmetic, functions, linear, random, reduction, shape

__all__ = ["arithmetic", "functions", "linear", "random", "reduction", "shape"]
