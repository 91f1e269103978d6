"""The letter model and the forecaster: against PyTorch, and whether they learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import errors, nn, optim
from chainrule.models.char_rnn import CharRNN
from chainrule.models.forecaster import Forecaster, persistence, skill, windows


class TorchCharRNN(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, cell: str) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(7, 3)
        kind = getattr(torch.nn, cell.upper())
        self.rnn = kind(3, 5, 2, batch_first=True)
        self.head = torch.nn.Linear(5, 7)

    def forward(self, tokens: Any) -> Any:
        outputs, state = self.rnn(self.embedding(tokens))
        return self.head(outputs), state


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_char_rnn_is_pytorchs(cell: str) -> None:
    cr.set_default_dtype("float64")
    ours, theirs = CharRNN(7, 3, 5, 2, cell), TorchCharRNN(cell).double()
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    text = np.random.default_rng(0).integers(0, 7, (2, 9))
    x, y = text[:, :-1], text[:, 1:]
    scores, _ = ours(cr.tensor(x))
    loss = nn.functional.cross_entropy(scores.reshape(-1, 7), cr.tensor(y).reshape(-1))
    torch_scores, _ = theirs(torch.tensor(x))
    torch_loss = torch.nn.functional.cross_entropy(
        torch_scores.reshape(-1, 7), torch.tensor(y).reshape(-1)
    )
    assert loss.item() == pytest.approx(torch_loss.item(), rel=1e-10)
    loss.backward()
    torch_loss.backward()
    for (_, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert p.grad is not None
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_char_rnn_learns_a_text_by_heart() -> None:
    """One text in two pieces, the state handed on; then it goes on from its beginning."""
    cr.manual_seed(0)
    text = np.array([[0, 1, 2, 0, 3, 1, 1, 2, 3, 0, 2, 2, 1]])
    model = CharRNN(4, 8, 16, cell="gru")
    optimizer = optim.Adam(model.parameters(), lr=0.02)

    def step(x: Any, y: Any, state: Any) -> Any:
        scores, state = model(x, state)
        loss = nn.functional.cross_entropy(scores.reshape(-1, 4), y.reshape(-1))
        optimizer.step(loss)
        return loss, state

    compiled = cr.compile(step)
    for _ in range(120):
        state = None
        for start in (0, 6):
            x, y = text[:, start : start + 6], text[:, start + 1 : start + 7]
            loss, state = compiled(cr.tensor(x), cr.tensor(y), state)
    assert loss.item() < 0.1
    made = model.generate(cr.tensor(text[:, :2]), max_new_tokens=11, temperature=0)
    assert made.tolist() == text.tolist()
    assert model.training


def test_generated_letters_are_drawn() -> None:
    cr.manual_seed(0)
    model = CharRNN(5, 3, 4)
    start = cr.tensor([[0]] * 50)
    one = model.generate(start, 3)
    assert one.shape == (50, 4)
    assert len(set(map(tuple, one.tolist()))) > 10
    assert (
        model.generate(start, 2, top_k=1)[:, 1:].tolist()
        == model.generate(start, 2, temperature=0)[:, 1:].tolist()
    )
    with pytest.raises(errors.OptionError, match="did you mean 'gru'"):
        CharRNN(5, cell="grue")


def test_forecaster_starts_from_persistence_and_beats_it() -> None:
    cr.manual_seed(0)
    time = np.arange(400.0)
    series = (20 + 3 * np.sin(time / 5) + np.cos(time / 3))[:, None]
    train, test = windows(series[:300], 20, 2), windows(series[280:], 20, 2)
    model = Forecaster(horizon=2, hidden_size=16).scale_to(series[:300])
    before = skill(model, *test)
    assert before.rmse == pytest.approx(before.persistence_rmse, rel=1e-5)
    assert before.score == pytest.approx(0, abs=1e-5)
    optimizer = optim.Adam(model.parameters(), lr=0.01)

    def step(x: Any, y: Any) -> Any:
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.step(loss)
        return loss

    compiled = cr.compile(step)
    x, y = (cr.tensor(part, "float32") for part in train)
    for _ in range(80):
        compiled(x, y)
    after = skill(model, *test)
    assert after.score > 0.9
    assert after.persistence_rmse == before.persistence_rmse
    assert str(after).startswith("RMSE 0.")
    expected = np.sqrt(np.mean((persistence(test[0], 2) - test[1]) ** 2))
    assert after.persistence_rmse == pytest.approx(expected)


def test_windows() -> None:
    series = np.arange(12.0).reshape(6, 2)
    x, y = windows(series, window=3, horizon=2)
    assert (x.shape, y.shape) == ((2, 3, 2), (2, 2, 2))
    np.testing.assert_array_equal(x[1], series[1:4])
    np.testing.assert_array_equal(y[1], series[4:6])
    with pytest.raises(errors.ShapeError, match="at least 7 steps"):
        windows(series, window=5, horizon=2)
    with pytest.raises(errors.ShapeError, match="series"):
        windows(series[:, 0], window=2)
