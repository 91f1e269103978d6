"""GPT-2, with the names of Hugging Face's checkpoints.

``wte`` and ``wpe`` embed words and positions; each block ``h.i`` is attention and two linear layers
on residual paths, norms first. Linear layers hold their weight as (in, out): ``Conv1D``.

Source: Radford et al., "Language models are unsupervised multitask learners", 2019.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule import nn
from chainrule.core.dtype import default_dtype
from chainrule.errors import OptionError, ShapeError
from chainrule.models.language import (
    Config,
    Pretrained,
    activation,
    draw_weights,
    evaluating,
    next_token,
    padding_mask,
)
from chainrule.nn import init
from chainrule.nn.functional_attention import attend
from chainrule.tensor.compile import compile
from chainrule.tensor.functions import arange, cat, where
from chainrule.tensor.tensor import Tensor
from chainrule.tensor.transforms import no_grad


@dataclass(frozen=True)
class GPT2Config(Config):
    """Sizes of a GPT-2, under the names of ``config.json``; the defaults are its smallest model."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02


class Conv1D(nn.Module):
    """y = x W + b with W (in, out): a linear layer whose weight is stored transposed."""

    def __init__(self, nf: int, nx: int) -> None:
        """``nf`` outputs, ``nx`` inputs, as in the original."""
        self.weight = nn.Parameter(np.zeros((nx, nf), default_dtype()))
        self.bias = nn.Parameter(np.zeros(nf, default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return nn.functional.linear(x, self.weight.T, self.bias)


class GPT2Attention(nn.Module):
    """Causal self-attention with several heads; ``c_attn`` gives query, key and value in one."""

    def __init__(self, config: GPT2Config) -> None:
        width = config.n_embd
        if width % config.n_head:
            raise OptionError(
                name="n_embd", expected=f"a multiple of n_head={config.n_head}", got=width
            )
        self.heads = config.n_head
        self.p = config.attn_pdrop
        self.c_attn = Conv1D(3 * width, width)
        self.c_proj = Conv1D(width, width)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, cache: nn.KVCache | None = None
    ) -> Tensor:
        """(batch, length, width) to the same; ``mask`` is true where a key may be looked at."""
        batch, length, width = x.shape
        packed = self.c_attn(x).reshape(batch, length, 3, self.heads, width // self.heads)
        q, k, v = (packed[:, :, part].transpose(1, 2) for part in range(3))
        if cache is not None:
            k, v, seen = cache.append(k, v)
            mask = seen if mask is None else seen & mask
        p = self.p if self.training else 0.0
        y, _ = attend(q, k, v, mask, p, causal=cache is None)
        joined = y.transpose(1, 2).reshape(batch, length, width)
        return self.resid_dropout(self.c_proj(joined))  # type: ignore[no-any-return]


class GPT2MLP(nn.Module):
    """Two linear layers on every token."""

    def __init__(self, config: GPT2Config) -> None:
        inner = config.n_inner or 4 * config.n_embd
        self.c_fc = Conv1D(inner, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, inner)
        self.act = activation(config.activation_function)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, width) to the same."""
        return self.dropout(self.c_proj(self.act(self.c_fc(x))))  # type: ignore[no-any-return]


class GPT2Block(nn.Module):
    """x = x + attention(ln_1(x)), x = x + mlp(ln_2(x))."""

    def __init__(self, config: GPT2Config) -> None:
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = GPT2Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, cache: nn.KVCache | None = None
    ) -> Tensor:
        """(batch, length, width) to the same."""
        x = x + self.attn(self.ln_1(x), mask, cache)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class GPT2Model(Pretrained):
    """GPT-2 up to the last norm: a vector for every token.

    Example:
        >>> import chainrule as cr
        >>> config = GPT2Config(vocab_size=10, n_positions=8, n_embd=4, n_layer=1, n_head=2)
        >>> model = GPT2Model(config)
        >>> model(cr.tensor([[1, 2, 3]])).shape
        (1, 3, 4)
    """

    not_weights = (".attn.bias", ".attn.masked_bias")  # causal masks

    def __init__(self, config: GPT2Config) -> None:
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        blocks = [GPT2Block(config) for _ in range(config.n_layer)]
        self.h = nn.ModuleList(blocks)
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        draw_weights(self, config.initializer_range)
        std = config.initializer_range / math.sqrt(2 * max(config.n_layer, 1))
        for block in blocks:  # smaller, so that the sum of the residual paths keeps its size
            for layer in (block.attn.c_proj, block.mlp.c_proj):
                init.normal_(layer.weight, std=std)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        caches: Sequence[nn.KVCache] | None = None,
    ) -> Tensor:
        """Vectors (batch, length, n_embd).

        Args:
            input_ids: word numbers (batch, length).
            attention_mask: (batch, length), 1 for tokens and 0 for padding; with caches
                (batch, capacity).
            caches: one per block; ``input_ids`` are then the tokens after those in them.

        Raises:
            IndexRangeError: a word number outside the vocabulary.
            ShapeError: more tokens than ``n_positions``.
        """
        length = input_ids.shape[1]
        if length > self.config.n_positions:
            raise ShapeError(
                op="GPT-2",
                expected=f"at most {self.config.n_positions} tokens",
                got=length,
                mend="cut the text",
            )
        positions = arange(length) if caches is None else caches[0].positions(length)
        mask = padding_mask(attention_mask)
        x = self.drop(self.wte(input_ids) + self.wpe(positions))
        for index, block in enumerate(self.h):
            x = block(x, mask, None if caches is None else caches[index])
        return self.ln_f(x)  # type: ignore[no-any-return]

    def new_caches(self, batch: int, capacity: int) -> list[nn.KVCache]:
        """An empty cache for each block."""
        heads, width = self.config.n_head, self.config.n_embd // self.config.n_head
        dtype = self.wte.weight.dtype
        return [nn.KVCache(batch, heads, capacity, width, dtype) for _ in self.h]


class GPT2LMHeadModel(Pretrained):
    """GPT-2 as a language model: scores of the next word at every position.

    The scores are products with the word embeddings: ``lm_head`` shares the weight of ``wte``.

    Example:
        >>> import chainrule as cr
        >>> config = GPT2Config(vocab_size=10, n_positions=8, n_embd=4, n_layer=1, n_head=2)
        >>> model = GPT2LMHeadModel(config)
        >>> model(cr.tensor([[1, 2, 3]])).shape
        (1, 3, 10)
        >>> model.generate(cr.tensor([[1, 2, 3]]), max_new_tokens=4, temperature=0).shape
        (1, 7)
    """

    not_weights = GPT2Model.not_weights

    def __init__(self, config: GPT2Config) -> None:
        self.transformer = GPT2Model(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer.wte.weight

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        caches: Sequence[nn.KVCache] | None = None,
    ) -> Tensor:
        """Scores (batch, length, vocab_size); arguments as of :class:`GPT2Model`."""
        made: Tensor = self.lm_head(self.transformer(input_ids, attention_mask, caches))
        return made

    def generate(
        self,
        input_ids: Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        eos_token_id: int | None = None,
    ) -> Tensor:
        """Go on with a text, word by word.

        Args:
            input_ids: the beginning, (batch, length).
            max_new_tokens: how many words to add at most.
            temperature: below 1 the likely words become likelier; 0 takes the likeliest.
            top_k: draw from that many likeliest words alone.
            eos_token_id: the word that ends a text; after it comes only this word, and when all
                texts have ended no more is added.

        Returns:
            (batch, length + added), the beginning included.
        """
        batch, length = input_ids.shape
        caches = self.transformer.new_caches(batch, length + max_new_tokens)

        def step(tokens: Tensor) -> Tensor:
            return next_token(self(tokens, caches=caches)[:, -1], temperature, top_k)

        found, ended = [input_ids], None
        with evaluating(self), no_grad():
            compiled, token = compile(step), input_ids
            for _ in range(max_new_tokens):
                token = compiled(token)
                if eos_token_id is not None:
                    if ended is not None:
                        token = where(ended, eos_token_id, token)
                    ended = token == eos_token_id
                found.append(token)
                if ended is not None and bool(ended.all()):
                    break
        return cat(found, 1)
