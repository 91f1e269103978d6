"""The encoder-decoder Transformer: translation, or any sequence to any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from chainrule import nn
from chainrule.core.graph import Array
from chainrule.errors import OptionError
from chainrule.models.language import evaluating
from chainrule.tensor.compile import compile
from chainrule.tensor.functions import arange, full
from chainrule.tensor.tensor import Tensor, tensor
from chainrule.tensor.transforms import no_grad

# Given the last token and the row each one goes on from: log-probabilities of the next.
Step = Callable[[Tensor, Tensor], Tensor]


class Translator(nn.Module):
    """Embeddings, positions, the Transformer, and scores of the next word.

    Args:
        src_vocab_size, tgt_vocab_size: how many words the two languages have.
        d_model, nhead, dim_feedforward, dropout, norm_first: as of ``nn.Transformer``.
        num_layers: of the encoder, and of the decoder.
        max_len: the longest text.
        pad: the word number that fills up shorter texts, in both languages.

    Shapes: src (batch, S), tgt (batch, T) word numbers; scores (batch, T, tgt_vocab_size). In
    training, ``tgt`` is the translation with a start word in front, without its last word, and the
    labels are the translation (``cross_entropy`` with ``ignore_index=pad``).

    Example:
        >>> import chainrule as cr
        >>> model = Translator(10, 12, d_model=8, nhead=2, num_layers=1, dim_feedforward=16)
        >>> model(cr.tensor([[3, 4, 5]]), cr.tensor([[1, 6]])).shape
        (1, 2, 12)
        >>> model.greedy(cr.tensor([[3, 4, 5]]), start=1, end=2, max_len=5).shape[0]
        1

    Source: Vaswani et al., "Attention is all you need", 2017.
    """

    def __init__(
        self,
        src_vocab_size: int,
        tgt_vocab_size: int,
        d_model: int = 512,
        nhead: int = 8,
        num_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        norm_first: bool = False,
        max_len: int = 5000,
        pad: int = 0,
    ) -> None:
        self.d_model = d_model
        self.pad = pad
        self.src_embedding = nn.Embedding(src_vocab_size, d_model, pad)
        self.tgt_embedding = nn.Embedding(tgt_vocab_size, d_model, pad)
        self.positions = nn.SinusoidalPositions(d_model, max_len, dropout)
        self.transformer = nn.Transformer(
            d_model, nhead, num_layers, num_layers, dim_feedforward, dropout,
            batch_first=True, norm_first=norm_first,
        )  # fmt: skip
        self.generator = nn.Linear(d_model, tgt_vocab_size)
        for embedding in (self.src_embedding, self.tgt_embedding):
            nn.init.normal_(embedding.weight, std=d_model**-0.5)  # of size 1 after the factor below

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        """Scores of the word after each of ``tgt``: (batch, T, tgt_vocab_size)."""
        return self.decode(tgt, self.encode(src), src == self.pad)

    def encode(self, src: Tensor) -> Tensor:
        """What the decoder looks at: (batch, S, d_model)."""
        x = self.positions(self.src_embedding(src) * math.sqrt(self.d_model))
        made: Tensor = self.transformer.encoder(x, src_key_padding_mask=src == self.pad)
        return made

    def decode(
        self,
        tgt: Tensor,
        memory: Tensor,
        padding: Tensor | None = None,
        caches: Sequence[nn.KVCache] | None = None,
    ) -> Tensor:
        """Scores of the word after each of ``tgt``.

        Args:
            tgt: (batch, T); with ``caches``, the words after those in them.
            memory: what :meth:`encode` gave.
            padding: (batch, S), true where ``src`` is filled up.
            caches: one per layer of the decoder.
        """
        length = tgt.shape[1]
        at = arange(length) if caches is None else caches[0].positions(length)
        x = self.positions(self.tgt_embedding(tgt) * math.sqrt(self.d_model), at)
        x = self.transformer.decoder(
            x, memory, memory_key_padding_mask=padding, tgt_is_causal=True, caches=caches
        )
        return self.generator(x)  # type: ignore[no-any-return]

    def new_caches(self, batch: int, capacity: int) -> list[nn.KVCache]:
        """An empty cache for each layer of the decoder."""
        decoder = self.transformer.decoder
        assert isinstance(decoder, nn.TransformerDecoder)
        return decoder.new_caches(batch, capacity)

    # ------------------------------------------------------------------ translating

    def greedy(self, src: Tensor, start: int, end: int, max_len: int) -> Tensor:
        """The likeliest word at each place, one after the other.

        Args:
            src: (batch, S).
            start, end: the word numbers that begin and end a translation.
            max_len: how many words at most.

        Returns:
            (batch, T), T <= max_len, without ``start``; ``pad`` after ``end``.
        """
        return self.beam_search(src, start, end, max_len, beams=1)

    def beam_search(
        self,
        src: Tensor,
        start: int,
        end: int,
        max_len: int,
        beams: int = 4,
        length_penalty: float = 0.6,
    ) -> Tensor:
        """The best translation found when only the ``beams`` likeliest beginnings are kept.

        Best is what has the largest log P(translation) / ((5 + length) / 6)^length_penalty.

        Args and shapes as of :meth:`greedy`, which is the search with one beam.

        Source: Wu et al., "Google's neural machine translation system", 2016, section 7.
        """
        if beams < 1:
            raise OptionError(name="beams", expected="at least 1", got=beams, mend="")
        batch = src.shape[0]
        with evaluating(self), no_grad():
            rows = tensor(np.repeat(np.arange(batch), beams))
            memory, padding = self.encode(src)[rows], (src == self.pad)[rows]
            caches = self.new_caches(batch * beams, max_len)

            def step(tokens: Tensor, origins: Tensor) -> Tensor:
                for cache in caches:
                    cache.reorder(origins)
                scores = self.decode(tokens, memory, padding, caches)
                return scores[:, -1].log_softmax(-1)

            found = _Beams(batch, beams, end, self.pad)
            tokens, origins = full((batch * beams, 1), start), arange(batch * beams)
            compiled: Step = compile(step)
            for _ in range(max_len):
                tokens, origins = found.extend(compiled(tokens, origins).numpy())
                if found.ended.all():
                    break
        return tensor(found.best(length_penalty))  # type: ignore[no-any-return]


class _Beams:
    """The likeliest beginnings of each text, and how likely they are.

    Attributes:
        words: (batch, beams, words so far).
        scores: log-probabilities, (batch, beams); at first one beam counts, since all are alike.
        ended: whether a beam has had its end word, (batch, beams).
    """

    def __init__(self, batch: int, beams: int, end: int, pad: int) -> None:
        self.end, self.pad = end, pad
        self.words = np.zeros((batch, beams, 0), np.int64)
        self.scores = np.full((batch, beams), -np.inf)
        self.scores[:, 0] = 0
        self.ended = np.zeros((batch, beams), np.bool_)

    def extend(self, logs: Array) -> tuple[Tensor, Tensor]:
        """Go on with every beam by every word (``logs``: (batch beams, words)); keep the likeliest.

        Returns:
            The last word of each, (batch beams, 1), and the row that it went on from.
        """
        batch, beams = self.scores.shape
        logs = logs.reshape(batch, beams, -1).astype(np.float64)
        words = logs.shape[-1]
        logs[self.ended] = -np.inf  # an ended text goes on with padding, at no cost
        logs[self.ended, self.pad] = 0
        totals = (self.scores[..., None] + logs).reshape(batch, -1)
        chosen = np.argsort(-totals, axis=1, kind="stable")[:, :beams]
        origins, tokens = np.divmod(chosen, words)
        self.scores = np.take_along_axis(totals, chosen, 1)
        kept = np.take_along_axis(self.words, origins[..., None], 1)
        self.words = np.concatenate([kept, tokens[..., None]], -1)
        self.ended = np.take_along_axis(self.ended, origins, 1) | (tokens == self.end)
        rows = origins + np.arange(batch)[:, None] * beams
        return tensor(tokens.reshape(-1, 1)), tensor(rows.reshape(-1))

    def best(self, length_penalty: float) -> Array:
        """The best beam of each text."""
        past = np.cumsum(self.words == self.end, -1) - (self.words == self.end)
        lengths = (past == 0).sum(-1)
        ranks = self.scores / ((5 + lengths) / 6) ** length_penalty
        chosen: Array = self.words[np.arange(len(ranks)), ranks.argmax(1)]
        return chosen
