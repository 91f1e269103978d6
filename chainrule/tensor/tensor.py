"""The tensor: an immutable array of numbers, lazily computed, that remembers how it came about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from chainrule.core import dtype as types
from chainrule.core.dtype import DType, as_dtype
from chainrule.core.graph import (
    Array,
    Node,
    Shape,
    TensorType,
    Variable,
    caller,
    needing_gradients,
    place,
)
from chainrule.core.op import NUMBERS, OPS, Op, input
from chainrule.core.ops import arithmetic, functions, linear, parts, reduction, shape
from chainrule.errors import (
    BackwardError,
    DTypeError,
    InPlaceError,
    MissingFeatureError,
    NoGradientError,
    NotScalarError,
    OptionError,
    TracedValueError,
    closest,
)
from chainrule.run.small import pointwise, small_value
from chainrule.tensor.backward import parts_of
from chainrule.tensor.device import CPU, Device, is_device, require_cpu
from chainrule.tensor.methods import Methods, numpy_names
from chainrule.tensor.state import current, eager

if TYPE_CHECKING:
    from chainrule.tensor.indexing import At

Dims = int | Sequence[int] | None


class Tensor(Methods):
    """An n-dimensional array.

    A tensor is a node of a graph; its numbers are computed when they are first asked for (``item``,
    ``numpy``, ``print``), together with everything else that is pending; sums and the like of a
    little data are computed when they are made. It never changes: assignment is written
    ``x = x.at[i].set(v)``.

    Example:
        >>> import chainrule as cr
        >>> x = cr.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> (x @ x).sum().item()
        54.0
    """

    __slots__ = ("__weakref__", "_backward_done", "_node", "variable")
    __array_priority__ = 1000  # array * tensor is a tensor

    _node: Node
    variable: Variable  # of a VariableTensor

    def __init__(self, node: Node) -> None:
        self._node = node
        self._backward_done = False
        if node.value is None:
            eager.hold(node)
        else:  # nothing waits: as hold() does, but at once
            node.holders += 1

    def __del__(self) -> None:
        node = getattr(self, "_node", None)
        if node is not None and eager is not None:  # None while the interpreter shuts down
            eager.release(node)

    @property
    def node(self) -> Node:
        """The node this tensor stands for."""
        return self._node

    def _apply(self, name: str, *operands: Any) -> Self:
        if name == "matmul":
            return wrap(linear.matmul(*map(need_node, operands)))  # type: ignore[return-value]
        if name == "pow" and type(operands[1]) in (int, float) and operands[1] == 2:
            return wrap(functions.square(need_node(operands[0])))  # type: ignore[return-value]
        return apply(OPS[name], *operands)  # type: ignore[return-value]

    def __eq__(self, other: object) -> Any:
        if other is None or isinstance(other, str):
            return NotImplemented
        return self._apply("equal", self, other)

    def __ne__(self, other: object) -> Any:
        if other is None or isinstance(other, str):
            return NotImplemented
        return self._apply("not_equal", self, other)

    __hash__ = object.__hash__

    # ------------------------------------------------------------------ type

    @property
    def shape(self) -> Shape:
        """The length of each axis."""
        return self._node.shape

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self._node.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one axis."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        """The number of entries."""
        return self._node.size

    @property
    def itemsize(self) -> int:
        """Bytes of an entry."""
        return self.dtype.itemsize

    def element_size(self) -> int:
        """Bytes of an entry."""
        return self.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return self.numel() * self.itemsize

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a tensor with no axes")
        return self.shape[0]

    def to(
        self, *targets: object, dtype: object = None, device: object = None, **_: object
    ) -> Tensor:
        """This tensor in another element type; a device is accepted, and is the CPU."""
        result = self
        for target in (*targets, dtype, device):
            if target is None:
                continue
            if is_device(target):
                require_cpu(target)
            elif isinstance(target, Tensor):
                result = result.type_as(target)
            else:
                result = wrap(arithmetic.cast(result.node, as_dtype(target)))
        return result

    def type_as(self, other: Tensor) -> Tensor:
        """This tensor in the element type of another."""
        return self.to(other.dtype)

    def float(self) -> Tensor:
        """As float32."""
        return self.to(types.float32)

    def double(self) -> Tensor:
        """As float64."""
        return self.to(types.float64)

    def long(self) -> Tensor:
        """As int64."""
        return self.to(types.int64)

    def int(self) -> Tensor:
        """As int32."""
        return self.to(types.int32)

    def bool(self) -> Tensor:
        """As truth values: whatever is not 0 is true."""
        return self.to(types.bool_)

    def cpu(self) -> Tensor:
        """The tensor itself; tensors carry no device."""
        return self

    @property
    def device(self) -> Device:
        """The CPU."""
        return CPU

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"'Tensor' object has no attribute {name!r}")
        mend = mend_zh = ""
        if name.endswith("_"):
            mend = f"tensors never change: write x = x.{name[:-1]}(...), or x = x + y and alike"
            mend_zh = f"张量不可变:请写 x = x.{name[:-1]}(...),或 x = x + y 等"
        elif near := closest(name, [word for word in dir(type(self)) if word[0] != "_"]):
            mend, mend_zh = f"did you mean {near}?", f"您是否想写 {near}?"
        raise MissingFeatureError(name=f"Tensor.{name}", mend=mend, mend_zh=mend_zh)

    # ------------------------------------------------------------------ values

    def _value(self, asked: str) -> Array:
        node = self.node
        if node.value is None:
            if node.trace and node.trace == place.trace:
                error = TracedValueError(asked=asked, detail="")
                raise error.at(".".join(node.scope), node.source or caller())
            current().evaluate([node])
        if node.op.name == "read" and node.value is None:
            value: Array = node.attrs["variable"].value
            return value
        assert node.value is not None
        return node.value

    def numpy(self) -> Array:
        """A copy of the numbers as a NumPy array."""
        return self._value("numpy()").copy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        array = self._value("np.asarray()")
        return array.astype(dtype) if dtype is not None else array.copy()

    def tolist(self) -> Any:
        """The numbers as nested Python lists (a plain number for a tensor without axes)."""
        return self._value("tolist()").tolist()

    def item(self) -> Any:
        """The only entry as a Python number.

        Raises:
            NotScalarError: there is more than one entry.
            TracedValueError: inside a compiled step.
        """
        return self._scalar("item()")

    def _scalar(self, asked: str) -> Any:
        if self.numel() != 1:
            raise NotScalarError(
                op=asked,
                shape=self.shape,
                mend="use tolist() or numpy(), or .sum() or .mean() first",
            )
        return self._value(asked).item()

    def __float__(self) -> Any:
        return float(self._scalar("float()"))

    def __int__(self) -> Any:
        return int(self._scalar("int()"))

    def __bool__(self) -> Any:
        return bool(self._scalar("bool() (an if or while on a tensor)"))

    def __index__(self) -> Any:
        if self.dtype.kind not in "iu":
            raise TypeError(f"only whole-number tensors can be an index, not {self.dtype}")
        return int(self._scalar("an index"))

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        if self._node.value is None and self._node.trace:
            return f"<traced tensor {self._node.type}>"
        array = self._value("repr()")
        text = np.array2string(array, separator=", ", precision=4, prefix="tensor(")
        plain = types.float32, types.int64, types.bool_
        suffix = "" if array.dtype in plain else f", dtype={array.dtype}"
        if self.requires_grad:
            suffix += ", requires_grad=True"
        return f"tensor({text}{suffix})"

    def __reduce__(self) -> Any:
        return (_unpickle, (self._value("pickle"),))

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self

    # ------------------------------------------------------------------ gradients

    @property
    def requires_grad(self) -> Any:
        """Whether a gradient flows through this tensor to a trainable variable."""
        return self._node.needs_grad

    @requires_grad.setter
    def requires_grad(self, value: Any) -> None:
        self.requires_grad_(value)

    @property
    def is_leaf(self) -> Any:
        """Whether it was made by the program, not computed from trainable variables."""
        return not self.requires_grad

    @property
    def grad(self) -> Tensor | None:
        """dL/dx; only parameters and tensors made with ``requires_grad=True`` keep theirs."""
        return None

    @property
    def grad_fn(self) -> str | None:
        """The op that made it, where a gradient flows through it."""
        return f"<{self._node.op.name}>" if self.requires_grad else None

    @property
    def data(self) -> Tensor:
        """The same numbers, cut from the graph."""
        return self.detach()

    def detach(self) -> Tensor:
        """The same numbers, through which no gradient flows."""
        return wrap(arithmetic.stop_gradient(self.node)) if self.requires_grad else self

    def requires_grad_(self, requires_grad: Any = True) -> Tensor:
        """Make this tensor a leaf that collects a gradient, with the numbers it has; returns it.

        Raises:
            OptionError: it was computed from trainable tensors, and can't stop needing a gradient.
        """
        from chainrule.tensor.variable import VariableTensor

        if self.requires_grad == bool(requires_grad):
            return self
        if not requires_grad:
            raise OptionError(
                name="requires_grad", expected="left as it is on a computed tensor", got=False,
                mend="y = y.detach() cuts it from the graph",
            )  # fmt: skip
        array = self._value("requires_grad_()")
        eager.release(self._node)
        self.__class__ = VariableTensor
        self.variable = Variable(array, "", trainable=True)
        return self

    def backward(self, gradient: Tensor | None = None, retain_graph: Any = False) -> None:
        """Back-propagation: add dL/dp to ``p.grad`` of every trainable tensor p behind this one.

        Args:
            gradient: dL/d(self), of this tensor's shape; 1 for a tensor with one entry.
            retain_graph: allow another backward of the same tensor later.

        Raises:
            NotScalarError: more than one entry and no ``gradient``.
            BackwardError: a second backward of the same loss.
            NoGradientError: nothing behind this tensor is trainable.
        """
        if self._backward_done:
            raise BackwardError().at(".".join(self._node.scope), self._node.source)
        if gradient is None and self.shape and self.numel() != 1:
            raise NotScalarError(
                op="backward()",
                shape=self.shape,
                mend="reduce it first with .mean() or .sum(), or give backward(gradient=...)",
            )
        node = self.node
        parts = parts_of(node, None if gradient is None else gradient.node)
        if parts is None:
            raise NoGradientError(
                op="backward()",
                reason="no trainable parameter is behind this tensor",
                reason_zh="这个张量背后没有可训练的参数",
                mend="make one with requires_grad=True, unfreeze the model, or compute the loss "
                "outside no_grad and detach; what a compiled function returns is data, so its "
                "backward() belongs inside it",
                mend_zh="用 requires_grad=True 创建,解冻模型,或在 no_grad、detach 之外计算损失;"
                "编译函数返回的是数据,backward() 要写在函数里面",
            )
        state = current()
        state.check(node)
        with needing_gradients(False):  # what is collected has none of its own; cr.grad's has
            for variable, part in parts.items():
                before = state.grads.get(variable)
                state.grads[variable] = part if before is None else before + part
            if not retain_graph:
                cut = arithmetic.stop_gradient
                self._let_go(Node(cut, (node,), {}, node.type, source=node.source))
        self._backward_done = not retain_graph

    def _let_go(self, node: Node) -> None:
        """Stand for another node of the same value, so that a kept loss keeps no graph."""
        eager.hold(node)
        eager.release(self._node)
        self._node = node

    # ------------------------------------------------------------------ indexing

    def __getitem__(self, index: Any) -> Tensor:
        from chainrule.tensor.indexing import getitem

        return getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise InPlaceError().at(".".join(place.scope), caller())

    @property
    def at(self) -> At:
        """``x.at[i].set(v)``, ``.add(v)``, ``.multiply(v)``: a changed copy."""
        from chainrule.tensor.indexing import At

        return At(self)

    # ------------------------------------------------------------------ shapes

    def reshape(self, *lengths: Any) -> Tensor:
        """The entries in the same order under another shape; one length may be -1."""
        return wrap(shape.reshape(self.node, _spread(lengths)))

    view = reshape

    def flatten(self, start_dim: Any = 0, end_dim: Any = -1) -> Tensor:
        """The axes from ``start_dim`` to ``end_dim`` made one."""
        if not self.ndim:
            return self.reshape(1)
        start, end = start_dim % self.ndim, end_dim % self.ndim
        middle = int(np.prod(self.shape[start : end + 1], dtype=np.int64))
        return self.reshape(*self.shape[:start], middle, *self.shape[end + 1 :])

    @numpy_names
    def squeeze(self, dim: Dims = None) -> Tensor:
        """Without axes of length 1."""
        return wrap(shape.squeeze(self.node, dim))

    @numpy_names
    def unsqueeze(self, dim: Any) -> Tensor:
        """With a new axis of length 1."""
        return wrap(shape.unsqueeze(self.node, dim))

    def permute(self, *dims: Any) -> Tensor:
        """The axes in another order."""
        return wrap(shape.permute(self.node, _spread(dims)))

    def transpose(self, dim0: Any, dim1: Any) -> Tensor:
        """Two axes exchanged."""
        return wrap(shape.transpose(self.node, dim0, dim1))

    def t(self) -> Tensor:
        """Rows and columns exchanged."""
        return self if self.ndim < 2 else self.transpose(0, 1)

    @property
    def T(self) -> Tensor:
        """All axes in reverse order."""
        return self.permute(*range(self.ndim)[::-1])

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return self.transpose(-2, -1)

    def expand(self, *lengths: Any) -> Tensor:
        """Copies along axes of length 1; -1 keeps an axis."""
        wanted = list(_spread(lengths))
        lead = len(wanted) - self.ndim
        for axis, length in enumerate(wanted):
            if length == -1:
                wanted[axis] = self.shape[axis - lead]
        return wrap(shape.broadcast_to(self.node, wanted))

    def expand_as(self, other: Tensor) -> Tensor:
        """Copies up to the shape of another tensor."""
        return self.expand(*other.shape)

    def view_as(self, other: Tensor) -> Tensor:
        """The entries under the shape of another tensor."""
        return self.reshape(*other.shape)

    def contiguous(self) -> Tensor:
        """The tensor itself; layout is not visible here."""
        return self

    def clone(self) -> Tensor:
        """The tensor itself: what never changes needs no copy."""
        return wrap(self.node)

    def flip(self, *dims: Any) -> Tensor:
        """Entries in reverse order along axes."""
        return wrap(shape.flip(self.node, _spread(dims)))

    def gather(self, dim: Any, index: Tensor) -> Tensor:
        """``y[i, j] = x[i, index[i, j]]`` for dim 1, and alike for other axes."""
        return wrap(shape.gather(self.node, dim, index.node))

    def narrow(self, dim: Any, start: Any, length: Any) -> Tensor:
        """The entries ``start`` to before ``start + length`` along an axis."""
        return wrap(parts.narrow(self.node, dim, start, length))

    def split(self, split_size: Any, dim: Any = 0) -> tuple[Tensor, ...]:
        """Parts along an axis: of one size (the last may be smaller), or of the sizes listed."""
        return tuple(wrap(part) for part in parts.split(self.node, split_size, dim))

    def chunk(self, chunks: Any, dim: Any = 0) -> tuple[Tensor, ...]:
        """At most ``chunks`` parts of equal size along an axis; the last may be smaller."""
        return tuple(wrap(part) for part in parts.chunk(self.node, chunks, dim))

    def unbind(self, dim: Any = 0) -> tuple[Tensor, ...]:
        """Every slice along an axis, without that axis."""
        return tuple(wrap(part) for part in parts.unbind(self.node, dim))

    def repeat(self, *times: Any) -> Tensor:
        """Copies side by side: ``times`` for each axis, new axes in front."""
        return wrap(parts.repeat(self.node, _spread(times)))

    def tril(self, diagonal: Any = 0) -> Tensor:
        """Zeros above a diagonal of the last two axes."""
        return wrap(parts.tril(self.node, diagonal))

    def triu(self, diagonal: Any = 0) -> Tensor:
        """Zeros below a diagonal of the last two axes."""
        return wrap(parts.triu(self.node, diagonal))

    def masked_fill(self, mask: Tensor, value: Any) -> Tensor:
        """``value`` where the mask is true, this tensor elsewhere."""
        return apply(arithmetic.where, mask, value, self)

    # ------------------------------------------------------------------ reductions

    @numpy_names
    def sum(self, dim: Dims = None, keepdim: Any = False) -> Tensor:
        """The sum over axes."""
        return wrap(reduction.sum(self.node, dim, keepdim))

    @numpy_names
    def mean(self, dim: Dims = None, keepdim: Any = False) -> Tensor:
        """The sum over axes divided by the number of entries; floats only."""
        if not types.is_float(self.dtype):
            raise DTypeError(
                op="mean", expected="a float tensor", got=self.dtype, mend="x.float().mean()"
            )
        return wrap(functions.mean(self.node, dim, keepdim))

    @numpy_names
    def var(
        self, dim: Any = None, correction: Any = 1, keepdim: Any = False, *, unbiased: Any = None
    ) -> Tensor:
        """Squared distance from the mean, summed over axes, over n - correction.

        ``unbiased``, PyTorch's older word, is True for a correction of 1 and False for 0.
        """
        if isinstance(dim, bool):  # var(False), where no axis is given
            dim, unbiased = None, dim
        chosen = int(correction if unbiased is None else unbiased)
        return wrap(functions.var(self.node, dim, chosen, keepdim))

    @numpy_names
    def std(
        self, dim: Any = None, correction: Any = 1, keepdim: Any = False, *, unbiased: Any = None
    ) -> Tensor:
        """The square root of the variance."""
        return self.var(dim, correction, keepdim, unbiased=unbiased).sqrt()

    @numpy_names
    def amax(self, dim: Dims = None, keepdim: Any = False) -> Tensor:
        """The largest entry over axes; equal winners share the gradient evenly."""
        return wrap(reduction.amax(self.node, dim, keepdim))

    @numpy_names
    def amin(self, dim: Dims = None, keepdim: Any = False) -> Tensor:
        """The smallest entry over axes."""
        return wrap(reduction.amin(self.node, dim, keepdim))

    @numpy_names
    def max(self, dim: Any = None, keepdim: Any = False) -> Any:
        """The largest entry; with ``dim``, values and the positions of the first winners."""
        from chainrule.tensor.functions import max

        return max(self, dim, keepdim)

    @numpy_names
    def min(self, dim: Any = None, keepdim: Any = False) -> Any:
        """The smallest entry; with ``dim``, values and the positions of the first winners."""
        from chainrule.tensor.functions import min

        return min(self, dim, keepdim)

    @numpy_names
    def argmax(self, dim: Any = None, keepdim: Any = False) -> Tensor:
        """The position of the first largest entry."""
        return wrap(reduction.argmax(self.node, dim, keepdim))

    @numpy_names
    def argmin(self, dim: Any = None, keepdim: Any = False) -> Tensor:
        """The position of the first smallest entry."""
        return wrap(reduction.argmin(self.node, dim, keepdim))

    @numpy_names
    def cumsum(self, dim: Any) -> Tensor:
        """y_i = x_0 + ... + x_i along an axis."""
        return wrap(parts.cumsum(self.node, dim))

    def topk(self, k: Any, dim: Any = -1, largest: Any = True, sorted: Any = True) -> Any:
        """The k largest (or smallest) entries along an axis, in order: values and indices."""
        from chainrule.tensor.functions import topk

        return topk(self, k, dim, largest)

    @numpy_names
    def any(self, dim: Dims = None, keepdim: Any = False) -> Tensor:
        """Whether some entry is not 0."""
        return wrap(reduction.any(self.node, dim, keepdim))

    @numpy_names
    def all(self, dim: Dims = None, keepdim: Any = False) -> Tensor:
        """Whether no entry is 0."""
        return wrap(reduction.all(self.node, dim, keepdim))

    @numpy_names
    def norm(self, p: Any = 2, dim: Dims = None, keepdim: Any = False) -> Tensor:
        """(sum |x|^p)^(1/p) over axes, and the largest |x| for p = inf; ``"fro"`` means 2.

        Where it is 0, its gradient is 0.
        """
        if p == np.inf:
            return self.abs().amax(dim, keepdim)
        if p not in (2, "fro") and not (isinstance(p, int | float) and p >= 1):
            raise OptionError(name="p", expected='at least 1, inf or "fro"', got=repr(p))
        if p == 1:
            return self.abs().sum(dim, keepdim)
        squares = p in (2, "fro")
        total = (self.square() if squares else self.abs() ** p).sum(dim, keepdim)
        zero = total == 0
        safe = apply(arithmetic.where, zero, 1.0, total)
        return apply(arithmetic.where, zero, 0.0, safe.sqrt() if squares else safe ** (1 / p))

    # ------------------------------------------------------------------ functions

    def exp(self) -> Tensor:
        """e to the power of each entry."""
        return wrap(arithmetic.exp(self.node))

    def log(self) -> Tensor:
        """The natural logarithm of each entry."""
        return wrap(arithmetic.log(self.node))

    def sqrt(self) -> Tensor:
        """The square root of each entry."""
        return wrap(arithmetic.sqrt(self.node))

    def square(self) -> Tensor:
        """Each entry times itself."""
        return wrap(functions.square(self.node))

    def abs(self) -> Tensor:
        """Each entry without its sign."""
        return wrap(arithmetic.abs(self.node))

    def sin(self) -> Tensor:
        """The sine of each entry, in radians."""
        return wrap(arithmetic.sin(self.node))

    def cos(self) -> Tensor:
        """The cosine of each entry, in radians."""
        return wrap(arithmetic.cos(self.node))

    def tanh(self) -> Tensor:
        """The hyperbolic tangent of each entry."""
        return wrap(arithmetic.tanh(self.node))

    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-x))."""
        return wrap(functions.sigmoid(self.node))

    def relu(self) -> Tensor:
        """max(0, x)."""
        return wrap(functions.relu(self.node))

    @numpy_names
    def softmax(self, dim: Any = -1) -> Tensor:
        """exp(x) normalised to sum 1 along ``dim``."""
        return wrap(functions.softmax(self.node, dim))

    @numpy_names
    def log_softmax(self, dim: Any = -1) -> Tensor:
        """ln of softmax."""
        return wrap(functions.log_softmax(self.node, dim))

    def round(self) -> Tensor:
        """The nearest whole number; halves go to the even one."""
        return wrap(arithmetic.round(self.node))

    def floor(self) -> Tensor:
        """The next whole number below."""
        return wrap(arithmetic.floor(self.node))

    def sign(self) -> Tensor:
        """-1, 0 or 1."""
        return wrap(arithmetic.sign(self.node))

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """Entries kept within bounds; the gradient is 1 inside and at the bounds, else 0."""
        from chainrule.tensor.functions import clamp

        return clamp(self, min, max)

    clip = clamp

    def pow(self, exponent: Any) -> Tensor:
        """Each entry to a power."""
        raised: Tensor = self**exponent
        return raised

    def matmul(self, other: Tensor) -> Tensor:
        """The matrix product."""
        return self @ other

    mm = matmul
    dot = matmul
    mv = matmul

    def eq(self, other: Any) -> Tensor:
        """Where entries are equal."""
        return self._apply("equal", self, other)


# ---------------------------------------------------------------------------------- making


def wrap(node: Node) -> Tensor:
    """The tensor that stands for a node, which has its value at once if that is a little data."""
    if node.value is None:
        value = small_value(node)
        if value is not None:
            node.value, node.inputs = value, ()
    return Tensor(node)


class Number(Tensor):
    """A Python float handed to a compiled step: its type follows the tensor beside it.

    Among themselves such numbers are float64, as they are in Python.
    """

    __slots__ = ()

    @property
    def node(self) -> Node:
        return arithmetic.cast(self._node, types.default_dtype())


def operand_node(value: Any) -> Any:
    """The node of a tensor or of data; Python numbers stay as they are (they are weak)."""
    if isinstance(value, Tensor):
        return value.node
    if isinstance(value, NUMBERS):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    return tensor(value).node


def need_node(value: Any) -> Node:
    """The node of a tensor, of data, or of a number."""
    return value.node if isinstance(value, Tensor) else tensor(value).node


def operand_nodes(*values: Any) -> list[Any]:
    """The nodes of operands of one op; numbers take the type of the tensors beside them."""
    if Number not in map(type, values):
        return [operand_node(value) for value in values]
    found = [None if type(value) is Number else operand_node(value) for value in values]
    dtypes = [node.dtype for node in found if isinstance(node, Node)]
    floats = [dtype for dtype in dtypes if types.is_float(dtype)]
    dtype = floats[0] if floats else types.default_dtype() if dtypes else types.float64
    return [
        arithmetic.cast(value._node, dtype) if node is None else node
        for value, node in zip(values, found, strict=True)
    ]


def apply(op: Op, *operands: Any) -> Tensor:
    """An op on tensors, arrays and numbers."""
    nodes: list[Any] = []
    for operand in operands:
        kind = type(operand)
        if kind is Number:
            return _of_numbers(op, operands)
        nodes.append(operand._node if kind is Tensor else operand_node(operand))
    known = None if place.trace else pointwise(op, nodes)
    if known is not None:
        return Tensor(known)
    made = op(*nodes)
    return Tensor(made) if op.elementwise else wrap(made)  # as pointwise says, nothing is known


def _of_numbers(op: Op, operands: Sequence[Any]) -> Tensor:
    """An op on operands of which some are numbers handed to a compiled step."""
    made = op(*operand_nodes(*operands))
    weak = {Number, float, int, bool}.issuperset(map(type, operands))
    return Number(made) if weak and types.is_float(made.dtype) else wrap(made)


def tensor(
    data: Any, dtype: object = None, requires_grad: bool = False, device: object = None
) -> Any:
    """A tensor that holds a copy of ``data``.

    Args:
        data: number, nested lists, NumPy array or tensor. Lists of floats take the default type;
            arrays keep theirs.
        dtype: element type, for example ``cr.float64`` or ``"float64"``.
        requires_grad: collect a gradient in ``.grad``.
        device: accepted; only the CPU exists here.

    Raises:
        DTypeError: data that is not numbers.

    Example:
        >>> import chainrule as cr
        >>> cr.tensor([1, 2, 3]).dtype
        dtype('int64')
    """
    if device is not None:
        require_cpu(device)
    array = to_array(data, dtype)
    if requires_grad:
        from chainrule.tensor.variable import VariableTensor

        return VariableTensor(Variable(array, "", trainable=True))
    array.flags.writeable = False
    return wrap(input(TensorType(array.shape, array.dtype), value=array))


def to_array(data: Any, dtype: object = None) -> Array:
    """A fresh array of one of the library's types."""
    is_array = isinstance(data, np.ndarray)
    if isinstance(data, Tensor):
        array = data.numpy()
    elif isinstance(data, (list, tuple)) and any(isinstance(item, Tensor) for item in data):
        array = np.array([np.asarray(item) for item in data])
    else:
        array = np.asarray(data) if is_array else np.array(data)
    fresh = np.array if is_array else np.asarray
    if dtype is not None:
        return fresh(array, as_dtype(dtype), order="C")
    if array.dtype.kind not in "fiub":
        raise DTypeError(
            op="tensor", expected="numbers of one shape", got=array.dtype, mend="check the data"
        )
    given = hasattr(data, "dtype")
    return fresh(array, _chosen_dtype(array.dtype, given), order="C")


def _chosen_dtype(found: DType, given: bool) -> DType:
    known = types.known_dtype(found) if given or found.kind != "f" else None
    if known is not None:
        return known
    return types.default_dtype() if found.kind == "f" else types.int64


def _unpickle(array: Array) -> Tensor:
    made: Tensor = tensor(array)
    return made


def _spread(lengths: Sequence[Any]) -> tuple[int, ...]:
    """``f(2, 3)`` and ``f((2, 3))`` mean the same."""
    if len(lengths) == 1 and isinstance(lengths[0], tuple | list):
        lengths = lengths[0]
    return tuple(int(length) for length in lengths)
