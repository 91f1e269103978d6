"""Sums of products: Einstein's summation, products of batches of matrices."""

from __future__ import annotations

from chainrule.core.ops import einsum as lowering
from chainrule.errors import ShapeError
from chainrule.tensor.tensor import Tensor, wrap

__all__ = ["einsum", "bmm", "baddbmm"]


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """Products of entries, summed over every letter that the result does not name.

    ``einsum("bij,bjk->bik", a, b)`` is y[b, i, k] = sum over j of a[b, i, j] b[b, j, k]. It is
    lowered to permutations, matrix products and sums; terms are joined from left to right.

    Args:
        equation: one letter per axis, terms separated by commas, ``->`` and the result's letters.
            A letter twice in a term takes the diagonal. ``...`` stands for axes that broadcast.
            Without ``->``, the result has the letters that occur once, in alphabetical order.
        operands: one tensor per term; an axis of length 1 stretches.

    Raises:
        OptionError: an equation that can't be read, or does not fit the operands.
        ShapeError: a letter stands for two lengths.

    Example:
        >>> import chainrule as cr
        >>> a = cr.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> cr.einsum("ij,j->i", a, cr.tensor([1.0, 1.0])).tolist()
        [3.0, 7.0]
    """
    return wrap(lowering.einsum(equation, *(x.node for x in operands)))


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """The product of each matrix of one batch with its partner: (b, n, m), (b, m, p) to (b, n, p).

    Raises:
        ShapeError: other than three axes (``matmul`` takes any number), or lengths that don't fit.

    Example:
        >>> import chainrule as cr
        >>> cr.bmm(cr.ones(2, 3, 4), cr.ones(2, 4, 5)).shape
        (2, 3, 5)
    """
    for x in (a, b):
        if x.ndim != 3:
            raise ShapeError(op="bmm", expected="three axes", got=x.shape, mend="use matmul")
    return a @ b


def baddbmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta x + alpha a b, for batches of matrices; x broadcasts.

    Example:
        >>> import chainrule as cr
        >>> cr.baddbmm(cr.ones(1), cr.ones(2, 1, 3), cr.ones(2, 3, 1)).tolist()
        [[[4.0]], [[4.0]]]
    """
    return x * beta + bmm(a, b) * alpha
