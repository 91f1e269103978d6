"""The sequence models that are measured, written once for both libraries: ``nn`` is either's."""

from __future__ import annotations

from typing import Any

VOCABULARY, LENGTH = 96, 64


def letters(nn: Any) -> Any:
    """W5: letter numbers to scores of the next one: embedding, LSTM, linear."""

    class Letters(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, 64)
            self.rnn = nn.LSTM(64, 256, batch_first=True)
            self.head = nn.Linear(256, VOCABULARY)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(self.embedding(x))[0])

    return Letters()


def gpt(nn: Any, layers: int = 4, length: int = LENGTH) -> Any:
    """W6: a GPT of 4 layers, 128 wide, 4 heads, norms first."""
    width, heads = 128, 4

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            batch, length, _ = x.shape
            parts = self.qkv(self.norm1(x)).reshape(batch, length, 3, heads, width // heads)
            q, k, v = (parts[:, :, i].transpose(1, 2) for i in range(3))
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
            return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))

    class GPT(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, width)
            self.positions = nn.Embedding(length, width)
            self.blocks = nn.Sequential(*[Block() for _ in range(layers)])
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, VOCABULARY)

        def forward(self, x: Any) -> Any:
            x = self.tokens(x) + self.positions.weight
            return self.head(self.norm(self.blocks(x)))

    return GPT()
