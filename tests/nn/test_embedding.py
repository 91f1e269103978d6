"""Embeddings and bags of them against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import errors, nn, optim

Array = np.ndarray[Any, Any]


def whole(*shape: int, below: int = 6, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).integers(0, below, shape))


def assert_close(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-12)


def compare(name: str, arrays: list[Array], call: Any = None, **options: Any) -> None:
    """Outputs, gradients, and 5 updates, from the same table."""
    theirs = getattr(torch.nn, name)(6, 4, **options).double()
    ours = getattr(nn, name)(6, 4, **options, dtype="float64")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    optimizer = optim.SGD(ours.parameters(), lr=0.1)
    torch_optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    for _ in range(5):
        xs, torch_xs = [cr.tensor(x) for x in arrays], [torch.tensor(x) for x in arrays]
        made = ours(*xs) if call is None else call(ours, xs)
        torch_made = theirs(*torch_xs) if call is None else call(theirs, torch_xs)
        assert_close(made, torch_made)
        torch_optimizer.zero_grad()
        (made * made).sum().backward()
        (torch_made * torch_made).sum().backward()
        assert_close(ours.weight.grad, theirs.weight.grad)
        optimizer.step()
        torch_optimizer.step()
    assert_close(ours.weight, theirs.weight)


@pytest.mark.parametrize("padding_idx", [None, 0, 3, -1])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 1, 4)])
def test_embedding(shape: tuple[int, ...], padding_idx: int | None) -> None:
    compare("Embedding", [whole(*shape)], padding_idx=padding_idx)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 2])
def test_bags(mode: str, padding_idx: int | None) -> None:
    options = {"mode": mode, "padding_idx": padding_idx}
    distinct = np.array([[0, 2, 1, 4], [5, 3, 2, 0]])  # equal rows would tie for the largest
    compare("EmbeddingBag", [distinct], **options)
    compare("EmbeddingBag", [distinct.reshape(-1), np.array([0, 3, 3, 7])], **options)


def test_bags_of_repeated_words() -> None:
    for mode in ("sum", "mean"):
        compare("EmbeddingBag", [whole(3, 7)], mode=mode)
        compare("EmbeddingBag", [whole(9), np.array([0, 4])], mode=mode)
    compare("EmbeddingBag", [np.array([[2, 2], [2, 1]])], mode="mean", padding_idx=2)


def test_bags_with_weights() -> None:
    weights = np.random.default_rng(1).normal(size=(3, 4))

    def call(module: Any, xs: Any) -> Any:
        return module(xs[0], per_sample_weights=xs[1])

    def flat(module: Any, xs: Any) -> Any:
        return module(xs[0], xs[2], per_sample_weights=xs[1])

    compare("EmbeddingBag", [whole(3, 4), weights], call, mode="sum")
    arrays = [whole(12), weights.reshape(-1), np.array([0, 5, 6])]
    compare("EmbeddingBag", arrays, flat, mode="sum")


def test_from_pretrained_is_frozen_unless_asked() -> None:
    table = np.random.default_rng(0).normal(size=(5, 3))
    frozen = nn.Embedding.from_pretrained(table)
    np.testing.assert_array_equal(frozen.weight.numpy(), table)
    assert not frozen.weight.requires_grad
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad
    bag = nn.EmbeddingBag.from_pretrained(cr.tensor(table), mode="sum")
    np.testing.assert_allclose(bag(cr.tensor([[0, 1]])).numpy(), table[:2].sum(0, keepdims=True))


def test_initial_values() -> None:
    weight = nn.Embedding(1000, 20, padding_idx=1).weight.numpy()
    assert abs(weight.mean()) < 0.02
    assert abs(weight.std() - 1) < 0.02
    assert not weight[1].any()
    assert weight[0].all()


def test_compiled_training() -> None:
    x, y = cr.tensor(whole(8, 3)), cr.tensor(whole(8, below=2, seed=1))

    def losses(compiled: bool) -> list[float]:
        cr.manual_seed(0)
        model = nn.Sequential(nn.EmbeddingBag(6, 4, padding_idx=0), nn.Linear(4, 2))
        optimizer = optim.Adam(model.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.step(loss)
            return loss

        run = cr.compile(step) if compiled else step
        return [run(x, y).item() for _ in range(5)]

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-5)


def test_refusals_name_the_mend() -> None:
    layer = nn.Embedding(5, 2)
    with pytest.raises(errors.IndexRangeError, match=r"index 5 at position 1 is outside 0..4"):
        layer(cr.tensor([0, 5])).numpy()
    with pytest.raises(errors.DTypeError, match="whole numbers"):
        layer(cr.tensor([0.0]))
    with pytest.raises(errors.OptionError, match="max_norm"):
        nn.Embedding(5, 2, max_norm=1.0)
    with pytest.raises(errors.OptionError, match=r"a row in -5..4"):
        nn.Embedding(5, 2, padding_idx=5)
    with pytest.raises(errors.OptionError, match="did you mean 'mean'"):
        nn.EmbeddingBag(5, 2, mode="meen")(cr.tensor([[0]]))
    with pytest.raises(errors.ShapeError, match="without offsets"):
        nn.EmbeddingBag(5, 2)(cr.tensor([0, 1]))
    with pytest.raises(errors.OptionError, match='"sum" with per_sample_weights'):
        nn.EmbeddingBag(5, 2)(cr.tensor([[0]]), per_sample_weights=cr.ones(1, 1))
    with pytest.raises(errors.ShapeError, match="a table"):
        nn.Embedding.from_pretrained(np.zeros(3))
    assert nn.EmbeddingBag(5, 2, sparse=False, mode="sum").mode == "sum"
