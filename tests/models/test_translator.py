"""The encoder-decoder Transformer: shapes and masks, decoding against the plain model, learning."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformer_twins import EXACT, hold

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import OptionError
from chainrule.models import Translator

RNG = np.random.default_rng(0)
PAD, START, END = 0, 1, 2
SRC = np.array([[3, 4, 5, 6], [5, 3, 0, 0]])
TGT = np.array([[1, 4, 3], [1, 5, 0]])
SMALL = {"d_model": 8, "nhead": 2, "num_layers": 1, "dim_feedforward": 6, "dropout": 0.0}


class Theirs(torch.nn.Module):
    """The paper's model in PyTorch's words."""

    def __init__(self, src: int, tgt: int, norm_first: bool = False) -> None:
        super().__init__()
        self.src_embedding = torch.nn.Embedding(src, 8, PAD)
        self.tgt_embedding = torch.nn.Embedding(tgt, 8, PAD)
        self.transformer = torch.nn.Transformer(
            8, 2, 1, 1, 6, 0.0, batch_first=True, norm_first=norm_first
        )
        self.transformer.encoder.enable_nested_tensor = False
        self.generator = torch.nn.Linear(8, tgt)

    def embedded(self, table: Any, words: Any) -> Any:
        waves = torch.zeros(words.shape[1], 8, dtype=torch.float64)
        for m, i in itertools.product(range(words.shape[1]), range(8)):
            angle = m / 10000 ** ((i - i % 2) / 8)
            waves[m, i] = math.cos(angle) if i % 2 else math.sin(angle)
        return table(words) * math.sqrt(8) + waves

    def forward(self, src: Any, tgt: Any) -> Any:
        later = torch.triu(torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool), 1)
        made = self.transformer(
            self.embedded(self.src_embedding, src),
            self.embedded(self.tgt_embedding, tgt),
            tgt_mask=later,
            src_key_padding_mask=src == PAD,
            memory_key_padding_mask=src == PAD,
        )
        return self.generator(made)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_as_pytorch(norm_first: bool) -> None:
    theirs = Theirs(7, 6, norm_first)
    hold(Translator(7, 6, **SMALL, norm_first=norm_first), theirs, [SRC, TGT], steps=3)


@pytest.fixture
def model() -> Translator:
    return random_model(7, 6, 0)


def random_model(src: int, tgt: int, seed: int, size: float = 1.0) -> Translator:
    rng = np.random.default_rng(seed)
    made = Translator(src, tgt, **SMALL).double().eval()
    for parameter in made.parameters():
        parameter.copy_(rng.normal(size=parameter.shape) * size)
    return made


def test_decoding_with_caches(model: Translator) -> None:
    src, tgt = cr.tensor(SRC), cr.tensor(TGT)
    full = model(src, tgt).numpy()
    caches = model.new_caches(2, 4)
    memory, padding = model.encode(src), src == PAD
    for at in range(3):
        found = model.decode(tgt[:, at : at + 1], memory, padding, caches).numpy()
        np.testing.assert_allclose(found[:, 0], full[:, at], **EXACT)


def test_padding_changes_nothing(model: Translator) -> None:
    alone = model(cr.tensor(SRC[1:, :2]), cr.tensor(TGT[1:])).numpy()
    np.testing.assert_allclose(model(cr.tensor(SRC), cr.tensor(TGT)).numpy()[1:], alone, **EXACT)


def plain_greedy(model: Translator, src: np.ndarray, max_len: int) -> list[int]:
    words = [START]
    while len(words) <= max_len and words[-1] != END:
        scores = model(cr.tensor(src[None]), cr.tensor([words])).numpy()[0, -1]
        words.append(int(scores.argmax()))
    return words[1:]


@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_greedy_is_word_by_word(seed: int) -> None:
    model = random_model(7, 6, seed)
    found = model.greedy(cr.tensor(SRC), START, END, 5).numpy()
    for row, src in zip(found, SRC, strict=True):
        expected = plain_greedy(model, src, 5)
        assert row[: len(expected)].tolist() == expected
        assert not row[len(expected) :].any()


def best_of_all(model: Translator, src: np.ndarray, length: int, penalty: float) -> list[int]:
    """Every translation tried: words in any order, ended by END or by the length."""
    best, found = -math.inf, []
    words = range(model.generator.out_features)
    for n in range(1, length + 1):
        for text in itertools.product(words, repeat=n):
            if END in text[:-1] or (n < length and text[-1] != END):
                continue
            given = cr.tensor([[START, *text[:-1]]])
            logs = model(cr.tensor(src[None]), given).log_softmax(-1).numpy()[0]
            total = sum(logs[i, word] for i, word in enumerate(text))
            rank = total / ((5 + n) / 6) ** penalty
            if rank > best:
                best, found = rank, list(text)
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_wide_beams_find_the_best(seed: int, penalty: float) -> None:
    """With as many beams as there are texts, the search is exhaustive."""
    model = random_model(7, 4, seed, size=0.5)
    found = model.beam_search(cr.tensor(SRC), START, END, 3, beams=64, length_penalty=penalty)
    for row, src in zip(found.numpy(), SRC, strict=True):
        expected = best_of_all(model, src, 3, penalty)
        assert row[: len(expected)].tolist() == expected


def test_beams_are_no_worse_than_greedy() -> None:
    """Without a length penalty, the beam's translation is at least as likely (on these models)."""

    def likelihood(model: Translator, row: np.ndarray) -> float:
        text = row[: list(row).index(END) + 1] if END in row else row
        given = cr.tensor([[START, *text[:-1]]])
        logs = model(cr.tensor(SRC[:1]), given).log_softmax(-1).numpy()[0]
        return float(sum(logs[i, word] for i, word in enumerate(text)))

    better = 0
    for seed in range(8):
        model = random_model(7, 6, seed)
        one = model.greedy(cr.tensor(SRC[:1]), START, END, 4).numpy()[0]
        many = model.beam_search(
            cr.tensor(SRC[:1]), START, END, 4, beams=6, length_penalty=0.0
        ).numpy()[0]
        gain = likelihood(model, many) - likelihood(model, one)
        assert gain > -1e-9
        better += gain > 1e-6
    assert better


def test_it_learns_to_reverse() -> None:
    """Three words, backwards: nothing but attention to positions can do it."""
    cr.manual_seed(1)
    model = Translator(8, 8, d_model=32, nhead=4, num_layers=1, dim_feedforward=64, dropout=0.0)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    every = np.array(list(itertools.product(range(3, 8), repeat=3)))
    order = RNG.permutation(len(every))
    learned, held_out = every[order[:100]], every[order[100:]]

    def labels(src: np.ndarray) -> np.ndarray:
        return np.concatenate([src[:, ::-1], np.full((len(src), 1), END)], 1)

    @cr.compile
    def step(src: Any, given: Any, wanted: Any) -> Any:
        loss = nn.functional.cross_entropy(model(src, given).reshape(-1, 8), wanted.reshape(-1))
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(150):
        src = learned[RNG.permutation(100)[:50]]
        wanted = labels(src)
        given = np.concatenate([np.full((50, 1), START), wanted[:, :-1]], 1)
        loss = step(src, given, wanted)
    assert loss.item() < 0.2
    found = model.greedy(cr.tensor(held_out), START, END, 5).numpy()
    assert (found[:, :4] == labels(held_out)).all(1).mean() > 0.8


def test_mistakes(model: Translator) -> None:
    with pytest.raises(OptionError, match="beams must be at least 1"):
        model.beam_search(cr.tensor(SRC), START, END, 3, beams=0)
