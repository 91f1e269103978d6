"""Scaled dot-product attention as one named function.

Source: Vaswani et al., "Attention is all you need", 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from chainrule.core.dtype import bool_, int64, is_float
from chainrule.core.graph import Node, ResultType, TensorType
from chainrule.core.op import (
    Joint,
    Notation,
    Op,
    broadcast_shape,
    common_dtype,
    lift,
    register,
    results,
)
from chainrule.core.ops.arithmetic import equal, less_equal, where
from chainrule.core.ops.functions import dropout, softmax
from chainrule.core.ops.linear import MATMUL
from chainrule.core.ops.reduction import amax, sum
from chainrule.core.ops.shape import broadcast_to, iota, reshape, transpose, unsqueeze
from chainrule.errors import OptionError, ShapeError


def causal_mask(queries: int, keys: int) -> Node:
    """True where query i may look at key j: j <= i."""
    return less_equal(unsqueeze(iota(keys, int64), 0), unsqueeze(iota(queries, int64), 1))


def _split(extras: tuple[Node, ...], p: float) -> tuple[Node | None, Node | None]:
    """The mask and the uniform numbers of dropout, of those that there are."""
    given = list(extras)
    u = given.pop() if p else None
    return (given[0] if given else None), u


def _attention(
    q: Node, k: Node, v: Node, *extras: Node, scale: float, causal: bool, p: float
) -> tuple[Node, Node]:
    mask, u = _split(extras, p)
    scores = MATMUL(q, transpose(k)) * scale
    if mask is not None:
        scores = where(mask, scores, -math.inf) if mask.dtype == bool_ else scores + mask
    if causal:
        scores = where(causal_mask(*scores.shape[-2:]), scores, -math.inf)
    weights = _softmax_of_rows(scores) if mask is not None else softmax(scores)
    kept = weights if u is None else dropout(weights, u, p=p)
    return MATMUL(kept, v), weights


def _softmax_of_rows(scores: Node) -> Node:
    """Softmax, but zeros in a row that is masked altogether."""
    empty = equal(broadcast_to(amax(scores, -1, keepdim=True), scores.shape), -math.inf)
    return where(empty, 0.0, softmax(where(empty, 0.0, scores)))


def _attention_rule(
    g: Sequence[Node],
    y: Sequence[Node],
    q: Node,
    k: Node,
    v: Node,
    *extras: Node,
    scale: float,
    causal: bool,
    p: float,
) -> Sequence[Node | None]:
    mask, u = _split(extras, p)
    weights = y[1]
    kept = weights if u is None else dropout(weights, u, p=p)
    g_kept = MATMUL(g[0], transpose(v))
    g_weights = g[1] + (g_kept if u is None else dropout(g_kept, u, p=p))
    g_scores = weights * (g_weights - sum(g_weights * weights, -1, keepdim=True))
    g_mask = g_scores if mask is not None and is_float(mask.dtype) else None
    return (
        MATMUL(g_scores, k) * scale,
        MATMUL(transpose(g_scores), q) * scale,
        MATMUL(transpose(kept), g[0]),
        *([g_mask] if mask is not None else []),
        *([None] if u is not None else []),
    )


def _attention_type(
    q: TensorType, k: TensorType, v: TensorType, *extras: TensorType, **attrs: object
) -> ResultType:
    if q.shape[-1] != k.shape[-1]:
        raise ShapeError(
            op="scaled_dot_product_attention",
            expected=f"keys as wide as the queries, {q.shape[-1]}",
            got=k.shape,
            mend="queries (..., L, E), keys (..., S, E), values (..., S, Ev)",
        )
    if k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            op="scaled_dot_product_attention",
            expected=f"a value for each of the {k.shape[-2]} keys",
            got=v.shape,
            mend="queries (..., L, E), keys (..., S, E), values (..., S, Ev)",
        )
    weights = (*q.shape[:-1], k.shape[-2])
    return TensorType((*q.shape[:-1], v.shape[-1]), q.dtype), TensorType(weights, q.dtype)


def _attention_operands(op: Op, *operands: Node) -> tuple[Node, ...]:
    """One element type; batch axes and the mask stretched to the scores' shape."""
    q, k, v, *extras = operands
    for name, x in (("queries", q), ("keys", k), ("values", v)):
        if x.ndim < 2:
            raise ShapeError(
                op=op.name, expected=f"{name} with at least two axes", got=x.shape, mend=""
            )
    dtype = common_dtype(op, (q, k, v, *(x for x in extras if x.dtype != bool_)))
    batch = broadcast_shape(op, [x.shape[:-2] for x in (q, k, v)])
    q, k, v = (broadcast_to(lift(x, dtype), (*batch, *x.shape[-2:])) for x in (q, k, v))
    scores = (*batch, q.shape[-2], k.shape[-2])
    return (
        q,
        k,
        v,
        *(broadcast_to(x if x.dtype == bool_ else lift(x, dtype), scores) for x in extras),
    )


ATTENTION = register(
    Op(
        "scaled_dot_product_attention",
        _attention_type,
        derivative=Joint(_attention_rule),
        notation=Notation(
            "softmax({scale} {0} {1}^T) {2}",
            r"\operatorname{{softmax}}\left({scale}\, {0} {1}^\top\right) {2}",
        ),
        body=_attention,
        operands=_attention_operands,
        arity=None,
    )
)


def repeat_heads(x: Node, times: int) -> Node:
    """Each head (axis -3) ``times`` times, one beside the other."""
    if times == 1:
        return x
    *batch, heads, length, width = x.shape
    copies = broadcast_to(unsqueeze(x, -3), (*batch, heads, times, length, width))
    return reshape(copies, (*batch, heads * times, length, width))


def attention(
    q: Node,
    k: Node,
    v: Node,
    mask: Node | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    dropout_u: Node | None = None,
    p: float = 0.0,
) -> tuple[Node, Node]:
    """softmax(scale q k^T + mask) v, and the softmax's rows.

    Args:
        q, k, v: (..., L, E), (..., S, E), (..., S, Ev); other axes broadcast.
        mask: stretches to (..., L, S); true where a query may look at a key, or added to scores.
        causal: query i sees the keys up to number i only.
        scale: 1 / sqrt(E) where it is not given.
        dropout_u: uniform numbers (..., L, S) that decide which weights are dropped.
        p: the share of weights dropped.

    Returns:
        (..., L, Ev), and the weights (..., L, S) before dropout. A query that may look at no key
        has weights 0 and result 0, as in PyTorch.
    """
    if mask is not None and not (mask.dtype == bool_ or is_float(mask.dtype)):
        raise OptionError(
            name="attn_mask",
            expected="true and false, or floats that are added to the scores",
            got=mask.dtype,
            mend="mask.bool()",
        )
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1]) if q.shape and q.shape[-1] else 1.0
    extras = [x for x in (mask, dropout_u) if x is not None]
    made = ATTENTION(q, k, v, *extras, scale=float(scale), causal=bool(causal), p=float(p))
    output, weights = results(made)
    return output, weights
