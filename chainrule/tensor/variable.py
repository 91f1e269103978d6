"""Tensors whose value can be replaced: parameters, buffers, leaves made with ``requires_grad``."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from chainrule.core.dtype import DType, as_dtype
from chainrule.core.graph import Node, Shape, Variable, place
from chainrule.core.op import lift
from chainrule.core.ops.arithmetic import stop_gradient
from chainrule.core.ops.shape import broadcast_to
from chainrule.errors import ShapeError
from chainrule.tensor.functions import rand, randn
from chainrule.tensor.state import Epoch, current, eager
from chainrule.tensor.tensor import (
    Number,
    Tensor,
    operand_node,
    operand_nodes,
    tensor,
    to_array,
    wrap,
)


class VariableTensor(Tensor):
    """A tensor that reads a variable: each use sees the value written last.

    Updates by hand work as in PyTorch, with or without ``no_grad``::

        w -= lr * w.grad
    """

    __slots__ = ()

    def __init__(self, variable: Variable) -> None:
        self.variable = variable
        self._backward_done = False

    def __del__(self) -> None:
        pass

    @property
    def node(self) -> Node:
        return current().read(self.variable)

    @property
    def _node(self) -> Node:  # type: ignore[override]
        return current().read(self.variable)

    @property
    def shape(self) -> Shape:
        return self.variable.type.shape

    @property
    def dtype(self) -> DType:
        return self.variable.type.dtype

    @property
    def requires_grad(self) -> bool:
        return self.variable.trainable

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: Any = True) -> Tensor:
        """Collect a gradient from now on, or stop collecting it."""
        eager.flush()
        if self.variable.trainable != bool(requires_grad):
            self.variable.trainable = bool(requires_grad)
            self.variable.commit(self.variable.value)  # nodes made from here on know it
            Epoch.bump()
        return self

    @property
    def is_leaf(self) -> bool:
        return True

    @property
    def grad(self) -> Tensor | None:
        """dL/d(this), summed over the backward calls since the last step; None before the first."""
        node = current().grads.get(self.variable)
        return None if node is None else Gradient(node, self.variable)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is None:
            current().grads.pop(self.variable, None)
        else:
            current().grads[self.variable] = value.node

    @property
    def data(self) -> Tensor:
        """The same variable, seen without a gradient; writing to it writes the variable."""
        return _Data(self.variable)

    @data.setter
    def data(self, value: Any) -> None:
        if not (isinstance(value, VariableTensor) and value.variable is self.variable):
            self.copy_(value)

    def copy_(self, value: Any) -> VariableTensor:
        """Replace the value by another of a shape that stretches to this one."""
        if type(value) in (bool, int, float) and not place.trace:  # data, not part of a graph
            current().put(self.variable, np.full(self.shape, value, self.dtype))
            return self
        given = operand_nodes(self, value)[1] if type(value) is Number else operand_node(value)
        node = lift(given, self.dtype)
        if node.shape != self.shape:
            try:
                node = broadcast_to(node, self.shape)
            except ShapeError as error:
                error.facts["op"] = "writing a variable"
                raise
        current().write(self.variable, stop_gradient(node) if node.needs_grad else node)
        return self

    def zero_(self) -> VariableTensor:
        """Replace every entry by 0."""
        return self.copy_(0)

    def fill_(self, value: float) -> VariableTensor:
        """Replace every entry by one number."""
        return self.copy_(value)

    def add_(self, other: Any, alpha: float = 1) -> VariableTensor:
        """Add in place."""
        return self.copy_(self + (other if alpha == 1 else other * alpha))

    def sub_(self, other: Any, alpha: float = 1) -> VariableTensor:
        """Subtract in place."""
        return self.copy_(self - (other if alpha == 1 else other * alpha))

    def mul_(self, other: Any) -> VariableTensor:
        """Multiply in place."""
        return self.copy_(self * other)

    def div_(self, other: Any) -> VariableTensor:
        """Divide in place."""
        return self.copy_(self / other)

    def clamp_(self, min: Any = None, max: Any = None) -> VariableTensor:
        """Keep every entry within bounds, in place."""
        return self.copy_(self.clamp(min, max))

    def uniform_(self, a: float = 0.0, b: float = 1.0) -> VariableTensor:
        """Replace every entry by a uniform number between a and b."""
        return self.copy_(rand(*self.shape, dtype=self.dtype) * (b - a) + a)

    def normal_(self, mean: float = 0.0, std: float = 1.0) -> VariableTensor:
        """Replace every entry by a normal number."""
        return self.copy_(randn(*self.shape, dtype=self.dtype) * std + mean)

    __iadd__ = add_
    __isub__ = sub_
    __imul__ = mul_
    __itruediv__ = div_

    def __deepcopy__(self, memo: dict[int, Any]) -> VariableTensor:
        current().flush()
        twin = _restore(type(self), copy.deepcopy(self.variable, memo), self._extras())
        memo[id(self)] = twin
        return twin

    def __reduce__(self) -> Any:
        current().flush()
        return (_restore, (type(self), self.variable, self._extras()))

    def _extras(self) -> dict[str, Any]:
        """What a subclass keeps besides the variable."""
        names: tuple[str, ...] = type(self).__slots__
        return {name: getattr(self, name) for name in names}


def drop_gradients(parameters: Iterable[VariableTensor]) -> None:
    """None of them has a gradient any more."""
    if place.trace or current().grads:
        for parameter in parameters:
            parameter.grad = None


class _Data(VariableTensor):
    """``w.data``: the variable, with no gradient flowing."""

    __slots__ = ()

    @property
    def node(self) -> Node:
        node = current().read(self.variable)
        return stop_gradient(node) if node.needs_grad else node

    @property
    def requires_grad(self) -> Any:
        return False

    @requires_grad.setter
    def requires_grad(self, value: Any) -> None:
        self.requires_grad_(value)


class Gradient(Tensor):
    """``w.grad``: a tensor that can be cleared."""

    __slots__ = ("_variable",)

    def __init__(self, node: Node, variable: Variable) -> None:
        super().__init__(node)
        self._variable = variable

    def zero_(self) -> Gradient:
        """Forget the gradient: the next backward starts from nothing."""
        current().grads.pop(self._variable, None)
        return self

    @property
    def data(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return wrap(self.node)  # a gradient that was copied is data, and clears nothing

    def copy_(self, value: Any) -> Gradient:
        """Replace the gradient."""
        current().grads[self._variable] = tensor(value, self.dtype).node
        return self

    def mul_(self, factor: Any) -> Gradient:
        """Scale the gradient."""
        current().grads[self._variable] = (wrap(self.node) * factor).node
        return self


def variable(
    data: Any, dtype: object = None, name: str = "", trainable: bool = False
) -> VariableTensor:
    """A tensor whose value can be replaced, holding a copy of ``data``."""
    array = to_array(data, as_dtype(dtype) if dtype is not None else None)
    return VariableTensor(Variable(array, name, trainable))


def _restore(
    kind: type[VariableTensor], variable: Variable, extras: dict[str, Any]
) -> VariableTensor:
    made = kind.__new__(kind)
    VariableTensor.__init__(made, variable)
    for name, value in extras.items():
        setattr(made, name, value)
    return made
