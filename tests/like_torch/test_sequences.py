"""A text classifier with packed sequences, under both libraries."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from chainrule.errors import MissingFeatureError, MissingModuleError


def losses(torch: Any, rnn: Any) -> list[float]:
    """Bidirectional LSTM over padded texts; the same numbers to start from."""
    nn = torch.nn
    generator = np.random.default_rng(0)
    texts = [torch.tensor(generator.integers(1, 9, n)) for n in (5, 3, 2, 5)]
    labels = torch.tensor([0, 1, 1, 0])

    class Classifier(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(9, 4, padding_idx=0)
            self.lstm = nn.LSTM(4, 3, num_layers=2, batch_first=True, bidirectional=True)
            self.fc = nn.Linear(6, 2)

        def forward(self, x: Any, lengths: Any) -> Any:
            packed = rnn.pack_padded_sequence(
                self.embedding(x), lengths, batch_first=True, enforce_sorted=False
            )
            output, (h, _) = self.lstm(packed)
            output, _ = rnn.pad_packed_sequence(output, batch_first=True)
            return self.fc(torch.cat([h[-2], h[-1]], dim=1) + output.mean(dim=1))

    model = Classifier()
    for p in model.parameters():
        p.data.copy_(torch.tensor(generator.normal(size=tuple(p.shape)).astype("float32") * 0.3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x = rnn.pad_sequence(texts, batch_first=True)
    lengths = torch.tensor([len(text) for text in texts])
    found = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(x, lengths), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_a_text_classifier_trains_alike() -> None:
    ours, theirs = (
        losses(importlib.import_module(name), importlib.import_module(f"{name}.nn.utils.rnn"))
        for name in ("chainrule.like_torch", "torch")
    )
    np.testing.assert_allclose(ours, theirs, rtol=5e-5)
    assert ours[-1] < ours[0] / 1.2


def test_what_is_missing_is_named() -> None:
    rnn = importlib.import_module("chainrule.like_torch.nn.utils.rnn")
    with pytest.raises(MissingFeatureError, match=r"torch\.nn\.utils\.rnn\.unpack"):
        _ = rnn.unpack
    with pytest.raises(MissingModuleError, match=r"torch\.nn\.utils\.stateless"):
        importlib.import_module("chainrule.like_torch.nn.utils.stateless")
