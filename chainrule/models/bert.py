"""BERT, with the names of Hugging Face's checkpoints.

Source: Devlin et al., "BERT: pre-training of deep bidirectional Transformers", 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chainrule import nn
from chainrule.core.dtype import default_dtype
from chainrule.errors import OptionError, ShapeError
from chainrule.models.language import Config, Pretrained, activation, draw_weights, padding_mask
from chainrule.nn.functional_attention import attend
from chainrule.tensor.functions import arange, zeros_like
from chainrule.tensor.tensor import Tensor


@dataclass(frozen=True)
class BertConfig(Config):
    """Sizes of a BERT, under the names of ``config.json``; the defaults are the base model's."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    num_labels: int = 2


class BertEmbeddings(nn.Module):
    """Word, position and segment, added and normed."""

    def __init__(self, config: BertConfig) -> None:
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(batch, length) to (batch, length, hidden_size)."""
        length, most = input_ids.shape[1], self.position_embeddings.weight.shape[0]
        if length > most:
            raise ShapeError(
                op="BERT", expected=f"at most {most} tokens", got=length, mend="cut the text"
            )
        if token_type_ids is None:
            token_type_ids = zeros_like(input_ids)
        words = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        return self.dropout(  # type: ignore[no-any-return]
            self.LayerNorm(words + self.position_embeddings(arange(length)))
        )


class BertSelfAttention(nn.Module):
    """Attention of every token to every token, with several heads."""

    def __init__(self, config: BertConfig) -> None:
        width = config.hidden_size
        if width % config.num_attention_heads:
            raise OptionError(
                name="hidden_size",
                expected=f"a multiple of num_attention_heads={config.num_attention_heads}",
                got=width,
            )
        self.heads = config.num_attention_heads
        self.p = config.attention_probs_dropout_prob
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(batch, length, width) to the same; ``mask`` is true where a key may be looked at."""
        batch, length, width = x.shape
        q, k, v = (
            layer(x).reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y, _ = attend(q, k, v, mask, self.p if self.training else 0.0)
        return y.transpose(1, 2).reshape(batch, length, width)


class BertOutput(nn.Module):
    """LayerNorm(residual + dropout(W x + b)): how each half of a layer ends."""

    def __init__(self, config: BertConfig, inputs: int) -> None:
        self.dense = nn.Linear(inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(batch, length, inputs) to (batch, length, hidden_size)."""
        return self.LayerNorm(residual + self.dropout(self.dense(x)))  # type: ignore[no-any-return]


class BertAttention(nn.Module):
    """The first half of a layer."""

    def __init__(self, config: BertConfig) -> None:
        self.self = BertSelfAttention(config)
        self.output = BertOutput(config, config.hidden_size)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(batch, length, hidden_size) to the same."""
        return self.output(self.self(x, mask), x)  # type: ignore[no-any-return]


class BertIntermediate(nn.Module):
    """f(W x + b), the wide part of the second half."""

    def __init__(self, config: BertConfig) -> None:
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, hidden_size) to (batch, length, intermediate_size)."""
        return self.act(self.dense(x))


class BertLayer(nn.Module):
    """Attention and two linear layers, norms after."""

    def __init__(self, config: BertConfig) -> None:
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config, config.intermediate_size)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(batch, length, hidden_size) to the same."""
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)  # type: ignore[no-any-return]


class BertEncoder(nn.Module):
    """The layers, one after the other."""

    def __init__(self, config: BertConfig) -> None:
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(batch, length, hidden_size) to the same."""
        for layer in self.layer:
            x = layer(x, mask)
        return x


class BertPooler(nn.Module):
    """tanh(W x + b) of the first token, which stands for the sentence."""

    def __init__(self, config: BertConfig) -> None:
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, hidden_size) to (batch, hidden_size)."""
        return self.dense(x[:, 0]).tanh()  # type: ignore[no-any-return]


class Encoding(NamedTuple):
    """What :class:`BertModel` gives.

    Attributes:
        last_hidden_state: a vector for every token, (batch, length, hidden_size).
        pooler_output: one for the sentence, (batch, hidden_size); None without a pooler.
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None


class BertModel(Pretrained):
    """BERT: a vector for every token, which has seen the whole text.

    Example:
        >>> import chainrule as cr
        >>> model = BertModel(BertConfig(vocab_size=10, hidden_size=4, num_hidden_layers=1,
        ...                              num_attention_heads=2, intermediate_size=8))
        >>> model(cr.tensor([[1, 2, 3]])).last_hidden_state.shape
        (1, 3, 4)
    """

    not_weights = ("embeddings.position_ids",)

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True) -> None:
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
        draw_weights(self, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Encoding:
        """Vectors of the tokens, and of the text.

        Args:
            input_ids: word numbers, (batch, length).
            attention_mask: (batch, length), 1 for tokens and 0 for padding.
            token_type_ids: (batch, length), the segment of every token; 0 where not given.

        Raises:
            IndexRangeError: a word number outside the vocabulary.
            ShapeError: more tokens than ``max_position_embeddings``.
        """
        x = self.embeddings(input_ids, token_type_ids)
        x = self.encoder(x, padding_mask(attention_mask))
        return Encoding(x, None if self.pooler is None else self.pooler(x))


class BertPredictionHeadTransform(nn.Module):
    """LayerNorm(f(W x + b)), before the scores of the words."""

    def __init__(self, config: BertConfig) -> None:
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.act = activation(config.hidden_act)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, hidden_size) to the same."""
        return self.LayerNorm(self.act(self.dense(x)))  # type: ignore[no-any-return]


class BertLMPredictionHead(nn.Module):
    """Scores of the words: products with the word embeddings, which ``decoder`` shares."""

    def __init__(self, config: BertConfig, words: nn.Parameter) -> None:
        self.bias = nn.Parameter(np.zeros(config.vocab_size, default_dtype()))
        self.transform = BertPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.decoder.weight, self.decoder.bias = words, self.bias

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, hidden_size) to (batch, length, vocab_size)."""
        return self.decoder(self.transform(x))  # type: ignore[no-any-return]


class BertOnlyMLMHead(nn.Module):
    """The place of the head in the names of checkpoints: ``cls.predictions``."""

    def __init__(self, config: BertConfig, words: nn.Parameter) -> None:
        self.predictions = BertLMPredictionHead(config, words)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, hidden_size) to (batch, length, vocab_size)."""
        return self.predictions(x)  # type: ignore[no-any-return]


class BertForMaskedLM(Pretrained):
    """BERT as it is pre-trained: scores of the words that stand under a mask.

    Example:
        >>> import chainrule as cr
        >>> config = BertConfig(vocab_size=10, hidden_size=4, num_hidden_layers=1,
        ...                     num_attention_heads=2, intermediate_size=8)
        >>> BertForMaskedLM(config)(cr.tensor([[1, 2, 3]])).shape
        (1, 3, 10)
    """

    not_weights = BertModel.not_weights

    def __init__(self, config: BertConfig) -> None:
        self.bert = BertModel(config, add_pooling_layer=False)
        self.cls = BertOnlyMLMHead(config, self.bert.embeddings.word_embeddings.weight)
        draw_weights(self.cls, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Scores (batch, length, vocab_size); arguments as of :class:`BertModel`."""
        made: Tensor = self.cls(self.bert(input_ids, attention_mask, token_type_ids)[0])
        return made


class BertForSequenceClassification(Pretrained):
    """BERT that gives each text scores of ``num_labels`` classes: for fine-tuning.

    Example:
        >>> import chainrule as cr
        >>> config = BertConfig(vocab_size=10, hidden_size=4, num_hidden_layers=1, num_labels=3,
        ...                     num_attention_heads=2, intermediate_size=8)
        >>> BertForSequenceClassification(config)(cr.tensor([[1, 2, 3]])).shape
        (1, 3)
    """

    not_weights = BertModel.not_weights

    def __init__(self, config: BertConfig) -> None:
        self.bert = BertModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        draw_weights(self.classifier, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Scores (batch, num_labels); arguments as of :class:`BertModel`."""
        pooled = self.bert(input_ids, attention_mask, token_type_ids).pooler_output
        made: Tensor = self.classifier(self.dropout(pooled))
        return made
