"""Attention and rotary positions as functions; ``nn.functional`` shows them too."""

from __future__ import annotations

import numpy as np

from chainrule.core.ops import attention, functions, random, shape
from chainrule.errors import OptionError, ShapeError
from chainrule.tensor.functions import cat, stack
from chainrule.tensor.state import random_node
from chainrule.tensor.tensor import Tensor, wrap

__all__ = ["rotary_embedding", "scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale Q K^T + mask) V: each query takes a weighted mean of the values.

    Args:
        query: (..., L, E).
        key: (..., S, E).
        value: (..., S, Ev).
        attn_mask: stretches to (..., L, S). Truth values: true where a query **may** look at a key
            (the layers' masks say where it may not). Floats are added to the scores.
        dropout_p: share of the weights that is dropped; 0 outside training is the caller's affair.
        is_causal: query i looks at keys 0 to i only; with ``attn_mask``, both hold.
        scale: 1 / sqrt(E) where it is not given.
        enable_gqa: queries (..., Hq, L, E) share fewer keys and values (..., H, S, E): head i of
            the queries takes head i // (Hq / H).

    Returns:
        (..., L, Ev). A query that may look at no key gives zeros, as in PyTorch.

    Raises:
        ShapeError: widths, lengths or numbers of heads that don't fit.
        OptionError: ``dropout_p`` outside 0 to 1.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.nn import functional as F
        >>> x = cr.randn(2, 5, 8)
        >>> F.scaled_dot_product_attention(x, x, x, is_causal=True).shape
        (2, 5, 8)

    Source: Vaswani et al., "Attention is all you need", 2017; Ainslie et al., "GQA", 2023.
    """
    if enable_gqa:
        key, value = _grouped(query, key), _grouped(query, value)
    output, _ = attend(query, key, value, attn_mask, dropout_p, is_causal, scale)
    return output


def _grouped(query: Tensor, x: Tensor) -> Tensor:
    """Keys or values with as many heads as the queries have."""
    if min(query.ndim, x.ndim) < 3 or query.shape[-3] % max(x.shape[-3], 1):
        raise ShapeError(
            op="grouped queries",
            expected="heads (axis -3) of the queries that are a multiple of the keys' and values'",
            got=f"{query.shape} and {x.shape}",
            mend="",
        )
    return wrap(attention.repeat_heads(x.node, query.shape[-3] // max(x.shape[-3], 1)))


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    p: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`scaled_dot_product_attention`, and the weights that the values were taken with."""
    if not 0 <= p <= 1:
        raise OptionError(name="dropout_p", expected="between 0 and 1", got=p, mend="")
    q, k, v = query.node, key.node, value.node
    u = None
    if p:
        batch = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        u = random_node(random.random_uniform, (*batch, q.shape[-2], k.shape[-2]), dtype=q.dtype)
    output, weights = attention.attention(
        q, k, v, None if mask is None else mask.node,
        causal=causal, scale=scale, dropout_u=u, p=p,
    )  # fmt: skip
    if u is not None:
        weights = functions.dropout(weights, u, p=float(p))
    return wrap(output), wrap(weights)


def rotary_embedding(
    x: Tensor,
    positions: Tensor | None = None,
    base: float = 10000.0,
    interleaved: bool = False,
) -> Tensor:
    """Each pair of entries of a query or key turned by an angle that grows with its position.

    Pair i of position m turns by m base^(-2i / d), so that the dot product of a query and a key
    depends on the distance of their positions alone.

    Args:
        x: (..., T, d), d even.
        positions: (T,) whole numbers; 0, 1 ... T - 1 where not given.
        base: of the wavelengths, which grow from 2 pi to 2 pi base.
        interleaved: pairs are (0, 1), (2, 3) ... as in the paper; else (0, d/2), (1, d/2 + 1) ...
            as in Llama and GPT-NeoX.

    Raises:
        ShapeError: d is odd.

    Example:
        >>> import chainrule as cr
        >>> rotary_embedding(cr.ones(1, 3, 4)).shape
        (1, 3, 4)

    Source: Su et al., "RoFormer", 2021.
    """
    *_, length, width = x.shape
    if width % 2:
        raise ShapeError(op="rotary_embedding", expected="an even width", got=x.shape, mend="")
    if positions is None:
        positions = wrap(shape.iota(length))
    exponents = wrap(shape.iota(width // 2)).to(x.dtype) * (-2 / width)
    angles = positions.to(x.dtype).unsqueeze(-1) * base**exponents
    sin, cos = angles.sin(), angles.cos()
    if interleaved:
        pairs = x.reshape(*x.shape[:-1], width // 2, 2)
        a, b = pairs[..., 0], pairs[..., 1]
        return stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(*x.shape)
    a, b = x[..., : width // 2], x[..., width // 2 :]
    return cat([a * cos - b * sin, a * sin + b * cos], -1)
