"""``torch.autograd``: gradients without ``backward``, and functions with their own gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.core.grad import gradients
from chainrule.errors import NoGradientError, NotScalarError, OptionError
from chainrule.like_torch.missing import refuse
from chainrule.tensor.tensor import Tensor, wrap
from chainrule.tensor.transforms import function, gradcheck

__all__ = ["Function", "FunctionCtx", "Variable", "backward", "grad", "gradcheck"]

__path__: list[str] = []


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """d(outputs)/d(each input), without touching ``.grad``.

    Args:
        outputs: tensors with one entry, or any with ``grad_outputs``.
        inputs: the tensors to differentiate by.
        grad_outputs: dL/d(output) of each output; 1 when not given.
        retain_graph: accepted; graphs are always kept while they are used.
        create_graph: accepted; gradients always have gradients.
        allow_unused: give None for an input the outputs do not depend on.

    Raises:
        NotScalarError: an output with several entries and no ``grad_outputs``.
        NoGradientError: an input the outputs do not depend on.

    Example:
        >>> import chainrule.like_torch as torch
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> (dx,) = torch.autograd.grad(x**2, x, create_graph=True)
        >>> dx.item(), torch.autograd.grad(dx, x)[0].item()
        (6.0, 2.0)
    """
    tops, leaves = _listed(outputs), _listed(inputs)
    seeds = None if grad_outputs is None else [g.node for g in _listed(grad_outputs)]
    for top in tops if seeds is None else []:
        if top.numel() != 1:
            raise NotScalarError(
                op="autograd.grad", shape=top.shape, mend="take .sum(), or give grad_outputs"
            )
    found = gradients([top.node for top in tops], [leaf.node for leaf in leaves], seeds)
    if not allow_unused and None in found:
        raise NoGradientError(
            op="autograd.grad",
            reason=f"the outputs do not depend on input {found.index(None)}",
            reason_zh=f"输出与第 {found.index(None)} 个输入无关",
            mend="use it in the outputs, or give allow_unused=True",
            mend_zh="在输出中使用它,或给出 allow_unused=True",
        )
    return tuple(None if node is None else wrap(node) for node in found)


def _listed(tensors: Any) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def backward(tensors: Tensor | Sequence[Tensor], grad_tensors: Any = None) -> None:
    """``backward()`` of each tensor."""
    tops = _listed(tensors)
    seeds = [None] * len(tops) if grad_tensors is None else _listed(grad_tensors)
    for top, seed in zip(tops, seeds, strict=True):
        top.backward(seed)


def Variable(data: Tensor, requires_grad: bool = False) -> Tensor:
    """The tensor itself (needed in PyTorch before 0.4)."""
    return data.requires_grad_() if requires_grad else data


# ------------------------------------------------------------- functions with their own gradient


class FunctionCtx:
    """What ``forward`` leaves for ``backward``: saved tensors, and any attribute.

    Attributes:
        saved_tensors: what :meth:`save_for_backward` was given.
        needs_input_grad: for each argument, whether its gradient is asked for.
    """

    saved_tensors: tuple[Tensor | None, ...] = ()
    needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for ``backward``."""
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Accepted; ``backward`` says which gradients there are."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"forward() left no {name!r} for backward()")


class Function:
    """A function with a gradient of its own: write ``forward`` and ``backward``, call ``apply``.

    It is a named function, as :func:`chainrule.function` makes, so both parts are written with
    tensor functions (asking for ``item()`` or ``numpy()`` inside is an error), gradients of
    gradients work, and a derivation shows both parts. Arguments that are not tensors are
    fixed attributes: numbers, text, None, and tuples of these.

    Example:
        >>> import chainrule.like_torch as torch
        >>> class Square(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x * x
        ...     @staticmethod
        ...     def backward(ctx, grad_output):
        ...         (x,) = ctx.saved_tensors
        ...         return 2 * x * grad_output
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> Square.apply(x).backward()
        >>> x.grad.item()
        6.0
    """

    _named: Any = None  # the named function of this class, made at its first use

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """The value; the first argument is the context, unless there is a ``setup_context``."""
        raise NotImplementedError("write forward() as a static method")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """dL/d(each argument of forward) from dL/d(each result); None where there is none."""
        raise NotImplementedError("write backward() as a static method")

    setup_context: Any = None  # (ctx, inputs, output), for a forward without a context

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The value at the arguments, with the gradient that ``backward`` says."""
        if "_named" not in vars(cls):
            cls._named = function(cls._body, name=cls.__name__, derivative=cls._derivative)
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        fixed = {_slot(i): arg for i, arg in enumerate(args) if not isinstance(arg, Tensor)}
        return cls._named(*tensors, **fixed)

    @classmethod
    def _run(cls, ctx: FunctionCtx, args: Sequence[Any]) -> Any:
        """``forward``, in either of the two ways of writing it."""
        if cls.setup_context is None:
            return cls.forward(ctx, *args)
        output = cls.forward(*args)
        cls.setup_context(ctx, tuple(args), output)
        return output

    @classmethod
    def _body(cls, *tensors: Tensor, **fixed: Any) -> Any:
        return cls._run(FunctionCtx(), _arguments(tensors, fixed))

    @classmethod
    def _derivative(cls, g: Any, y: Any, *tensors: Tensor, **fixed: Any) -> tuple[Any, ...]:
        """``forward`` is built once more for what it saves; what ``backward`` leaves is not run."""
        ctx, args = FunctionCtx(), _arguments(tensors, fixed)
        ctx.needs_input_grad = tuple(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
        made, results = _tupled(cls._run(ctx, args)), _tupled(y)
        computed = dict(zip(map(id, made), results, strict=True))
        ctx.saved_tensors = tuple(computed.get(id(x), x) for x in ctx.saved_tensors)
        parts = _tupled(cls.backward(ctx, *_tupled(g)))
        # None for an optional argument that was left out is one too many, and allowed.
        if len(parts) < len(args) or any(part is not None for part in parts[len(args) :]):
            raise OptionError(
                name=f"what {cls.__name__}.backward returns",
                expected=f"{len(args)} gradients, one for each argument of forward",
                got=len(parts), mend="return None for an argument without a gradient",
            )  # fmt: skip
        return tuple(
            part for part, arg in zip(parts, args, strict=False) if isinstance(arg, Tensor)
        )


def _slot(position: int) -> str:
    return f"argument_{position}"


def _arguments(tensors: Sequence[Tensor], fixed: dict[str, Any]) -> list[Any]:
    """The arguments in order, from the tensors among them and the others by position."""
    given = iter(tensors)
    slots = [_slot(position) for position in range(len(tensors) + len(fixed))]
    return [fixed[slot] if slot in fixed else next(given) for slot in slots]


def _tupled(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


__getattr__ = refuse(__name__)
