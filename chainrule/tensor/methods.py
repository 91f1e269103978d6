"""Methods that say an operator or a function by its PyTorch name; :class:`Tensor` inherits them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from chainrule.core.dtype import as_dtype, is_float
from chainrule.core.operators import Operators
from chainrule.errors import MissingFeatureError
from chainrule.tensor.device import require_cpu

if TYPE_CHECKING:
    from chainrule.tensor.tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}

# What ``x.type()`` says, by element type.
_TYPE_NAMES = {
    "float32": "Float", "float64": "Double", "int32": "Int", "int64": "Long", "uint8": "Byte",
    "bool": "Bool",
}  # fmt: skip


def numpy_names(method: Callable[P, R]) -> Callable[P, R]:
    """The same method, which also takes NumPy's ``axis`` for ``dim`` and ``keepdims``."""

    @functools.wraps(method)
    def call(*args: P.args, **options: P.kwargs) -> R:
        if options and not _NUMPY_NAMES.keys().isdisjoint(options):
            options = {_NUMPY_NAMES.get(name, name): value for name, value in options.items()}  # type: ignore[assignment]
        return method(*args, **options)

    return call


def _operator(symbol: str, apply: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Tensor]:
    """An operator as a method."""

    def method(self: Any, other: Any) -> Tensor:
        made: Tensor = apply(self, other)
        return made

    method.__doc__ = f"``x {symbol} other``, entry by entry."
    return method


def _function(name: str) -> Callable[..., Any]:
    """A function of :mod:`chainrule.tensor.functions`, of products or places, as a method."""

    def method(self: Any, *args: Any, **options: Any) -> Any:
        """See the function of the same name."""
        from chainrule.tensor import functions, places, products

        owner = next(m for m in (functions, products, places) if name in m.__all__)
        return getattr(owner, name)(self, *args, **options)

    method.__name__ = method.__qualname__ = name
    return method


class Methods(Operators):
    """What PyTorch's tensors can do besides, in terms of what ours can."""

    __slots__ = ()

    # ------------------------------------------------------------------ operators

    mul = multiply = _operator("*", lambda x, y: x * y)
    div = divide = true_divide = _operator("/", lambda x, y: x / y)
    remainder = _operator("%", lambda x, y: x % y)
    floor_divide = _operator("//", lambda x, y: x // y)
    ne = _operator("!=", lambda x, y: x != y)
    lt = _operator("<", lambda x, y: x < y)
    le = _operator("<=", lambda x, y: x <= y)
    gt = _operator(">", lambda x, y: x > y)
    ge = _operator(">=", lambda x, y: x >= y)
    logical_and = _operator("&", lambda x, y: x.bool() & y)
    logical_or = _operator("|", lambda x, y: x.bool() | y)
    logical_xor = _operator("^", lambda x, y: x.bool() ^ y)

    def add(self: Any, other: Any, *, alpha: float = 1) -> Tensor:
        """``x + alpha * other``."""
        made: Tensor = self + (other if alpha == 1 else other * alpha)
        return made

    def sub(self: Any, other: Any, *, alpha: float = 1) -> Tensor:
        """``x - alpha * other``."""
        made: Tensor = self - (other if alpha == 1 else other * alpha)
        return made

    def neg(self: Any) -> Tensor:
        """``-x``."""
        made: Tensor = -self
        return made

    def logical_not(self: Any) -> Tensor:
        """True where an entry is False, or 0."""
        made: Tensor = ~self.bool()
        return made

    # ------------------------------------------------------------------ functions

    log1p = _function("log1p")
    expm1 = _function("expm1")
    erf = _function("erf")
    ceil = _function("ceil")
    isnan = _function("isnan")
    sort = _function("sort")
    argsort = _function("argsort")
    maximum = _function("maximum")
    minimum = _function("minimum")
    allclose = _function("allclose")
    scatter = _function("scatter")
    scatter_add = _function("scatter_add")
    bmm = _function("bmm")
    baddbmm = _function("baddbmm")

    def log2(self: Any) -> Tensor:
        """The logarithm to base 2."""
        made: Tensor = self.log() / math.log(2)
        return made

    def log10(self: Any) -> Tensor:
        """The logarithm to base 10."""
        made: Tensor = self.log() / math.log(10)
        return made

    def reciprocal(self: Any) -> Tensor:
        """1 / x."""
        made: Tensor = 1 / self
        return made

    def rsqrt(self: Any) -> Tensor:
        """1 / sqrt(x)."""
        made: Tensor = 1 / self.sqrt()
        return made

    def isfinite(self: Any) -> Tensor:
        """Where an entry is neither infinite nor NaN."""
        made: Tensor = self.abs() < np.inf
        return made

    def isinf(self: Any) -> Tensor:
        """Where an entry is infinite."""
        made: Tensor = self.abs() == np.inf
        return made

    @numpy_names
    def logsumexp(self: Any, dim: Any, keepdim: bool = False) -> Tensor:
        """ln(sum exp(x)) over axes, without overflow."""
        top = self.detach().amax(dim, keepdim=True)
        top = top.where(top.isfinite(), 0.0)
        total: Tensor = (self - top).exp().sum(dim, keepdim=True).log() + top
        return total if keepdim else total.squeeze(dim)

    def where(self: Any, condition: Any, other: Any) -> Tensor:
        """The tensor itself where the condition holds, ``other`` elsewhere."""
        from chainrule.tensor.functions import where

        return where(condition, self, other)

    @numpy_names
    def count_nonzero(self: Any, dim: Any = None) -> Tensor:
        """How many entries are not 0."""
        made: Tensor = self.bool().long().sum(dim)
        return made

    def outer(self: Any, other: Tensor) -> Tensor:
        """``y[i, j] = x[i] other[j]``."""
        made: Tensor = self.unsqueeze(1) * other.unsqueeze(0)
        return made

    def equal(self: Any, other: Tensor) -> bool:
        """Whether two tensors have the same shape and the same entries."""
        return bool(np.array_equal(self.numpy(), other.numpy()))

    # ------------------------------------------------------------------ choosing

    def index_select(self: Any, dim: int, index: Tensor) -> Tensor:
        """The slices that ``index`` (n,) names along an axis."""
        made: Tensor = self[(slice(None),) * (dim % self.ndim) + (index,)]
        return made

    def masked_select(self: Any, mask: Tensor) -> Tensor:
        """The entries where the mask is true, in a row; outside compiled steps."""
        made: Tensor = self[mask]
        return made

    def nonzero(self: Any, as_tuple: bool = False) -> Any:
        """Where entries are not 0: (number of them, axes), or one tensor per axis.

        Their number depends on the values, so a compiled step can't ask for it.
        """
        from chainrule.tensor.tensor import tensor

        found = np.nonzero(self.numpy())
        return tuple(map(tensor, found)) if as_tuple else tensor(np.stack(found, -1))

    # ------------------------------------------------------------------ making

    def new_tensor(self: Any, data: Any, dtype: object = None, device: object = None) -> Any:
        """A tensor of data in this one's element type."""
        from chainrule.tensor.tensor import tensor

        return tensor(data, dtype or self.dtype, device=device)

    def new_full(
        self: Any, size: Any, value: float, dtype: object = None, device: object = None
    ) -> Tensor:
        """One number in a new shape and this element type."""
        from chainrule.tensor.functions import full

        require_cpu(device)
        return full(size, value, dtype=dtype or self.dtype)

    def new_zeros(self: Any, *size: Any, dtype: object = None, device: object = None) -> Tensor:
        """Zeros in a new shape and this element type."""
        return self._new(0, size, dtype, device)  # type: ignore[no-any-return]

    def new_ones(self: Any, *size: Any, dtype: object = None, device: object = None) -> Tensor:
        """Ones in a new shape and this element type."""
        return self._new(1, size, dtype, device)  # type: ignore[no-any-return]

    def _new(self: Any, value: float, size: Any, dtype: object, device: object) -> Tensor:
        lengths = size[0] if size and not isinstance(size[0], int) else size
        return self.new_full(lengths, value, dtype, device)  # type: ignore[no-any-return]

    # ------------------------------------------------------------------ type and device

    def type(self: Any, dtype: Any = None) -> Any:
        """The tensor in another element type; without one, the name PyTorch gives to its own."""
        if dtype is None:
            return f"torch.{_TYPE_NAMES.get(self.dtype.name, self.dtype.name)}Tensor"
        if isinstance(dtype, str):  # "torch.FloatTensor"
            short = dtype.removeprefix("torch.").removesuffix("Tensor")
            names = {said: name for name, said in _TYPE_NAMES.items()}
            dtype = names.get(short, dtype)
        elif not isinstance(dtype, np.dtype) and hasattr(dtype, "dtype"):
            dtype = dtype.dtype  # torch.FloatTensor
        return self.to(as_dtype(dtype))

    def is_floating_point(self: Any) -> bool:
        """Whether the entries are floats."""
        return is_float(self.dtype)

    def cuda(self, device: object = None) -> Tensor:
        """Refused: tensors are on the CPU.

        Raises:
            DeviceError: always.
        """
        require_cpu("cuda")
        return self  # type: ignore[return-value]

    def half(self) -> Tensor:
        """Refused: there are no 16-bit floats.

        Raises:
            MissingFeatureError: always.
        """
        raise MissingFeatureError(
            name="Tensor.half",
            mend="use float32, or .double()",
            mend_zh="请用 float32,或 .double()",
        )

    bfloat16 = half

    @property
    def is_cuda(self) -> bool:
        """False: tensors are on the CPU."""
        return False

    def nelement(self: Any) -> int:
        """The number of entries."""
        return int(self.numel())

    def ndimension(self: Any) -> int:
        """The number of axes."""
        return int(self.ndim)

    def is_contiguous(self) -> bool:
        """True; layout is not visible here."""
        return True

    def reshape_as(self: Any, other: Tensor) -> Tensor:
        """The entries under the shape of another tensor."""
        made: Tensor = self.reshape(*other.shape)
        return made
