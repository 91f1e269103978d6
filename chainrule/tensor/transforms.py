"""Functions of functions: gradients, their check, and a user's own named functions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ContextDecorator
from typing import Any

import numpy as np

from chainrule.core import grad as core
from chainrule.core.dtype import default_dtype, float64, is_float
from chainrule.core.graph import Node, TensorType, needing_gradients, place, walk
from chainrule.core.op import ATOM, OPS, Joint, Notation, Op, input, register, results
from chainrule.core.ops.shape import RESHAPE
from chainrule.core.subgraph import exact_attrs
from chainrule.errors import DTypeError, GradcheckError, NotScalarError, OptionError
from chainrule.tensor.functions import zeros_like
from chainrule.tensor.state import tracing
from chainrule.tensor.tensor import Tensor, need_node, tensor, wrap

# Types of inputs for which the types of a function's results are kept.
_TYPES_KEPT = 256


class no_grad(ContextDecorator):
    """Inside, no gradient is remembered. Accepted, and never needed: graphs cost nothing unread.

    Example:
        >>> import chainrule as cr
        >>> w = cr.tensor(2.0, requires_grad=True)
        >>> with cr.no_grad():
        ...     y = w * 3
        >>> y.requires_grad
        False
    """

    def _recreate_cm(self) -> no_grad:
        return no_grad()  # a decorated function may call itself

    def __enter__(self) -> None:
        self._before = place.gradients
        place.gradients = False

    def __exit__(self, *_: object) -> None:
        place.gradients = self._before


def grad(function: Callable[..., Tensor], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that gives d(function)/d(argument).

    Args:
        function: tensors to a tensor with one entry.
        argnums: which argument, or a list of them.

    Example:
        >>> import chainrule as cr
        >>> cr.grad(lambda x: x ** 3)(cr.tensor(2.0)).item()
        12.0
    """
    both = value_and_grad(function, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def value_and_grad(
    function: Callable[..., Tensor], argnums: int | Sequence[int] = 0
) -> Callable[..., tuple[Tensor, Any]]:
    """As :func:`grad`, the value first.

    Example:
        >>> import chainrule as cr
        >>> value, slope = cr.value_and_grad(lambda x: x * x)(cr.tensor(3.0))
        >>> value.item(), slope.item()
        (9.0, 6.0)
    """
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def apply(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        tensors = [arg if isinstance(arg, Tensor) else tensor(arg) for arg in args]
        indices = [_position(index, tensors) for index in chosen]
        with needing_gradients(True):  # a no_grad around cr.grad is not meant for the function
            # Fresh leaves, so that an argument computed from another keeps its own derivative.
            leaves = {index: _leaf(tensors[index].node) for index in indices}
            result = function(
                *[wrap(leaves.get(i, x.node)) for i, x in enumerate(tensors)], **kwargs
            )
        if result.numel() != 1:
            raise NotScalarError(
                op="cr.grad", shape=result.shape, mend="return .sum() or .mean() of it"
            )
        found = core.gradients([result.node], [leaves[index] for index in indices])
        parts = [
            wrap(part) if part is not None else zeros_like(tensors[index])
            for index, part in zip(indices, found, strict=True)
        ]
        return result, parts[0] if isinstance(argnums, int) else tuple(parts)

    return apply


def _position(index: int, tensors: Sequence[Tensor]) -> int:
    """The argument an index means, counted from the front; it must be of floats."""
    if not -len(tensors) <= index < len(tensors):
        raise OptionError(
            name="argnums", expected=f"the number of one of {len(tensors)} arguments", got=index,
            mend="arguments count from 0",
        )  # fmt: skip
    if not is_float(tensors[index].dtype):
        raise DTypeError(
            op="cr.grad", expected="floats to differentiate with respect to",
            got=f"argument {index} of {tensors[index].dtype}", mend="x.float(), or another argnums",
        )  # fmt: skip
    return index % len(tensors)


def _leaf(node: Node) -> Node:
    """A node of its own with the same value, whose dependants keep their history."""
    leaf = RESHAPE(node, shape=node.shape)
    leaf.needs_grad = True
    return leaf


def gradcheck(
    function: Callable[..., Tensor], *args: Any, tolerance: float = 1e-5, step: float = 1e-6
) -> bool:
    """Hold the gradient of a function against the central difference, in float64.

    (f(x + h) - f(x - h)) / 2h, for every entry of every float argument.

    Args:
        function: tensors to a tensor; the sum of its entries is differentiated.
        args: the point; stay away from kinks.
        tolerance: greatest allowed difference, relative to the larger of 1 and the gradient.
        step: h.

    Returns:
        True.

    Raises:
        GradcheckError: names the worst entry.

    Example:
        >>> import chainrule as cr
        >>> cr.gradcheck(lambda x: cr.tanh(x) * x, [0.3, -1.2])
        True
    """
    arrays = [np.asarray(arg, float64) if _is_real(arg) else np.asarray(arg) for arg in args]
    floats = [index for index, array in enumerate(arrays) if array.dtype == float64]

    def total(*tensors: Tensor) -> Tensor:
        return function(*tensors).sum()

    exact = grad(total, floats)(*map(tensor, arrays))
    worst: tuple[float, dict[str, Any]] = (-1.0, {})
    for index, gradient in zip(floats, exact, strict=True):
        got = gradient.numpy()
        for entry in np.ndindex(arrays[index].shape):
            expected = _difference(total, arrays, index, entry, step)
            error = abs(got[entry] - expected) / max(1.0, abs(expected), abs(got[entry]))
            rank = error if error == error else np.inf  # NaN is the worst of all
            if rank > worst[0]:
                where = f"[{', '.join(map(str, entry))}]" if entry else ""
                facts = {"name": f"argument {index}", "index": where, "got": got[entry]}
                worst = (rank, {**facts, "expected": expected, "error": error})
    if worst[0] > tolerance:
        raise GradcheckError(**worst[1], tolerance=tolerance)
    return True


def _is_real(arg: Any) -> bool:
    return np.asarray(arg).dtype.kind == "f"


def _difference(
    total: Callable[..., Tensor],
    arrays: Sequence[np.ndarray[Any, Any]],
    index: int,
    entry: tuple[int, ...],
    step: float,
) -> float:
    sides = []
    for sign in (1, -1):
        moved = [array.copy() for array in arrays]
        moved[index][entry] += sign * step
        sides.append(total(*map(tensor, moved)).item())
    return float(sides[0] - sides[1]) / (2 * step)


def function(
    body: Callable[..., Any] | None = None,
    *,
    name: str = "",
    derivative: Callable[..., Any] | None = None,
    notation: str = "",
    latex: str = "",
) -> Any:
    """Make a named function of your own: one node, explained under its name.

    Args:
        body: tensors (and keyword attributes) to a tensor or a tuple of tensors.
        name: its name; the Python name when not given.
        derivative: ``(g, y, *inputs, **attrs)`` to the cotangents of the inputs (one, or a tuple
            with None where there is none). Without it, the body is differentiated.
        notation: how it is printed, ``{0}``, ``{1}`` being the inputs; ``name(x)`` when not given.
        latex: the same in LaTeX.

    Example:
        >>> import chainrule as cr
        >>> @cr.function(derivative=lambda g, y, x: g * 3 * x ** 2)
        ... def cube(x):
        ...     return x ** 3
        >>> cr.grad(cube)(cr.tensor(2.0)).item()
        12.0
    """

    def decorate(body: Callable[..., Any]) -> Callable[..., Any]:
        title = name or body.__name__
        op = Op(
            name=_free_name(title),
            infer=_body_type(title, body),
            derivative=Joint(_joint(derivative)) if derivative else None,
            notation=Notation(notation, latex or notation, ATOM)
            if notation
            else Notation.call(title),
            body=_on_nodes(body),
            operands=lambda op, *xs: tuple(_inputs(xs)),
            arity=None,
        )
        register(op)

        def call(*inputs: Any, **attrs: Any) -> Any:
            _check_attributes(title, attrs)
            made = tuple(map(wrap, results(op(*inputs, **attrs))))
            return made[0] if len(made) == 1 else made

        call.__name__, call.__doc__ = title, body.__doc__
        call.op = op  # type: ignore[attr-defined]
        return call

    return decorate(body) if body else decorate


def _free_name(title: str) -> str:
    names = itertools.chain([title], (f"{title}_{i}" for i in itertools.count(2)))
    return next(name for name in names if name not in OPS)


def _inputs(values: Sequence[Any]) -> list[Node]:
    """The nodes of a function's inputs; Python floats take the float type of the tensors."""
    floats = [x.dtype for x in values if isinstance(x, Tensor) and is_float(x.dtype)]
    return [
        tensor(x, floats[0]).node if floats and isinstance(x, float) else need_node(x)
        for x in values
    ]


def _check_attributes(title: str, attrs: dict[str, Any]) -> None:
    for key, value in attrs.items():
        if isinstance(value, Tensor | np.ndarray | list | dict | set):
            raise OptionError(
                name=f"{key} of {title}", expected="a number, a string or a tuple of them",
                got=type(value).__name__,
                mend="keywords are fixed attributes; pass tensors by position",
            )  # fmt: skip


def _on_nodes(body: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors as a function of nodes."""

    def apply(*nodes: Node, **attrs: Any) -> Any:
        made = body(*map(wrap, nodes), **attrs)
        return tuple(x.node for x in made) if isinstance(made, tuple) else made.node

    return apply


def _body_type(title: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """The shape rule of a body: built once for each types of its inputs, without values."""
    on_nodes = _on_nodes(body)
    known: dict[Hashable, Any] = {}

    def infer(*types: TensorType, **attrs: Any) -> Any:
        key = (types, exact_attrs(attrs), default_dtype())
        if key not in known:
            if len(known) == _TYPES_KEPT:
                known.clear()
            known[key] = built(types, attrs)
        return known[key]

    def built(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> Any:
        with tracing():  # so that asking for a value is refused
            inputs = [input(type, f"x{index}") for index, type in enumerate(types)]
            made = on_nodes(*inputs, **attrs)
        nodes = made if isinstance(made, tuple) else (made,)
        given = set(inputs)
        for leaf in walk(nodes, stop=given.__contains__):
            if leaf not in given and (leaf.op.name == "read" or leaf.value is not None):
                raise OptionError(
                    name=f"the body of {title}", expected="a function of its inputs alone",
                    got=f"a body that uses {leaf!r} from outside",
                    mend=f"pass the tensor to {title} as an input",
                )  # fmt: skip
        return tuple(node.type for node in made) if isinstance(made, tuple) else made.type

    return infer


def _joint(derivative: Callable[..., Any]) -> Callable[..., Sequence[Node | None]]:
    def rule(g: Any, y: Any, *inputs: Node, **attrs: Any) -> Sequence[Node | None]:
        made = derivative(_wrapped(g), _wrapped(y), *map(wrap, inputs), **attrs)
        parts = made if isinstance(made, tuple) else (made,)
        return [None if part is None else part.node for part in parts]

    return rule


def _wrapped(value: Any) -> Any:
    return wrap(value) if isinstance(value, Node) else tuple(map(wrap, value))
