"""The op record: everything that is true of one operation, in one place.

``add``, ``sigmoid``, ``linear`` ... are records. Calling a record makes a node: ``add(x, y)``. A
*primitive* has an evaluation; a *named function* has a ``body`` made of other records, and may
have an evaluation and a derivative of its own, which tests hold against the body's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.dtype import DType, as_dtype, default_dtype, promote, promote_scalar
from chainrule.core.graph import (
    Array,
    Node,
    ResultType,
    Shape,
    TensorType,
    Variable,
    caller,
    kinds,
    place,
)
from chainrule.core.subgraph import kind, kind_of
from chainrule.errors import ChainruleError, DTypeError, ShapeError, Source

# (cotangent, result, *inputs, **attrs) -> cotangent of one input
Rule = Callable[..., Node]
# A record's rules: one per input (None: no gradient), a Joint rule, or a rule made for a position.
Derivative = tuple[Rule | None, ...] | Callable[[int], Rule]

# Precedence of printed formulas, loosest first.
SUM, PRODUCT, UNARY, POWER, ATOM = 1, 2, 3, 4, 9


@dataclass(frozen=True)
class Joint:
    """A derivative rule that gives the cotangents of all inputs at once."""

    rule: Callable[..., Sequence[Node | None]]


@dataclass(frozen=True)
class Notation:
    """How a node is printed. ``{0}``, ``{1}`` are its inputs, ``{name}`` its attributes.

    Attributes:
        plain: template for terminals, for example ``"{0} + {1}"``.
        latex: the same in LaTeX.
        precedence: how tightly the printed formula holds together.
        binds: the least precedence each input may have without parentheses.
    """

    plain: str
    latex: str
    precedence: int = ATOM
    binds: tuple[int, ...] = ()

    @classmethod
    def call(cls, name: str, latex: str = "", inputs: int = 1) -> Notation:
        """``name(x, y)``."""
        operands = ", ".join(f"{{{i}}}" for i in range(inputs))
        head = latex or rf"\operatorname{{{{{name}}}}}"  # doubled: it is a template
        return cls(f"{name}({operands})", rf"{head}\left({operands}\right)")


@dataclass(frozen=True)
class Hazard:
    """A region where an op loses its meaning or its gradient.

    Attributes:
        word: key of the explanation's word table.
        where: ``(*arrays, **attrs) -> bool array``: the entries that are in the region.
    """

    word: str
    where: Callable[..., Array]


Operands = Callable[..., tuple[Node, ...]]


# Here and in the like places a tuple: Python would make ``bool | int | float`` anew for every node.
NUMBERS = (bool, int, float)


def as_node(value: Any) -> Node:
    """A node for a node or a Python number."""
    if isinstance(value, Node):
        return value
    if isinstance(value, NUMBERS):
        dtype = "bool" if isinstance(value, bool) else "int64"
        return constant(value, default_dtype() if isinstance(value, float) else as_dtype(dtype))
    raise _no_operand("graph", value)


def _no_operand(op: str, value: Any) -> ChainruleError:
    got = type(value).__name__
    return DTypeError(op=op, expected="a tensor or a number", got=got, mend="cr.tensor(...)")


def located(error: ChainruleError) -> ChainruleError:
    """The error with the layer and the line where a node was to be made."""
    return error.at(".".join(place.scope), place.source or caller())


def plain_operands(op: Op, *operands: Any) -> tuple[Node, ...]:
    """The default rule: operands are taken as they are."""
    return tuple(map(as_node, operands))


# The rules of an op are asked once for its attributes and the types of its operands.


class _Fit(NamedTuple):
    """What is done to an operand before it is an input.

    Attributes:
        dtype: it becomes of this type; None: it has it.
        stretched: type, attributes and kind of the node that stretches it; None: it has the shape.
    """

    dtype: DType | None
    stretched: tuple[TensorType, Mapping[str, Any], int] | None


class Recipe(NamedTuple):
    """How an op makes a node of operands of some types.

    Attributes:
        type: of the result.
        fits: for each operand.
    """

    type: ResultType
    fits: tuple[_Fit, ...]


# By kind, default type and the types of the operands; None: what the rules do is no recipe.
_recipes: dict[tuple[Hashable, ...], Recipe | None] = {}
_RECIPES_KEPT = 10_000


def _recipe_key(kind: int, operands: Sequence[Any]) -> tuple[Hashable, ...]:
    types: list[Any] = [x.type if isinstance(x, Node) else type(x) for x in operands]
    return (kind, default_dtype(), *types)


def _learn(key: tuple[Hashable, ...], operands: Sequence[Any], made: Node) -> Recipe | None:
    """Keep how a node was made: the rules need not be asked again."""
    if len(_recipes) >= _RECIPES_KEPT:
        _recipes.clear()
    found = _recipes[key] = _recipe_of(operands, made)
    return found


def _recipe_of(operands: Sequence[Any], made: Node) -> Recipe | None:
    """How a node was made, from what became its inputs."""
    is_plain = all(isinstance(operand, (Node, *NUMBERS)) for operand in operands)
    if not is_plain or len(operands) != len(made.inputs):
        return None
    fits = []
    for operand, node in zip(operands, made.inputs, strict=True):
        stretched = None
        if node is not operand and node.op.name == "broadcast_to":
            stretched = node.tensor_type, node.attrs, kind_of(node)
            (node,) = node.inputs
        is_lifted = node.inputs == (operand,) if isinstance(operand, Node) else not node.inputs
        if node is not operand and not (is_lifted and node.op.name in ("cast", "constant")):
            return None
        fits.append(_Fit(None if node is operand else node.dtype, stretched))
    return Recipe(made.type, tuple(fits))


def _fitted(operands: Sequence[Any], recipe: Recipe) -> tuple[Node, ...]:
    """The operands as inputs."""
    nodes = []
    for operand, (dtype, stretched) in zip(operands, recipe.fits, strict=True):
        node = operand if dtype is None else lift(operand, dtype)
        if stretched is not None:
            type, attrs, kind = stretched
            node = Node(OPS["broadcast_to"], (node,), attrs, type)
            node.kind = kind
        nodes.append(node)
    return tuple(nodes)


@dataclass(frozen=True, eq=False, repr=False)
class Op:
    """The facts of one operation.

    What ``operands`` and ``infer`` make of nodes and numbers follows from their types and from the
    attributes alone: it is remembered, and neither is asked again.

    Attributes:
        name: unique name, the key of every table about ops.
        infer: ``(*types, **attrs) -> type`` or a tuple of types; raises on a misfit.
        evaluate: ``(*arrays, **attrs) -> array`` (or tuple), in NumPy; None: the body is run.
        derivative: how a cotangent flows to each input; None: through the body, or not at all.
        notation: how it is printed.
        hazards: where it loses its meaning or its gradient.
        body: for named functions, ``(*inputs, **attrs) -> node`` (or tuple), in other ops.
        operands: how call arguments become inputs (weak numbers, promotion, broadcasting).
        arity: the number of inputs; None when any number will do.
        elementwise: each entry of the result depends on the inputs' entries at its own place alone.
        kind: the kind of its nodes without attributes.
    """

    name: str
    infer: Callable[..., ResultType]
    evaluate: Callable[..., Any] | None = None
    derivative: Derivative | Joint | None = None
    notation: Notation = field(default_factory=lambda: Notation("", ""))
    hazards: tuple[Hazard, ...] = ()
    body: Callable[..., Any] | None = None
    operands: Operands = plain_operands
    arity: int | None = 1
    elementwise: bool = False
    kind: int = field(init=False, default_factory=kinds.__next__)

    def __call__(self, *operands: Any, **attrs: Any) -> Node:
        here = place.source
        if here is None:  # the nodes of one call come from one line
            place.source = caller()
        try:
            number = kind(self, attrs) if attrs else self.kind
            key = _recipe_key(number, operands)
            recipe = _recipes.get(key)
            if recipe is not None:
                made = Node(self, _fitted(operands, recipe), attrs, recipe.type)
            else:
                made = self._made(operands, attrs)
                if key not in _recipes:
                    _learn(key, operands, made)
            made.kind = number
            return made
        finally:
            place.source = here

    def _made(self, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Node:
        """A node, by the rules for operands and types."""
        try:
            inputs = self.operands(self, *operands)
            if self.arity is not None and len(inputs) != self.arity:
                raise TypeError(f"{self.name} takes {self.arity} inputs, not {len(inputs)}")
            return Node(self, inputs, attrs, self.infer(*[node.type for node in inputs], **attrs))
        except ChainruleError as error:
            raise located(error) from None

    def recipe(self, operands: Sequence[Any]) -> Recipe | None:
        """How a node without attributes is made of these."""
        key = _recipe_key(self.kind, operands)
        found = _recipes.get(key)
        if found is None and key not in _recipes:
            found = _learn(key, operands, self._made(operands, {}))
        return found

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    @property
    def is_leaf(self) -> bool:
        """Whether nodes of this op are given from outside: inputs, constants, variable reads."""
        return self.arity == 0 and self.evaluate is None

    @functools.cached_property
    def passes_gradient(self) -> bool:
        """Whether a gradient can flow from the result to some input."""
        if isinstance(self.derivative, tuple):
            return any(rule is not None for rule in self.derivative)
        return self.derivative is not None or self.body is not None

    @property
    def is_primitive(self) -> bool:
        return self.body is None


OPS: dict[str, Op] = {}
Node.OPS = OPS


def register(op: Op) -> Op:
    """Add a record to the table of ops."""
    if op.name in OPS:
        raise ValueError(f"there is an op named {op.name} already")
    OPS[op.name] = op
    return op


# ---------------------------------------------------------------------------------- leaves

INPUT = register(
    Op("input", lambda *, name, type: type, notation=Notation("{name}", "{name}"), arity=0)
)
READ = register(
    Op(
        "read",
        lambda *, variable: variable.type,
        notation=Notation("{variable}", "{variable}"),
        arity=0,
    )
)
Variable.READ = READ
CONSTANT = register(
    Op(
        "constant",
        lambda *, value, dtype: TensorType((), dtype),
        notation=Notation("{value}", "{value}"),
        arity=0,
    )
)


WRITTEN = register(
    Op(
        "written",
        lambda x, *, variable: x,
        lambda x, *, variable: x,
        (None,),
        Notation("{variable}", "{variable}"),
    )
)


def written(node: Node, variable: Variable) -> Node:
    """The value a variable has from here on; gradients of later uses end here, as at a read."""
    made = Node(WRITTEN, (node,), {"variable": variable}, node.type, source=node.source)
    made.needs_grad = variable.trainable
    return made


def input(
    type: TensorType, name: str = "", value: Array | None = None, source: Source | None = None
) -> Node:
    """A leaf: data that is handed in (``value`` known now) or will be (a traced argument)."""
    node = Node(INPUT, (), {"name": name, "type": type}, type, value, source)
    if value is not None:
        node.trace = 0  # data belongs to no trace
    return node


def constant(value: bool | int | float, dtype: DType) -> Node:
    """A number that is part of the program."""
    attrs, kind, type = _number(value, dtype, not value and math.copysign(1, value) < 0)
    node = Node(CONSTANT, (), attrs, type)
    node.kind = kind
    return node


# Facts of nodes of which programs make many alike: worked out once.


@functools.lru_cache(1024, typed=True)
def _number(
    value: bool | int | float, dtype: DType, is_negative_zero: bool
) -> tuple[Mapping[str, Any], int, TensorType]:
    """Attributes, kind and type of a constant; -0.0 is another key than 0.0."""
    attrs = {"value": dtype.type(value).item(), "dtype": dtype}
    return attrs, kind(CONSTANT, attrs), TensorType((), dtype)


@functools.lru_cache(256)
def _picking(index: int) -> tuple[Mapping[str, Any], int]:
    """Attributes and kind of a node that picks one result."""
    attrs = {"index": index}
    return attrs, kind(PICK, attrs)


def _pick_rule(*_: Any, **__: Any) -> Node:
    raise NotImplementedError("back-propagation hands the cotangent on by itself")


PICK = register(
    Op(
        "pick",
        lambda types, *, index: types[index],
        evaluate=lambda values, *, index: values[index],
        derivative=(_pick_rule,),
        notation=Notation("{0}[{index}]", "{0}[{index}]"),
    )
)


def pick(node: Node, index: int) -> Node:
    """One result of an op that has several."""
    types = node.type
    assert not isinstance(types, TensorType)
    attrs, kind = _picking(index)
    made = Node(PICK, (node,), attrs, types[index])
    made.kind = kind
    return made


def results(node: Node) -> tuple[Node, ...]:
    """All results of a node, each as a node of its own."""
    if isinstance(node.type, TensorType):
        return (node,)
    return tuple(pick(node, index) for index in range(len(node.type)))


# ------------------------------------------------------------------------ operand rules


def common_dtype(op: Op, operands: Sequence[Any]) -> DType:
    """The element type that all operands share, weak numbers following the tensors."""
    dtype: DType | None = None
    numbers = []
    for operand in operands:
        if isinstance(operand, Node):
            found = operand.dtype
            if dtype is None:
                dtype = found
            elif found is not dtype:
                dtype = promote(op.name, dtype, found)
        elif isinstance(operand, NUMBERS):
            numbers.append(operand)
        else:
            raise _no_operand(op.name, operand)
    if dtype is None:
        return as_node(max(numbers, key=lambda number: isinstance(number, float))).dtype
    for number in numbers:
        dtype = promote_scalar(dtype, number)
    return dtype


def broadcast_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """NumPy's rule: axes are matched from the last; an axis of length 1 stretches."""
    if len({*shapes}) == 1:  # NumPy takes its time
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(
            op=op.name,
            expected="shapes that match from the last axis, or have 1 there",
            got=" and ".join(map(str, shapes)),
            mend="reshape or unsqueeze one of them",
        ) from None


def lift(operand: Any, dtype: DType) -> Node:
    """The operand as a node of the given type."""
    if not isinstance(operand, Node):
        if not isinstance(operand, NUMBERS):
            raise _no_operand("graph", operand)
        return constant(operand, dtype)
    if operand.dtype == dtype:
        return operand
    from chainrule.core.ops.arithmetic import cast

    return cast(operand, dtype)


def of_one_dtype(op: Op, *operands: Any) -> tuple[Node, ...]:
    """Layers' ops: one element type, each operand with the shape it has."""
    dtype = common_dtype(op, operands)
    return tuple([lift(operand, dtype) for operand in operands])


def broadcasting(op: Op, *operands: Any) -> tuple[Node, ...]:
    """Elementwise ops: one element type, one shape."""
    return _stretched(op, operands, common_dtype(op, operands))


def floating(op: Op, *operands: Any) -> tuple[Node, ...]:
    """As :func:`broadcasting`, whole numbers becoming floats: for division, exp, sigmoid ..."""
    dtype = common_dtype(op, operands)
    return _stretched(op, operands, dtype if dtype.kind == "f" else default_dtype())


def _stretched(op: Op, operands: Sequence[Any], dtype: DType) -> tuple[Node, ...]:
    """The operands as nodes of one element type and one shape."""
    nodes = [lift(operand, dtype) for operand in operands]
    shape = broadcast_shape(op, [node.shape for node in nodes])
    stretch = OPS["broadcast_to"]
    return tuple([node if node.shape == shape else stretch(node, shape=shape) for node in nodes])
