"""The ops, by family: arithmetic, shape, reduction, linear, random, named functions, attention."""

from chainrule.core.ops import arithmetic, attention, functions, linear, random, reduction, shape

__all__ = ["arithmetic", "attention", "functions", "linear", "random", "reduction", "shape"]
