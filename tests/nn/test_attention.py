"""Attention: against PyTorch, its properties, its masks, and its cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as TF
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformer_twins import EXACT, hold, same_weights

import chainrule as cr
from chainrule import nn
from chainrule.errors import IndexRangeError, OptionError, ShapeError
from chainrule.nn import functional as F

RNG = np.random.default_rng(0)
N, L, S, E, H = 2, 4, 5, 6, 2
Q, K, V = RNG.normal(size=(L, N, E)), RNG.normal(size=(S, N, E)), RNG.normal(size=(S, N, E))
SECOND = np.arange(S)[None, :] >= np.array([[S], [3]])  # padding at the end of the second sample
LATER = np.triu(np.ones((L, S), bool), 1)
ADDED = RNG.normal(size=(L, S))
PER_HEAD = RNG.uniform(size=(N * H, L, S)) < 0.3
PER_HEAD[..., 0] = False


def library(module: Any) -> Any:
    return torch if isinstance(module, torch.nn.Module) else cr


# ------------------------------------------------------------------------------ against PyTorch

CONFIGURATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "no bias": ({"bias": False}, {}),
    "weights of each head": ({}, {"average_attn_weights": False}),
    "without weights": ({}, {"need_weights": False}),
    "padding": ({}, {"key_padding_mask": SECOND}),
    "mask": ({}, {"attn_mask": LATER}),
    "mask and padding": ({}, {"attn_mask": LATER, "key_padding_mask": SECOND}),
    "mask of each head": ({}, {"attn_mask": PER_HEAD, "key_padding_mask": SECOND}),
    "added": ({}, {"attn_mask": ADDED}),
    "added twice": ({}, {"attn_mask": ADDED, "key_padding_mask": np.where(SECOND, -1.5, 0)}),
    "bias_kv": ({"add_bias_kv": True}, {"attn_mask": LATER, "key_padding_mask": SECOND}),
    "zero": ({"add_zero_attn": True}, {"key_padding_mask": SECOND}),
    "bias_kv and zero": ({"add_bias_kv": True, "add_zero_attn": True}, {}),
    "causal": ({}, {"attn_mask": LATER, "is_causal": True}),
    "causal bias_kv": ({"add_bias_kv": True}, {"attn_mask": LATER, "is_causal": True}),
    "one head": ({"num_heads": 1}, {}),
}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_as_pytorch(name: str, batch_first: bool) -> None:
    made, given = CONFIGURATIONS[name]
    options = {"embed_dim": E, "num_heads": H, "batch_first": batch_first, **made}

    def call(module: Any, q: Any, k: Any, v: Any) -> Any:
        masks = {
            key: library(module).tensor(value) if isinstance(value, np.ndarray) else value
            for key, value in given.items()
        }
        return module(q, k, v, **masks)

    xs = [x.swapaxes(0, 1) for x in (Q, K, V)] if batch_first else [Q, K, V]
    hold(nn.MultiheadAttention(**options), torch.nn.MultiheadAttention(**options), xs, call)


@pytest.mark.parametrize("bias", [True, False])
def test_other_widths(bias: bool) -> None:
    options = {"kdim": 3, "vdim": 7, "bias": bias}
    keys, values = RNG.normal(size=(S, N, 3)), RNG.normal(size=(S, N, 7))
    hold(
        nn.MultiheadAttention(E, H, **options),
        torch.nn.MultiheadAttention(E, H, **options),
        [Q, keys, values],
    )


@pytest.mark.parametrize("mask", [None, LATER[:, :L], ADDED[:, :L]])
def test_self_attention(mask: Any) -> None:
    """One tensor for all three."""

    def call(module: Any, x: Any) -> Any:
        chosen = None if mask is None else library(module).tensor(mask)
        return module(x, x, x, attn_mask=chosen)

    hold(nn.MultiheadAttention(E, H), torch.nn.MultiheadAttention(E, H), [Q], call)


def test_without_batch() -> None:
    def call(module: Any, q: Any, k: Any, v: Any) -> Any:
        padding = library(module).tensor(SECOND[1])
        return module(q, k, v, key_padding_mask=padding)

    xs = [Q[:, 0], K[:, 0], V[:, 0]]
    hold(nn.MultiheadAttention(E, H), torch.nn.MultiheadAttention(E, H), xs, call)


def test_causal_needs_no_mask() -> None:
    layer = nn.MultiheadAttention(E, H, add_zero_attn=True).double()
    q, k, v = map(cr.tensor, (Q, K, V))
    expected = layer(q, k, v, attn_mask=cr.tensor(LATER))
    for found, wanted in zip(layer(q, k, v, is_causal=True), expected, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), **EXACT)


def test_initial_values() -> None:
    layer = nn.MultiheadAttention(64, 4, add_bias_kv=True)
    bound = (6 / (64 + 3 * 64)) ** 0.5
    weight = layer.in_proj_weight.numpy()
    assert 0.98 * bound < np.abs(weight).max() <= bound
    assert not layer.in_proj_bias.numpy().any()
    assert not layer.out_proj.bias.numpy().any()
    assert 0.1 < layer.bias_k.numpy().std() < 0.25  # 1 / sqrt(32)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.7}])
@pytest.mark.parametrize("groups", [1, 3])
def test_the_function(options: dict[str, Any], groups: int) -> None:
    """Grouped queries too: fewer heads of keys and values."""
    arrays = [
        RNG.normal(size=size)
        for size in [(2, 6, 4, 3), (2, 6 // groups, 5, 3), (2, 6 // groups, 5, 4)]
    ]
    xs = [cr.tensor(x, requires_grad=True) for x in arrays]
    ts = [torch.tensor(x, requires_grad=True) for x in arrays]
    y = F.scaled_dot_product_attention(*xs, **options, enable_gqa=groups > 1)
    with sdpa_kernel(SDPBackend.MATH):
        z = TF.scaled_dot_product_attention(*ts, **options, enable_gqa=groups > 1)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), **EXACT)
    (y * y).sum().backward()
    (z * z).sum().backward()
    for x, t in zip(xs, ts, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), **EXACT)


# ------------------------------------------------------------------------------ masks


def test_a_query_that_sees_nothing() -> None:
    """Zeros, with a finite gradient, as PyTorch's function."""
    q, k, v = (cr.tensor(RNG.normal(size=(3, 2)), requires_grad=True) for _ in range(3))
    mask = np.array([[True, True, False], [False, False, False], [True, False, True]])
    y = F.scaled_dot_product_attention(q, k, v, cr.tensor(mask))
    expected = TF.scaled_dot_product_attention(
        *(torch.tensor(x.numpy()) for x in (q, k, v)), torch.tensor(mask)
    )
    np.testing.assert_allclose(y.numpy(), expected.numpy(), **EXACT)
    assert y.numpy()[1].tolist() == [0, 0]
    (y * y).sum().backward()
    assert all(np.isfinite(x.grad.numpy()).all() for x in (q, k, v))
    layer = nn.MultiheadAttention(E, H).double()
    blind = cr.tensor(np.array([[False] * S, [True] * S]))
    found, weights = layer(*map(cr.tensor, (Q, K, V)), key_padding_mask=blind)
    assert not weights.numpy()[1].any()
    np.testing.assert_allclose(found.numpy()[:, 1], layer.out_proj.bias.numpy() + np.zeros((L, E)))


def test_masks_speak_as_pytorchs() -> None:
    """True lets a query look in the function, and forbids it in the layer."""
    x = cr.tensor(RNG.normal(size=(3, E)))
    lower = np.tril(np.ones((3, 3), bool))
    layer = nn.MultiheadAttention(E, 1).double()
    _, weights = layer(x, x, x, attn_mask=cr.tensor(~lower))
    np.testing.assert_array_equal(weights.numpy() > 0, lower)
    values = cr.tensor(np.eye(3))
    seen = F.scaled_dot_product_attention(x, x, values, cr.tensor(lower))
    np.testing.assert_array_equal(seen.numpy() > 0, lower)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_later_tokens_never_change_earlier_results(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    layer = nn.MultiheadAttention(4, 2, batch_first=True).double()
    x = rng.normal(size=(2, length, 4))
    at = int(rng.integers(length))
    changed = x.copy()
    changed[:, at:] = rng.normal(size=(2, length - at, 4)) * 10
    a, b = (layer(t, t, t, is_causal=True)[0].numpy() for t in map(cr.tensor, (x, changed)))
    assert (a[:, :at] == b[:, :at]).all()
    assert (a[:, at:] != b[:, at:]).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_order_does_not_count_without_positions(seed: int, length: int) -> None:
    """Self-attention of permuted tokens is permuted self-attention; weights sum to 1."""
    rng = np.random.default_rng(seed)
    layer = nn.MultiheadAttention(4, 2, batch_first=True).double()
    x, order = rng.normal(size=(2, length, 4)), rng.permutation(length)
    (a, w), (b, u) = (layer(t, t, t) for t in map(cr.tensor, (x, x[:, order])))
    np.testing.assert_allclose(a.numpy()[:, order], b.numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(w.numpy()[:, order][:, :, order], u.numpy(), rtol=1e-12)
    np.testing.assert_allclose(w.sum(-1).numpy(), 1, rtol=1e-12)


# ------------------------------------------------------------------------------ dropout


def test_dropout_drops_weights() -> None:
    x = cr.tensor(RNG.normal(size=(8, 8)))
    values = cr.tensor(np.eye(8))
    full = F.scaled_dot_product_attention(x, x, values).numpy()
    kept = F.scaled_dot_product_attention(x, x, values, dropout_p=0.5).numpy()
    dropped = kept == 0
    assert 10 < dropped.sum() < 54
    np.testing.assert_allclose(kept[~dropped], 2 * full[~dropped], rtol=1e-12)
    with pytest.raises(OptionError, match="dropout_p"):
        F.scaled_dot_product_attention(x, x, x, dropout_p=1.5)


def test_dropout_in_training_only() -> None:
    layer = nn.MultiheadAttention(8, 2, dropout=0.5).double()
    x = cr.tensor(RNG.normal(size=(8, 8)))
    y, weights = layer(x, x, x, average_attn_weights=False)
    assert (weights.numpy() == 0).mean() == pytest.approx(0.5, abs=0.2)
    # The weights that are returned are those the result was made with.
    v = F.linear(x, layer.in_proj_weight[16:], layer.in_proj_bias[16:]).reshape(8, 2, 4)
    mixed = cr.einsum("hls,shd->lhd", weights, v).reshape(8, 8)
    np.testing.assert_allclose(y.numpy(), layer.out_proj(mixed).numpy(), **EXACT)
    layer.eval()
    a, b = (layer(x, x, x)[0].numpy() for _ in range(2))
    np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------ running


def test_compiled_is_uncompiled() -> None:
    layer = nn.MultiheadAttention(E, H).double()
    x = cr.tensor(RNG.normal(size=(L, N, E)))

    def step(x: Any) -> Any:
        y, weights = layer(x, x, x, is_causal=True)
        loss = (y * y).sum()
        loss.backward()
        return y, weights, layer.in_proj_weight.grad

    plain = [part.numpy() for part in step(x)]
    layer.zero_grad()
    compiled = [part.numpy() for part in cr.compile(step)(x)]
    for a, b in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_the_torch_executor() -> None:
    layer = nn.MultiheadAttention(E, H).double()
    x = cr.tensor(RNG.normal(size=(L, N, E)))
    plain = layer(x, x, x, is_causal=True)[0].numpy()
    cr.set_executor("torch")
    np.testing.assert_allclose(layer(x, x, x, is_causal=True)[0].numpy(), plain, **EXACT)


# ------------------------------------------------------------------------------ cache


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("chunks", [[1, 1, 1, 1, 1], [3, 1, 1], [5], [2, 3]])
def test_decoding_with_a_cache(chunks: list[int], compiled: bool) -> None:
    layer = nn.MultiheadAttention(E, H, batch_first=True).double().eval()
    x = RNG.normal(size=(N, 5, E))
    full, weights = layer(*[cr.tensor(x)] * 3, is_causal=True)
    cache = nn.KVCache(N, H, capacity=7, head_dim=E // H, dtype=cr.float64)

    def step(x: Any) -> Any:
        return layer(x, x, x, cache=cache)

    run = cr.compile(step) if compiled else step
    for _ in range(2):
        start = 0
        for count in chunks:
            stop = start + count
            y, seen = run(cr.tensor(x[:, start:stop]))
            np.testing.assert_allclose(y.numpy(), full.numpy()[:, start:stop], **EXACT)
            np.testing.assert_allclose(
                seen.numpy()[..., :5], weights.numpy()[:, start:stop], **EXACT
            )
            start = stop
        assert cache.length.item() == 5
        cache.reset()


def test_one_plan_decodes_every_position() -> None:
    layer = nn.MultiheadAttention(E, H, batch_first=True).double()
    cache = nn.KVCache(1, H, 16, E // H, dtype=cr.float64)
    traced = []

    @cr.compile
    def step(x: Any) -> Any:
        traced.append(x.shape)
        return layer(x, x, x, cache=cache)[0]

    for _ in range(10):
        step(cr.ones(1, 1, E, dtype=cr.float64))
    assert traced == [(1, 1, E)]
    assert cache.length.item() == 10


def test_a_full_cache() -> None:
    cache = nn.KVCache(1, 1, 2, 2)
    cache.append(cr.ones(1, 1, 2, 2), cr.ones(1, 1, 2, 2))
    assert cache.length.item() == 2
    cache.append(cr.ones(1, 1, 1, 2), cr.ones(1, 1, 1, 2))
    with pytest.raises(IndexRangeError, match="2 entries"):
        cache.keys.numpy()
    assert cache.length.item() == 2


def test_reordered_cache() -> None:
    cache = nn.KVCache(3, 1, 2, 1)
    numbers = cr.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1)
    cache.append(numbers, -numbers)
    cache.reorder(cr.tensor([2, 0, 0]))
    assert cache.keys[:, 0, 0, 0].tolist() == [3, 1, 1]
    assert cache.values[:, 0, 0, 0].tolist() == [-3, -1, -1]


# ------------------------------------------------------------------------------ mistakes


def test_mistakes() -> None:
    with pytest.raises(OptionError, match="a multiple of num_heads=4, but got 6"):
        nn.MultiheadAttention(6, 4)
    layer = nn.MultiheadAttention(E, H, kdim=3)
    x = cr.ones(2, 3, E)
    with pytest.raises(
        ShapeError, match=r"MultiheadAttention key needs .* the last with 3 entries"
    ):
        layer(x, x, x)
    with pytest.raises(ShapeError, match="keys as wide as the queries, 2"):
        F.scaled_dot_product_attention(cr.ones(3, 2), cr.ones(3, 4), cr.ones(3, 2))
    with pytest.raises(ShapeError, match="a value for each of the 3 keys"):
        F.scaled_dot_product_attention(cr.ones(3, 2), cr.ones(3, 2), cr.ones(4, 2))
    with pytest.raises(ShapeError, match="queries with at least two axes"):
        F.scaled_dot_product_attention(cr.ones(2), cr.ones(3, 2), cr.ones(4, 2))
    with pytest.raises(ShapeError, match="grouped queries needs heads"):
        F.scaled_dot_product_attention(cr.ones(3, 2, 2), *[cr.ones(2, 2, 2)] * 2, enable_gqa=True)
    with pytest.raises(OptionError, match="attn_mask must be true and false"):
        F.scaled_dot_product_attention(*[cr.ones(2, 2)] * 3, cr.tensor([[1, 0], [1, 1]]))


def test_same_weights_would_notice() -> None:
    """The comparison is not blind: a wrong option fails it."""
    with pytest.raises(AssertionError):
        same_weights(
            nn.MultiheadAttention(E, H), torch.nn.MultiheadAttention(E, H, add_bias_kv=True)
        )
    with pytest.raises(AssertionError):
        hold(nn.MultiheadAttention(E, 1), torch.nn.MultiheadAttention(E, 2), [Q, K, V])
