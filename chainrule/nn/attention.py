"""Attention with several heads, and the cache that makes decoding cheap."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence

import numpy as np

from chainrule.core.dtype import as_dtype, bool_, default_dtype, int64
from chainrule.core.ops import attention, shape
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import functional, init
from chainrule.nn.functional_attention import attend
from chainrule.nn.layers import Linear
from chainrule.nn.module import Buffer, Module, Parameter, takes_device
from chainrule.tensor.functions import cat, full, where, zeros
from chainrule.tensor.tensor import Tensor, wrap


class KVCache:
    """Keys and values of the tokens so far, so that decoding computes each only once.

    Room for ``capacity`` tokens is taken at once, and how many there are is a value, not a shape: a
    compiled decoding step is traced once and serves every position. A cache is for inference: no
    gradient passes it.

    Attributes:
        keys, values: (batch, heads, capacity, head_dim); zeros from ``length`` on.
        length: how many tokens there are, int64.

    Raises:
        IndexRangeError: more tokens than ``capacity``.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> attention = nn.MultiheadAttention(8, 2, batch_first=True)
        >>> cache = nn.KVCache(batch=1, heads=2, capacity=16, head_dim=4)
        >>> for token in cr.randn(3, 1, 1, 8):
        ...     y, _ = attention(token, token, token, cache=cache)
        >>> cache.length.item()
        3
    """

    def __init__(
        self, batch: int, heads: int, capacity: int, head_dim: int, dtype: object = None
    ) -> None:
        kind = as_dtype(dtype) if dtype is not None else default_dtype()
        self.keys = Buffer(np.zeros((batch, heads, capacity, head_dim), kind))
        self.values = Buffer(np.zeros((batch, heads, capacity, head_dim), kind))
        self.length = Buffer(np.array(0, int64))

    def positions(self, count: int) -> Tensor:
        """The positions of the next ``count`` tokens: (count,)."""
        return self.length + wrap(shape.iota(count))

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take in new keys and values (batch, heads, T, head_dim).

        Returns:
            All keys, all values, and the mask (T, capacity): true where a new token may look, at
            itself and at those before it.
        """
        new = self.positions(keys.shape[-2])
        self.keys.copy_(wrap(shape.put(self.keys.node, new.node, keys.node, 2)))
        self.values.copy_(wrap(shape.put(self.values.node, new.node, values.node, 2)))
        self.length.add_(keys.shape[-2])
        capacity = wrap(shape.iota(self.keys.shape[2]))
        return self.keys, self.values, capacity <= new.unsqueeze(-1)

    def reorder(self, rows: Tensor) -> None:
        """Row i of the batch becomes what row ``rows[i]`` was: for beam search."""
        self.keys.copy_(self.keys[rows])
        self.values.copy_(self.values[rows])

    def reset(self) -> None:
        """Forget all tokens."""
        self.length.zero_()


class MultiheadAttention(Module):
    """Several attentions side by side, each in a part of the width of its own.

    head_h = softmax(Q_h K_h^T / sqrt(d)) V_h with Q = query W_q^T + b_q, K = key W_k^T + b_k,
    V = value W_v^T + b_v cut into heads of width d = embed_dim / num_heads; the result is
    [head_1, head_2 ...] W_o^T + b_o.

    Parameters, as in PyTorch: ``in_proj_weight`` (3 embed_dim, embed_dim) holds W_q, W_k and W_v;
    where ``kdim`` or ``vdim`` differ from ``embed_dim`` they are ``q_proj_weight``,
    ``k_proj_weight`` (embed_dim, kdim) and ``v_proj_weight`` (embed_dim, vdim). ``in_proj_bias``
    (3 embed_dim,), ``out_proj.weight``, ``out_proj.bias``; ``bias_k``, ``bias_v`` with
    ``add_bias_kv``.

    Args:
        embed_dim: width of the queries and of the result.
        num_heads: how many heads; divides ``embed_dim``.
        dropout: share of the attention weights dropped in training.
        bias: whether the projections have a bias.
        add_bias_kv: one learned key and value more.
        add_zero_attn: one key and value of zeros more.
        kdim, vdim: widths of the keys and of the values; ``embed_dim`` where not given.
        batch_first: (batch, length, width) instead of (length, batch, width).
        dtype: element type of the parameters.

    Raises:
        OptionError: ``num_heads`` does not divide ``embed_dim``.
        ShapeError: a wrong width of query, key or value.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> attention = nn.MultiheadAttention(8, num_heads=2, batch_first=True)
        >>> x = cr.randn(4, 5, 8)
        >>> y, weights = attention(x, x, x)
        >>> y.shape, weights.shape
        ((4, 5, 8), (4, 5, 5))

    Source: Vaswani et al., "Attention is all you need", 2017.
    """

    @takes_device
    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: object = None,
    ) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            raise OptionError(
                name="embed_dim",
                expected=f"a multiple of num_heads={num_heads}",
                got=embed_dim,
                mend="each head takes an equal part of the width",
            )
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.add_zero_attn = add_zero_attn
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first
        kind = as_dtype(dtype) if dtype is not None else default_dtype()

        def parameter(*lengths: int) -> Parameter:
            return Parameter(np.zeros(lengths, kind))

        one_weight = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = parameter(3 * embed_dim, embed_dim) if one_weight else None
        self.q_proj_weight = None if one_weight else parameter(embed_dim, embed_dim)
        self.k_proj_weight = None if one_weight else parameter(embed_dim, self.kdim)
        self.v_proj_weight = None if one_weight else parameter(embed_dim, self.vdim)
        self.in_proj_bias = parameter(3 * embed_dim) if bias else None
        self.bias_k = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.bias_v = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values: Xavier-uniform weights, biases of 0."""
        weights = self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        for weight in weights:
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        cache: KVCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from every query to the keys.

        Args:
            query: (length, batch, embed_dim), or (batch, length, embed_dim) with ``batch_first``,
                or (length, embed_dim).
            key, value: the same with S in the place of length, and their own widths.
            key_padding_mask: (batch, S); true for keys to **leave out**, or floats to add.
            need_weights: return the weights too.
            attn_mask: (length, S) or (batch * num_heads, length, S); true where a query may **not**
                look, or floats to add.
            average_attn_weights: weights as their mean over the heads.
            is_causal: query i looks at keys 0 to i only; PyTorch wants the mask beside it, here it
                may be left out.
            cache: keys and values of the tokens before these, which they are added to. The queries
                look at all of them, and causally at each other; S is the cache's capacity.

        Returns:
            The result, shaped as the query; the weights (batch, length, S), or
            (batch, num_heads, length, S) without averaging, or None. A query that may look at no
            key has weights 0 (in PyTorch, NaN where the weights are asked for).
        """
        batched = query.ndim == 3
        q, k, v = self._projected(query, key, value)
        masks = self._masks(key_padding_mask, attn_mask)
        if cache is not None:
            k, v, allowed = cache.append(k, v)
            masks.append(~allowed)
            is_causal = False
        extra = self._extra_keys(k)
        if extra and is_causal:  # the causal flag would hide them
            masks.append(~causal_mask(q.shape[-2], k.shape[-2]))
            is_causal = False
        for more_k, more_v in extra:
            k, v = cat([k, more_k], 2), cat([v, more_v], 2)
        p = self.dropout if self.training else 0.0
        output, weights = attend(q, k, v, _joined(masks, len(extra), q), p, is_causal)
        output = self.out_proj(output.transpose(1, 2).flatten(2))
        if average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            output, weights = output.squeeze(0), weights.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        return output, weights if need_weights else None

    def _projected(self, *inputs: Tensor) -> list[Tensor]:
        """Query, key and value, each (batch, heads, length, head_dim).

        Three products even where the three are one tensor: so Q, K and V stand in a derivation.
        """
        weights: Sequence[Tensor | None] = (
            self.q_proj_weight,
            self.k_proj_weight,
            self.v_proj_weight,
        )
        if self.in_proj_weight is not None:
            weights = _thirds(self.in_proj_weight)
        biases = [None] * 3 if self.in_proj_bias is None else _thirds(self.in_proj_bias)
        made = []
        for name, x, weight, bias in zip(
            ("query", "key", "value"), inputs, weights, biases, strict=True
        ):
            assert weight is not None
            self._check(name, x, weight.shape[1])
            made.append(self._heads(functional.linear(x, weight, bias)))
        return made

    def _check(self, name: str, x: Tensor, width: int) -> None:
        if x.ndim not in (2, 3) or x.shape[-1] != width:
            raise ShapeError(
                op=f"MultiheadAttention {name}",
                expected=f"2 or 3 axes, the last with {width} entries",
                got=x.shape,
                mend="embed_dim, kdim and vdim are the widths of query, key and value",
            )

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, length, width), in the layer's order of axes, to (batch, heads, length, d)."""
        if x.ndim == 2:
            x = x.unsqueeze(0)
        elif not self.batch_first:
            x = x.transpose(0, 1)
        return x.reshape(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def _masks(self, padding: Tensor | None, attn: Tensor | None) -> list[Tensor]:
        """What was given, each stretching to (batch, heads, length, S)."""
        masks = []
        if padding is not None:
            masks.append(padding.reshape(-1, 1, 1, padding.shape[-1]))
        if attn is not None and attn.ndim == 3:
            attn = attn.reshape(-1, self.num_heads, *attn.shape[1:])
        if attn is not None:
            masks.append(attn)
        return masks

    def _extra_keys(self, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values (batch, heads, 1, head_dim) that every query may look at."""
        lengths = (like.shape[0], self.num_heads, 1, self.head_dim)
        found: list[tuple[Tensor, Tensor]] = []
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (x.reshape(1, self.num_heads, 1, -1) for x in (self.bias_k, self.bias_v))
            found.append((k.expand(lengths), v.expand(lengths)))
        if self.add_zero_attn:
            zero = zeros(lengths, dtype=like.dtype)
            found.append((zero, zero))
        return found

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for this layer."""
        dtype = self.out_proj.weight.dtype
        return KVCache(batch, self.num_heads, capacity, self.head_dim, dtype)

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"


def causal_mask(queries: int, keys: int) -> Tensor:
    """True where query i may look at key j: j <= i."""
    return wrap(attention.causal_mask(queries, keys))


def _thirds(x: Tensor) -> list[Tensor]:
    """The rows of the query, of the key and of the value."""
    size = x.shape[0] // 3
    return [x[i * size : (i + 1) * size] for i in range(3)]


def _joined(masks: Sequence[Tensor], extra: int, like: Tensor) -> Tensor | None:
    """Masks that forbid or add as one that allows or adds; ``extra`` keys at the end are open."""
    if not masks:
        return None
    opened = [
        wrap(shape.pad(mask.node, (0,) * mask.ndim, (*(0,) * (mask.ndim - 1), extra)))
        for mask in masks
    ]
    if all(mask.dtype == bool_ for mask in opened):
        return ~functools.reduce(operator.or_, opened)
    lowest = full((), -math.inf, dtype=like.dtype)
    added = [where(mask, lowest, 0.0) if mask.dtype == bool_ else mask for mask in opened]
    return functools.reduce(operator.add, added)
