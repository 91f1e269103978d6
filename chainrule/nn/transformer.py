"""The Transformer's layers and stacks, under PyTorch's names.

Masks are as in :class:`~chainrule.nn.MultiheadAttention`: true where a query may **not** look, or
floats that are added to the scores. Source: Vaswani et al., "Attention is all you need", 2017; with
``norm_first``: Xiong et al., "On layer normalization in the Transformer architecture", 2020.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

from chainrule.core.dtype import as_dtype, default_dtype
from chainrule.errors import OptionError, closest
from chainrule.nn import functional, init
from chainrule.nn.attention import KVCache, MultiheadAttention, causal_mask
from chainrule.nn.containers import ModuleList
from chainrule.nn.layers import Dropout, Linear
from chainrule.nn.module import Module, takes_device
from chainrule.nn.normalization import LayerNorm
from chainrule.tensor.functions import full, where
from chainrule.tensor.tensor import Tensor

Activation = str | Callable[[Tensor], Tensor]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
}


def _activation(chosen: Activation) -> Callable[[Tensor], Tensor]:
    if not isinstance(chosen, str):
        return chosen
    if chosen not in _ACTIVATIONS:
        near = closest(chosen, _ACTIVATIONS)
        raise OptionError(
            name="activation",
            expected='"relu", "gelu" or a function',
            got=repr(chosen),
            mend=f"did you mean {near!r}?" if near else "",
        )
    return _ACTIVATIONS[chosen]


class TransformerEncoderLayer(Module):
    """Self-attention, then two linear layers on each token; each with a residual path and a norm.

    x = norm1(x + attention(x)), x = norm2(x + W_2 f(W_1 x + b_1) + b_2); with ``norm_first``
    x = x + attention(norm1(x)), x = x + W_2 f(W_1 norm2(x) + b_1) + b_2.

    Args:
        d_model: width of a token.
        nhead: attention heads; divides ``d_model``.
        dim_feedforward: width between the two linear layers.
        dropout: on the attention weights, between the linear layers, and on both residual paths.
        activation: f: "relu", "gelu" or a function.
        layer_norm_eps: epsilon of the norms.
        batch_first: (batch, length, d_model) instead of (length, batch, d_model).
        norm_first: norms before the attention and the linear layers instead of after.
        bias: whether linear layers and norms have a bias.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
        >>> layer(cr.ones(4, 5, 8)).shape
        (4, 5, 8)
    """

    @takes_device
    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: object = None,
    ) -> None:
        self.norm_first = norm_first
        self.activation = _activation(activation)
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The same shape; masks as ``attn_mask`` and ``key_padding_mask`` of the attention."""

        def attended(x: Tensor) -> Tensor:
            y, _ = self.self_attn(
                x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal
            )
            return self.dropout1(y)  # type: ignore[no-any-return]

        x = src
        if self.norm_first:
            x = x + attended(self.norm1(x))
            return x + self._fed_forward(self.norm2(x))
        x = self.norm1(x + attended(x))
        return self.norm2(x + self._fed_forward(x))  # type: ignore[no-any-return]

    def _fed_forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(self.activation(self.linear1(x)))
        return self.dropout2(self.linear2(inner))  # type: ignore[no-any-return]


class TransformerDecoderLayer(Module):
    """Self-attention, attention to the encoder's result, and two linear layers.

    Each has a residual path and a norm, as in :class:`TransformerEncoderLayer`, whose arguments it
    takes.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> layer = nn.TransformerDecoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
        >>> layer(cr.ones(4, 3, 8), cr.ones(4, 5, 8), tgt_is_causal=True).shape
        (4, 3, 8)
    """

    @takes_device
    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: object = None,
    ) -> None:
        self.norm_first = norm_first
        self.activation = _activation(activation)
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype
        )
        self.multihead_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        *,
        cache: KVCache | None = None,
    ) -> Tensor:
        """The shape of ``tgt``; ``memory`` is what the encoder gave.

        With a ``cache``, ``tgt`` holds the tokens after those in the cache.
        """

        def attended(x: Tensor) -> Tensor:
            y, _ = self.self_attn(
                x, x, x, tgt_key_padding_mask, False, tgt_mask,
                is_causal=tgt_is_causal, cache=cache,
            )  # fmt: skip
            return self.dropout1(y)  # type: ignore[no-any-return]

        def looked_up(x: Tensor) -> Tensor:
            y, _ = self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask,
                is_causal=memory_is_causal,
            )  # fmt: skip
            return self.dropout2(y)  # type: ignore[no-any-return]

        x = tgt
        if self.norm_first:
            x = x + attended(self.norm1(x))
            x = x + looked_up(self.norm2(x))
            return x + self._fed_forward(self.norm3(x))
        x = self.norm1(x + attended(x))
        x = self.norm2(x + looked_up(x))
        return self.norm3(x + self._fed_forward(x))  # type: ignore[no-any-return]

    def _fed_forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(self.activation(self.linear1(x)))
        return self.dropout3(self.linear2(inner))  # type: ignore[no-any-return]


class TransformerEncoder(Module):
    """``num_layers`` copies of an encoder layer, one after the other, and a last norm.

    The copies start with the weights of the layer given, all alike, as in PyTorch.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
        >>> nn.TransformerEncoder(layer, num_layers=2)(cr.ones(4, 5, 8), is_causal=True).shape
        (4, 5, 8)
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        """The last two are accepted, as PyTorch's; there are no nested tensors here."""
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """The same shape."""
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, is_causal=bool(is_causal))
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(Module):
    """``num_layers`` copies of a decoder layer, one after the other, and a last norm.

    The copies start with the weights of the layer given, all alike, as in PyTorch.
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = ModuleList(copy.deepcopy(decoder_layer) for _ in range(num_layers))
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        *,
        caches: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """The shape of ``tgt``; with ``caches``, one per layer, ``tgt`` holds new tokens only."""
        x = tgt
        for index, layer in enumerate(self.layers):
            x = layer(
                x, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                bool(tgt_is_causal), memory_is_causal,
                cache=None if caches is None else caches[index],
            )  # fmt: skip
        return x if self.norm is None else self.norm(x)

    def new_caches(self, batch: int, capacity: int) -> list[KVCache]:
        """An empty cache for each layer."""
        attentions = [layer.self_attn for layer in self.layers]  # type: ignore[attr-defined]
        return [attention.new_cache(batch, capacity) for attention in attentions]


class Transformer(Module):
    """The encoder and the decoder of the paper, each with a last norm.

    Tokens are vectors already: embeddings and positions are added before, and a linear layer that
    gives scores of words after it (:class:`chainrule.models.Translator` has all of them). Weights
    start Xavier-uniform.

    Args:
        d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
            norm_first, bias: as in :class:`TransformerEncoderLayer`.
        num_encoder_layers, num_decoder_layers: depths of the stacks.
        custom_encoder, custom_decoder: modules to use instead.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> model = nn.Transformer(8, 2, 1, 1, dim_feedforward=16, batch_first=True)
        >>> model(cr.ones(4, 5, 8), cr.ones(4, 3, 8), tgt_is_causal=True).shape
        (4, 3, 8)
    """

    @takes_device
    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: object = None,
    ) -> None:
        options = (
            d_model, nhead, dim_feedforward, dropout, activation,
            layer_norm_eps, batch_first, norm_first, bias, dtype,
        )  # fmt: skip

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*options), num_encoder_layers, norm()
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*options), num_decoder_layers, norm()
        )
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every matrix anew, Xavier-uniform."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The shape of ``tgt``."""
        memory = self.encoder(src, src_mask, src_key_padding_mask, is_causal=src_is_causal)
        made: Tensor = self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
            tgt_is_causal, memory_is_causal,
        )  # fmt: skip
        return made

    @staticmethod
    def generate_square_subsequent_mask(sz: int, dtype: object = None) -> Tensor:
        """(sz, sz): -inf where a query would look at a later token, else 0.

        Example:
            >>> Transformer.generate_square_subsequent_mask(2).tolist()
            [[0.0, -inf], [0.0, 0.0]]
        """
        kind = as_dtype(dtype) if dtype is not None else default_dtype()
        lowest = full((), -math.inf, dtype=kind)
        return where(causal_mask(sz, sz), full((), 0.0, dtype=kind), lowest)
