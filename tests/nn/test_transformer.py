"""The Transformer's layers and stacks against PyTorch's, and their properties."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformer_twins import EXACT, hold

import chainrule as cr
from chainrule import nn
from chainrule.errors import OptionError
from chainrule.nn import functional as F

RNG = np.random.default_rng(0)
N, L, S, E, H = 2, 4, 5, 6, 2
SRC, TGT = RNG.normal(size=(S, N, E)), RNG.normal(size=(L, N, E))
PADDED = np.arange(S)[None, :] >= np.array([[S], [3]])
CAUSAL = np.triu(np.ones((L, L), bool), 1)
SRC_CAUSAL = np.triu(np.ones((S, S), bool), 1)
SMALL = {"d_model": E, "nhead": H, "dim_feedforward": 7, "dropout": 0.0}


def masks(module: Any, given: dict[str, Any]) -> dict[str, Any]:
    library = torch if isinstance(module, torch.nn.Module) else cr
    return {
        key: library.tensor(value) if isinstance(value, np.ndarray) else value
        for key, value in given.items()
    }


def act(z: Any) -> Any:
    """A function of the user's own."""
    return z.tanh()


LAYERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "post-norm": ({}, {}),
    "pre-norm": ({"norm_first": True}, {}),
    "gelu": ({"activation": "gelu", "batch_first": True}, {}),
    "own function": ({"activation": act, "layer_norm_eps": 1e-3}, {}),
    "no bias": ({"bias": False}, {}),
    "causal": ({"batch_first": True}, {"mask": True}),
    "causal hint": ({"norm_first": True}, {"mask": True, "is_causal": True}),
    "padding": ({}, {"padding": True}),
    "all": (
        {"norm_first": True, "activation": "gelu", "batch_first": True},
        {"mask": True, "padding": True},
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_encoder_layer(name: str) -> None:
    options, given = LAYERS[name]
    chosen: dict[str, Any] = {}
    if "mask" in given:
        chosen["src_mask"] = SRC_CAUSAL
    if "padding" in given:
        chosen["src_key_padding_mask"] = PADDED
    if "is_causal" in given:
        chosen["is_causal"] = True
    x = SRC.swapaxes(0, 1) if "batch_first" in options else SRC
    hold(
        nn.TransformerEncoderLayer(**SMALL, **options),
        torch.nn.TransformerEncoderLayer(**SMALL, **options),
        [x],
        lambda module, x: module(x, **masks(module, chosen)),
    )


@pytest.mark.parametrize("name", LAYERS)
def test_decoder_layer(name: str) -> None:
    options, given = LAYERS[name]
    chosen: dict[str, Any] = {}
    if "mask" in given:
        chosen["tgt_mask"] = CAUSAL
    if "padding" in given:
        chosen["memory_key_padding_mask"] = PADDED
        chosen["tgt_key_padding_mask"] = PADDED[:, 1:]
    if "is_causal" in given:
        chosen["tgt_is_causal"] = True
    xs = [x.swapaxes(0, 1) if "batch_first" in options else x for x in (TGT, SRC)]
    hold(
        nn.TransformerDecoderLayer(**SMALL, **options),
        torch.nn.TransformerDecoderLayer(**SMALL, **options),
        xs,
        lambda module, *xs: module(*xs, **masks(module, chosen)),
    )


def encoder(library: Any, layers: int, norm: bool, **options: Any) -> Any:
    layer = library.TransformerEncoderLayer(**SMALL, **options)
    last = library.LayerNorm(E) if norm else None
    return library.TransformerEncoder(layer, layers, last, enable_nested_tensor=False)


def decoder(library: Any, layers: int, norm: bool, **options: Any) -> Any:
    layer = library.TransformerDecoderLayer(**SMALL, **options)
    return library.TransformerDecoder(layer, layers, library.LayerNorm(E) if norm else None)


STACKS = [
    (1, False, {}),
    (2, True, {}),
    (2, True, {"norm_first": True}),
    (3, False, {"activation": "gelu"}),
    (2, True, {"batch_first": True}),
]


@pytest.mark.parametrize(("layers", "norm", "options"), STACKS)
def test_encoder(layers: int, norm: bool, options: dict[str, Any]) -> None:
    given = {"mask": SRC_CAUSAL, "src_key_padding_mask": PADDED}
    x = SRC.swapaxes(0, 1) if "batch_first" in options else SRC
    hold(
        encoder(nn, layers, norm, **options),
        encoder(torch.nn, layers, norm, **options),
        [x],
        lambda module, x: module(x, **masks(module, given)),
    )


@pytest.mark.parametrize(("layers", "norm", "options"), STACKS)
def test_decoder(layers: int, norm: bool, options: dict[str, Any]) -> None:
    given = {"tgt_mask": CAUSAL, "memory_key_padding_mask": PADDED}
    xs = [x.swapaxes(0, 1) if "batch_first" in options else x for x in (TGT, SRC)]
    hold(
        decoder(nn, layers, norm, **options),
        decoder(torch.nn, layers, norm, **options),
        xs,
        lambda module, *xs: module(*xs, **masks(module, given)),
    )


WHOLE: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"tgt_mask": CAUSAL, "tgt_is_causal": True},
    "padded": {"src_key_padding_mask": PADDED, "memory_key_padding_mask": PADDED},
    "memory mask": {"memory_mask": RNG.normal(size=(L, S)), "src_mask": SRC_CAUSAL},
    "all": {
        "src_mask": SRC_CAUSAL,
        "tgt_mask": CAUSAL,
        "memory_mask": np.tri(L, S, 1) == 0,
        "src_key_padding_mask": PADDED,
        "tgt_key_padding_mask": PADDED[:, 1:],
        "memory_key_padding_mask": PADDED,
        "src_is_causal": True,
        "tgt_is_causal": True,
    },
}


@pytest.mark.parametrize("name", WHOLE)
def test_transformer(name: str) -> None:
    options = {
        **SMALL, "num_encoder_layers": 1, "num_decoder_layers": 2,
        "norm_first": name in ("padded", "all"),
    }  # fmt: skip
    with warnings.catch_warnings(action="ignore"):  # PyTorch's, of nested tensors
        theirs = torch.nn.Transformer(**options)
    hold(
        nn.Transformer(**options),
        theirs,
        [SRC, TGT],
        lambda module, *xs: module(*xs, **masks(module, WHOLE[name])),
    )


def test_the_mask_of_later_tokens() -> None:
    ours = nn.Transformer.generate_square_subsequent_mask(4)
    np.testing.assert_array_equal(
        ours.numpy(), torch.nn.Transformer.generate_square_subsequent_mask(4).numpy()
    )
    assert ours.dtype == cr.float32


def test_causal_needs_no_mask() -> None:
    model = nn.Transformer(**SMALL, num_encoder_layers=1, num_decoder_layers=1).double()
    src, tgt = cr.tensor(SRC), cr.tensor(TGT)
    masked = model(src, tgt, tgt_mask=cr.tensor(CAUSAL))
    np.testing.assert_allclose(model(src, tgt, tgt_is_causal=True).numpy(), masked.numpy(), **EXACT)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_later_tokens_never_change_earlier_results(seed: int, norm_first: bool) -> None:
    rng = np.random.default_rng(seed)
    stack = encoder(nn, 2, True, norm_first=norm_first, batch_first=True).double()
    x = rng.normal(size=(1, L, E))
    at = int(rng.integers(1, L))
    changed = x.copy()
    changed[:, at:] += rng.normal(size=(1, L - at, E))
    a, b = (stack(cr.tensor(t), is_causal=True).numpy() for t in (x, changed))
    assert (a[:, :at] == b[:, :at]).all()
    assert (a[:, at:] != b[:, at:]).any()


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_order_does_not_count_without_positions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stack = encoder(nn, 2, True, batch_first=True).double()
    x, order = rng.normal(size=(2, S, E)), rng.permutation(S)
    a, b = (stack(cr.tensor(t)).numpy() for t in (x, x[:, order]))
    np.testing.assert_allclose(a[:, order], b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunks", [[1, 1, 1, 1], [3, 1]])
def test_decoding_with_caches(chunks: list[int]) -> None:
    stack = decoder(nn, 2, True, batch_first=True).double().eval()
    memory, tokens = cr.tensor(SRC.swapaxes(0, 1)), TGT.swapaxes(0, 1)
    full = stack(cr.tensor(tokens), memory, tgt_is_causal=True).numpy()
    caches = stack.new_caches(N, capacity=6)
    step = cr.compile(lambda x: stack(x, memory, caches=caches))
    start = 0
    for count in chunks:
        found = step(cr.tensor(tokens[:, start : start + count])).numpy()
        np.testing.assert_allclose(found, full[:, start : start + count], **EXACT)
        start += count


def test_compiled_is_uncompiled() -> None:
    model = nn.Transformer(**SMALL, num_encoder_layers=1, num_decoder_layers=1).double()
    src, tgt = cr.tensor(SRC), cr.tensor(TGT)

    def step(src: Any, tgt: Any) -> Any:
        loss = model(src, tgt, tgt_is_causal=True).square().mean()
        loss.backward()
        return loss, [parameter.grad for parameter in model.parameters()]

    loss, grads = step(src, tgt)
    plain = [loss.numpy(), *(g.numpy() for g in grads)]
    model.zero_grad()
    loss, grads = cr.compile(step)(src, tgt)
    for a, b in zip(plain, [loss.numpy(), *(g.numpy() for g in grads)], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14)


def test_dropout_is_where_pytorchs_is() -> None:
    """Everything dropped: only the norms, and what they add to, are left."""
    x = cr.tensor(SRC)
    layer = nn.TransformerEncoderLayer(E, H, 7, dropout=1.0, norm_first=True).double()
    np.testing.assert_array_equal(layer(x).numpy(), SRC)
    twice = nn.TransformerDecoderLayer(E, H, 7, dropout=1.0, norm_first=True).double()
    np.testing.assert_array_equal(twice(x, x).numpy(), SRC)
    layer.eval()
    assert (layer(x).numpy() != SRC).all()


def test_initial_values() -> None:
    model = nn.Transformer(16, 2, 2, 1, 32)
    weight = model.encoder.layers[1].linear1.weight.numpy()
    bound = (6 / (16 + 32)) ** 0.5
    assert 0.9 * bound < np.abs(weight).max() <= bound
    assert (weight != model.encoder.layers[0].linear1.weight.numpy()).any()
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 2)
    a, b = (layer.linear1.weight.numpy() for layer in stack.layers)
    np.testing.assert_array_equal(a, b)


def test_mistakes() -> None:
    with pytest.raises(OptionError, match="did you mean 'gelu'"):
        nn.TransformerEncoderLayer(E, H, activation="gleu")
    assert nn.TransformerEncoderLayer(E, H, activation="gelu").activation is F.gelu
