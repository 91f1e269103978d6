"""A language model of letters: a recurrent network that guesses the next one."""

from __future__ import annotations

from typing import Any

from chainrule import nn
from chainrule.errors import OptionError, closest
from chainrule.models.language import evaluating, next_token
from chainrule.tensor.compile import compile
from chainrule.tensor.functions import cat
from chainrule.tensor.tensor import Tensor
from chainrule.tensor.transforms import no_grad

CELLS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class CharRNN(nn.Module):
    """Letter numbers to scores of the next letter, at every position.

    x[t] = embedding of letter t; h[t] = LSTM (or GRU, RNN) of x[t] and h[t-1]; scores = W h[t] + b.
    The loss of a text is the cross-entropy of the scores at t with the letter at t + 1.

    Args:
        vocab_size: number of different letters.
        embedding_dim: features of an embedding.
        hidden_size: units of each recurrent layer.
        num_layers: recurrent layers on top of each other.
        cell: "lstm", "gru" or "rnn".
        dropout: probability of dropping an entry between layers, in training.

    To learn from one long text in pieces, hand the state on. Between calls of a compiled step it is
    data; without ``cr.compile`` detach it, or each piece is differentiated back to the first.

    Raises:
        OptionError: an unknown cell.
        IndexRangeError: a letter number outside the vocabulary.

    Example:
        >>> import chainrule as cr
        >>> model = CharRNN(vocab_size=10, embedding_dim=4, hidden_size=8)
        >>> scores, state = model(cr.tensor([[1, 2, 3]]))
        >>> scores.shape
        (1, 3, 10)
        >>> model.generate(cr.tensor([[1, 2, 3]]), max_new_tokens=4).shape
        (1, 7)

    Source: Graves, "Generating sequences with recurrent neural networks", 2013.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 64,
        hidden_size: int = 256,
        num_layers: int = 1,
        cell: str = "lstm",
        dropout: float = 0.0,
    ) -> None:
        if cell not in CELLS:
            near = closest(cell, CELLS)
            raise OptionError(
                name="cell", expected=" or ".join(map(repr, CELLS)), got=repr(cell),
                mend=f"did you mean {near!r}?" if near else "",
            )  # fmt: skip
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.rnn = CELLS[cell](
            embedding_dim, hidden_size, num_layers, batch_first=True, dropout=dropout
        )
        self.head = nn.Linear(hidden_size, vocab_size)

    def forward(self, tokens: Tensor, state: Any = None, lengths: Any = None) -> tuple[Tensor, Any]:
        """(batch, time) to scores (batch, time, vocab_size), and the state after the last letter.

        Args:
            tokens: letter numbers.
            state: the state to start from; zeros when left out.
            lengths: how many letters of each text count, (batch,).
        """
        outputs, state = self.rnn(self.embedding(tokens), state, lengths=lengths)
        return self.head(outputs), state

    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
    ) -> Tensor:
        """Go on with a text, letter by letter.

        Args:
            tokens: the beginning, (batch, time).
            max_new_tokens: how many letters to add.
            temperature: below 1 the likely letters become likelier; 0 takes the likeliest.
            top_k: draw from that many likeliest letters alone.

        Returns:
            (batch, time + max_new_tokens), the beginning included.
        """

        def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
            scores, state = self(tokens, state)
            return next_token(scores[:, -1], temperature, top_k), state

        found, token, state = [tokens], tokens, None
        with evaluating(self), no_grad():
            compiled = compile(step)
            for _ in range(max_new_tokens):
                token, state = compiled(token, state)
                found.append(token)
        return cat(found, 1)
