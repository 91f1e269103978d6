"""Positions of tokens: attention alone does not see their order."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from chainrule.core.dtype import DType, as_dtype, default_dtype
from chainrule.errors import ShapeError
from chainrule.nn import functional, init
from chainrule.nn.module import Module, Parameter
from chainrule.tensor.tensor import Tensor, tensor


class LearnedPositions(Module):
    """x + P[position]: a learned vector for every position, as in GPT and BERT.

    Args:
        max_len: the number of positions.
        d_model: width of the tokens.

    Shapes: x (..., T, d_model), ``weight`` (max_len, d_model), drawn from N(0, 0.02^2).

    Raises:
        ShapeError: more than ``max_len`` tokens.

    Example:
        >>> import chainrule as cr
        >>> LearnedPositions(10, 4)(cr.ones(2, 3, 4)).shape
        (2, 3, 4)
    """

    def __init__(self, max_len: int, d_model: int, dtype: object = None) -> None:
        kind = as_dtype(dtype) if dtype is not None else default_dtype()
        self.weight = Parameter(np.zeros((max_len, d_model), kind))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """The tokens with their positions added; ``positions`` (T,), or 0 ... T - 1."""
        return x + _rows(self.weight, x, positions)


class SinusoidalPositions(Module):
    """x + P[position]: waves of many lengths, nothing to learn.

    P[m, 2i] = sin(m / 10000^(2i / d)), P[m, 2i + 1] = cos(m / 10000^(2i / d)), d the width.

    Args:
        d_model: width of the tokens.
        max_len: the number of positions that the table has.
        dropout: share of the sum's entries dropped in training.

    Shapes: x (..., T, d_model).

    Raises:
        ShapeError: more than ``max_len`` tokens.

    Example:
        >>> import chainrule as cr
        >>> SinusoidalPositions(2)(cr.zeros(2, 2))[1].tolist()
        [0.84147..., 0.54030...]

    Source: Vaswani et al., "Attention is all you need", 2017, section 3.5.
    """

    def __init__(self, d_model: int, max_len: int = 5000, dropout: float = 0.0) -> None:
        self.d_model = d_model
        self.max_len = max_len
        self.dropout = dropout

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """The tokens with their positions added; ``positions`` (T,), or 0 ... T - 1."""
        table = _sinusoids(self.max_len, self.d_model, x.dtype)
        return functional.dropout(x + _rows(table, x, positions), self.dropout, self.training)

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, max_len={self.max_len}"


@lru_cache(maxsize=16)
def _sinusoids(length: int, width: int, dtype: DType) -> Tensor:
    """The table P, computed in float64: far out, float32 would miss the angles."""
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    table = np.zeros((length, width))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : width // 2])
    return tensor(table, dtype)  # type: ignore[no-any-return]


class RotaryPositions(Module):
    """Queries and keys turned by angles that grow with their positions.

    The dot product of a query and a key then depends on the distance of their positions; see
    :func:`chainrule.nn.functional.rotary_embedding`. Values are not turned.

    Args:
        base: of the wavelengths.
        interleaved: neighbours make a pair, as in the paper, instead of entries d / 2 apart.

    Shapes: x (..., T, head_dim), an even width.

    Example:
        >>> import chainrule as cr
        >>> RotaryPositions()(cr.ones(1, 2, 3, 4)).shape
        (1, 2, 3, 4)

    Source: Su et al., "RoFormer: enhanced Transformer with rotary position embedding", 2021.
    """

    def __init__(self, base: float = 10000.0, interleaved: bool = False) -> None:
        self.base = base
        self.interleaved = interleaved

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """The same shape; ``positions`` (T,), or 0 ... T - 1."""
        return functional.rotary_embedding(x, positions, self.base, self.interleaved)

    def extra_repr(self) -> str:
        return f"base={self.base}, interleaved={self.interleaved}"


def _rows(table: Tensor, x: Tensor, positions: Tensor | None) -> Tensor:
    """The rows (T, d) of a table (max_len, d) for the tokens x (..., T, d)."""
    if positions is not None:
        return table[positions]
    length, most = x.shape[-2], table.shape[0]
    if length > most:
        raise ShapeError(
            op="positions",
            expected=f"at most {most} tokens",
            got=length,
            mend="cut the text, or make max_len larger",
        )
    return table[:length]
