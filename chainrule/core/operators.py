"""Python's operators, written once for graph nodes and for tensors.

Equality is left out on purpose: nodes are compared by identity; tensors add their own.
"""

from __future__ import annotations

from typing import Any, Self


class Operators:
    """Mixin: turns ``x + y`` into ``_apply("add", x, y)``, and so on."""

    __slots__ = ()

    def _apply(self, name: str, *operands: Any) -> Self:
        raise NotImplementedError

    def __neg__(self) -> Self:
        return self._apply("neg", self)

    def __abs__(self) -> Self:
        return self._apply("abs", self)

    def __invert__(self) -> Self:
        return self._apply("logical_not", self)

    def __add__(self, other: Any) -> Self:
        return self._apply("add", self, other)

    def __radd__(self, other: Any) -> Self:
        return self._apply("add", other, self)

    def __sub__(self, other: Any) -> Self:
        return self._apply("sub", self, other)

    def __rsub__(self, other: Any) -> Self:
        return self._apply("sub", other, self)

    def __mul__(self, other: Any) -> Self:
        return self._apply("mul", self, other)

    def __rmul__(self, other: Any) -> Self:
        return self._apply("mul", other, self)

    def __truediv__(self, other: Any) -> Self:
        return self._apply("div", self, other)

    def __rtruediv__(self, other: Any) -> Self:
        return self._apply("div", other, self)

    def __floordiv__(self, other: Any) -> Self:
        return self._apply("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Self:
        return self._apply("floor_divide", other, self)

    def __mod__(self, other: Any) -> Self:
        return self._apply("remainder", self, other)

    def __rmod__(self, other: Any) -> Self:
        return self._apply("remainder", other, self)

    def __pow__(self, other: Any) -> Self:
        return self._apply("pow", self, other)

    def __rpow__(self, other: Any) -> Self:
        return self._apply("pow", other, self)

    def __matmul__(self, other: Any) -> Self:
        return self._apply("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Self:
        return self._apply("matmul", other, self)

    def __lt__(self, other: Any) -> Self:
        return self._apply("less", self, other)

    def __le__(self, other: Any) -> Self:
        return self._apply("less_equal", self, other)

    def __gt__(self, other: Any) -> Self:
        return self._apply("less", other, self)

    def __ge__(self, other: Any) -> Self:
        return self._apply("less_equal", other, self)

    def __and__(self, other: Any) -> Self:
        return self._apply("logical_and", self, other)

    def __rand__(self, other: Any) -> Self:
        return self._apply("logical_and", other, self)

    def __or__(self, other: Any) -> Self:
        return self._apply("logical_or", self, other)

    def __ror__(self, other: Any) -> Self:
        return self._apply("logical_or", other, self)

    def __xor__(self, other: Any) -> Self:
        return self._apply("logical_xor", self, other)
