"""Embeddings: vectors for words, letters, or anything that is counted."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from chainrule.core.dtype import as_dtype, default_dtype
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import init
from chainrule.nn.functional_embedding import embedding, embedding_bag, row_number
from chainrule.nn.module import Module, Parameter, takes_device
from chainrule.tensor.functions import arange, where
from chainrule.tensor.tensor import Tensor, to_array


class _Table(Module):
    """A table of vectors."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        max_norm: float | None,
        dtype: object,
    ) -> None:
        if max_norm is not None:
            raise OptionError(
                name="max_norm", expected="None", got=max_norm,
                mend="weight decay, or clip the rows after optimizer.step()",
            )  # fmt: skip
        for name, value in (("num_embeddings", num_embeddings), ("embedding_dim", embedding_dim)):
            if value < 1:
                raise OptionError(name=name, expected="at least 1", got=value)
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = row_number(padding_idx, num_embeddings)
        kind = as_dtype(dtype) if dtype is not None else default_dtype()
        self.weight = Parameter(np.zeros((num_embeddings, embedding_dim), kind))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values from N(0, 1); the padding row is 0."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            zeroed = arange(self.num_embeddings).unsqueeze(1) == self.padding_idx
            self.weight.copy_(where(zeroed, 0.0, self.weight.detach()))

    @classmethod
    def from_pretrained(cls, embeddings: Any, freeze: bool = True, **options: Any) -> Self:
        """A layer that starts from a table (rows, features); frozen unless ``freeze=False``."""
        table = to_array(embeddings)
        if table.ndim != 2:
            raise ShapeError(
                op="from_pretrained", expected="a table (rows, features)", got=table.shape
            )
        rows, features = table.shape
        made = cls(rows, features, dtype=table.dtype, **options)
        made.weight.copy_(table)
        made.weight.requires_grad_(not freeze)
        return made

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Embedding(_Table):
    """y[i] = weight[x[i]]: a learned vector for each of ``num_embeddings`` things.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: features of each.
        padding_idx: a row that starts at 0 and is not learned.
        max_norm: refused.
        sparse: accepted; gradients are dense.

    Shapes: x (...) whole numbers, weight (num_embeddings, embedding_dim), y (..., embedding_dim).
    The weight starts from N(0, 1).

    Raises:
        IndexRangeError: a number that is not in 0 .. num_embeddings - 1.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Embedding(10, 4)(cr.tensor([[1, 2, 3]])).shape
        (1, 3, 4)
    """

    @takes_device
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        *,
        sparse: bool = False,
        dtype: object = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(...) to (..., embedding_dim)."""
        return embedding(x, self.weight, self.padding_idx)


class EmbeddingBag(_Table):
    """The sum, mean or largest entry of the vectors of each bag: a bag of words.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: features of each.
        max_norm: refused.
        mode: "sum", "mean" or "max".
        sparse: accepted; gradients are dense.
        padding_idx: a row that does not count.

    Shapes: x (bags, size), or (total,) with offsets (bags,); y (bags, embedding_dim).

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.EmbeddingBag(10, 4)(cr.tensor([1, 2, 3]), offsets=cr.tensor([0, 2])).shape
        (2, 4)
    """

    @takes_device
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        *,
        mode: str = "mean",
        sparse: bool = False,
        padding_idx: int | None = None,
        dtype: object = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, max_norm, dtype)
        self.mode = mode

    def forward(
        self, x: Tensor, offsets: Any = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        """(bags, size), or (total,) with offsets, to (bags, embedding_dim)."""
        return embedding_bag(
            x, self.weight, offsets, self.mode, per_sample_weights, self.padding_idx
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode!r}"
