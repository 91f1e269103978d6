"""Recurrent layers and cells against PyTorch in float64."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import errors, nn, optim
from chainrule.nn import packing

Array = np.ndarray[Any, Any]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).normal(size=shape))


def assert_close(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-12)


def twin(name: str, *sizes: Any, **options: Any) -> tuple[Any, Any]:
    """Our layer and PyTorch's, with the same numbers."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*sizes, **options).double()
    ours = getattr(nn, name)(*sizes, **options, dtype="float64")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def flat(made: Any) -> list[Any]:
    """All tensors of a layer's output."""
    return [x for part in made for x in flat(part)] if isinstance(made, tuple) else [made]


def weighed(made: Any, kind: Any) -> Any:
    """One number in which every entry of every output counts."""
    total = 0.0
    for seed, x in enumerate(flat(made)):
        total = (x * kind(normal(*x.shape, seed=seed + 50))).sum() + total
    return total


def compare(ours: Any, theirs: Any, arrays: list[Array], call: Any, steps: int = 5) -> None:
    """Outputs, all gradients, and ``steps`` updates."""
    xs = [cr.tensor(array, requires_grad=True) for array in arrays]
    torch_xs = [torch.tensor(array, requires_grad=True) for array in arrays]
    optimizer = optim.SGD(ours.parameters(), lr=0.05)
    torch_optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05)
    for _ in range(steps):
        made, torch_made = call(ours, xs, cr), call(theirs, torch_xs, torch)
        for a, b in zip(flat(made), flat(torch_made), strict=True):
            assert_close(a, b)
        for x in torch_xs:
            x.grad = None
        for x in xs:
            x.grad = None
        torch_optimizer.zero_grad()
        weighed(made, cr.tensor).backward()
        weighed(torch_made, torch.tensor).backward()
        for x, torch_x in zip(xs, torch_xs, strict=True):
            assert_close(x.grad, torch_x.grad)
        for (_, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert_close(p.grad, q.grad)
        optimizer.step()
        torch_optimizer.step()
    for key, value in theirs.state_dict().items():
        assert_close(ours.state_dict()[key], value)


CONFIGS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2},
    {"bidirectional": True},
    {"num_layers": 3, "bidirectional": True},
    {"bias": False, "batch_first": True},
    {"num_layers": 2, "batch_first": True, "bidirectional": True, "bias": False},
]
RELU = [{"nonlinearity": "relu"}, {"nonlinearity": "relu", "num_layers": 2, "bidirectional": True}]
LAYERS = [
    *[(name, config) for name in ("RNN", "LSTM", "GRU") for config in CONFIGS],
    *[("RNN", config) for config in RELU],
]


def state_shapes(name: str, config: dict[str, Any], batch: int) -> list[tuple[int, ...]]:
    count = config.get("num_layers", 1) * (1 + config.get("bidirectional", False))
    return [(count, batch, 4)] * (2 if name == "LSTM" else 1)


def as_state(parts: Any) -> Any:
    return parts[0] if len(parts) == 1 else tuple(parts)


@pytest.mark.parametrize(("name", "config"), LAYERS)
@pytest.mark.parametrize("initial", [False, True])
def test_layers(name: str, config: dict[str, Any], initial: bool) -> None:
    ours, theirs = twin(name, 3, 4, **config)
    arrays = [normal(2, 5, 3) if config.get("batch_first") else normal(5, 2, 3)]
    if initial:
        shapes = state_shapes(name, config, 2)
        arrays += [normal(*shape, seed=9 + i) for i, shape in enumerate(shapes)]
    compare(
        ours, theirs, arrays, lambda m, xs, _: m(xs[0], as_state(xs[1:])) if initial else m(xs[0])
    )


@pytest.mark.parametrize(("name", "config"), LAYERS)
def test_lengths_are_packed_sequences(name: str, config: dict[str, Any]) -> None:
    ours, theirs = twin(name, 3, 4, **config)
    first = config.get("batch_first", False)
    lengths = [2, 5, 1, 4]
    shapes = state_shapes(name, config, 4)
    arrays = [normal(4, 5, 3) if first else normal(5, 4, 3)]
    arrays += [normal(*shape, seed=9 + i) for i, shape in enumerate(shapes)]
    pack = {"batch_first": first, "enforce_sorted": False}

    def with_lengths(module: Any, xs: Any, library: Any) -> Any:
        if library is cr:
            return module(xs[0], as_state(xs[1:]), lengths=lengths)
        return packed(module, xs, library)

    def packed(module: Any, xs: Any, library: Any) -> Any:
        rnn = packing if library is cr else torch.nn.utils.rnn
        sequence = rnn.pack_padded_sequence(xs[0], library.tensor(lengths), **pack)
        output, state = module(sequence, as_state(xs[1:]))
        padded, found = rnn.pad_packed_sequence(output, batch_first=first)
        assert found.tolist() == lengths
        return padded, state

    compare(ours, theirs, arrays, with_lengths, steps=2)
    compare(ours, theirs, arrays, packed, steps=2)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_one_sequence_without_a_batch_axis(name: str) -> None:
    for config in ({}, {"num_layers": 2, "bidirectional": True}):
        ours, theirs = twin(name, 3, 4, **config)
        compare(ours, theirs, [normal(6, 3)], lambda m, xs, _: m(xs[0]), steps=1)
        shapes = [shape[::2] for shape in state_shapes(name, config, 1)]
        arrays = [normal(6, 3), *[normal(*shape, seed=i) for i, shape in enumerate(shapes)]]
        compare(ours, theirs, arrays, lambda m, xs, _: m(xs[0], as_state(xs[1:])), steps=1)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        (name, config)
        for name in ("RNNCell", "LSTMCell", "GRUCell")
        for config in ({}, {"bias": False})
    ]
    + [("RNNCell", {"nonlinearity": "relu"})],
)
def test_cells(name: str, config: dict[str, Any]) -> None:
    ours, theirs = twin(name, 3, 4, **config)
    states = 2 if name == "LSTMCell" else 1
    for shape in ((2,), ()):
        compare(ours, theirs, [normal(*shape, 3)], lambda m, xs, _: m(xs[0]), steps=3)
        arrays = [normal(*shape, size, seed=size) for size in (3, *(4,) * states)]
        compare(ours, theirs, arrays, lambda m, xs, _: m(xs[0], as_state(xs[1:])), steps=3)


# ------------------------------------------------------------------------------ over time


def detached(state: Any) -> Any:
    return tuple(x.detach() for x in state) if isinstance(state, tuple) else state.detach()


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_state_carried_from_batch_to_batch(name: str) -> None:
    ours, theirs = twin(name, 3, 4, num_layers=2)

    def run(module: Any, xs: Any, _: Any) -> Any:
        state, outputs = None, []
        for x in xs:
            output, state = module(x, None if state is None else detached(state))
            outputs.append(output)
        return (*outputs, state)

    compare(ours, theirs, [normal(4, 2, 3, seed=i) for i in range(3)], run, steps=2)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("layers", [1, 2])
def test_truncation_is_detach_by_hand(name: str, layers: int) -> None:
    ours, theirs = twin(name, 3, 4, num_layers=layers)
    ours.truncate = 3

    def run(module: Any, xs: Any, library: Any) -> Any:
        if library is cr:
            return module(xs[0])[0]
        state, outputs = None, []
        for chunk in xs[0].split(3):
            output, state = module(chunk, None if state is None else detached(state))
            outputs.append(output)
        return torch.cat(outputs)

    compare(ours, theirs, [normal(10, 2, 3)], run, steps=2)


# ------------------------------------------------------------------------------ ours alone


def test_dropout_between_layers_only() -> None:
    x = cr.tensor(normal(5, 2, 3))
    lstm = nn.LSTM(3, 4, num_layers=2, dropout=1.0, dtype="float64")
    dropped = lstm(x)[0]
    lstm.eval()
    assert not np.allclose(dropped.numpy(), lstm(x)[0].numpy())
    lstm.train()
    above = nn.LSTM(4, 4, dtype="float64")
    state = lstm.state_dict()
    above.load_state_dict({key: state[key.replace("_l0", "_l1")] for key in above.state_dict()})
    assert_equal(dropped, above(cr.zeros(5, 2, 4, dtype="float64"))[0])
    one = nn.LSTM(3, 4, dropout=0.9, dtype="float64")
    assert_equal(one(x)[0], one.eval()(x)[0])


def assert_equal(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("executor", ["interpreter", "torch"])
def test_compiled_training_is_the_uncompiled(name: str, executor: str) -> None:
    x, target, lengths = (
        cr.tensor(normal(5, 3, 3)),
        cr.tensor(normal(5, 3, 8)),
        cr.tensor([5, 2, 4]),
    )

    def losses(compiled: bool) -> list[float]:
        cr.manual_seed(1)
        layer = getattr(nn, name)(
            3, 4, num_layers=2, bidirectional=True, dropout=0.3, dtype="float64"
        )
        optimizer = optim.Adam(layer.parameters(), lr=0.01)

        def step(x: Any, target: Any, lengths: Any) -> Any:
            loss = nn.functional.mse_loss(layer(x, lengths=lengths)[0], target)
            loss.backward()
            optimizer.step()
            return loss

        run = cr.compile(step) if compiled else step
        return [run(x, target, lengths).item() for _ in range(4)]

    expected = losses(False)
    cr.set_executor(executor)
    np.testing.assert_allclose(losses(True), expected, rtol=1e-9)


def test_a_packed_sequence_inside_a_compiled_step() -> None:
    gru = nn.GRU(3, 4, dtype="float64")

    def run(x: Any, lengths: Any) -> Any:
        output, _ = gru(packing.pack_padded_sequence(x, lengths))
        return packing.pad_packed_sequence(output)[0]

    x, lengths = cr.tensor(normal(5, 2, 3)), cr.tensor([3, 2])
    made = cr.compile(run)(x, lengths)
    assert made.shape == (5, 2, 4)  # inside, the longest length is not known
    np.testing.assert_allclose(made[:3].numpy(), run(x, lengths).numpy(), rtol=1e-12)
    assert not made[3:].numpy().any()


def test_initial_values() -> None:
    for name in ("RNN", "LSTM", "GRU"):
        layer = getattr(nn, name)(8, 25, num_layers=2, bidirectional=True)
        values = np.concatenate([p.numpy().reshape(-1) for p in layer.parameters()])
        assert np.abs(values).max() <= 0.2
        assert np.abs(values).max() > 0.199
        assert abs(values.mean()) < 0.01


def test_layers_print_and_pickle() -> None:
    lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True)
    assert repr(lstm) == "LSTM(3, 4, num_layers=2, batch_first=True)"
    assert repr(nn.GRUCell(3, 4, bias=False)) == "GRUCell(3, 4, bias=False)"
    x = cr.ones(2, 5, 3)
    assert_equal(pickle.loads(pickle.dumps(lstm))(x)[0], lstm(x)[0])
    lstm.flatten_parameters()


def test_padding() -> None:
    rows = [normal(4, 2), normal(1, 2, seed=1), normal(3, 2, seed=2)]
    ours, theirs = [cr.tensor(x) for x in rows], [torch.tensor(x) for x in rows]
    for first in (False, True):
        made = packing.pad_sequence(ours, batch_first=first, padding_value=-1.0)
        assert_close(made, torch.nn.utils.rnn.pad_sequence(theirs, first, -1.0))
        back, lengths = packing.pad_packed_sequence(
            packing.pack_sequence(ours, enforce_sorted=False),
            batch_first=first, padding_value=2.0, total_length=6,
        )  # fmt: skip
        torch_back, torch_lengths = torch.nn.utils.rnn.pad_packed_sequence(
            torch.nn.utils.rnn.pack_sequence(theirs, enforce_sorted=False),
            batch_first=first, padding_value=2.0, total_length=6,
        )  # fmt: skip
        assert_close(back, torch_back)
        assert lengths.tolist() == torch_lengths.tolist()


def test_refusals_name_the_mend() -> None:
    lstm, x = nn.LSTM(3, 4), cr.ones(5, 2, 3)
    with pytest.raises(errors.LayerInputError, match=r"LSTM\(7, \.\.\.\)"):
        lstm(cr.ones(5, 2, 7))
    with pytest.raises(errors.ShapeError, match="2 or 3 axes"):
        lstm(cr.ones(3))
    with pytest.raises(errors.ShapeError, match=r"initial state of shape \(1, 2, 4\), twice"):
        lstm(x, cr.zeros(1, 2, 4))
    with pytest.raises(errors.OptionError, match="proj_size"):
        nn.LSTM(3, 4, proj_size=2)
    with pytest.raises(errors.OptionError, match="nonlinearity"):
        nn.RNN(3, 4, nonlinearity="sine")
    for lengths in ([5], [5, 0], [6, 1], [2.0, 1.0]):
        with pytest.raises(errors.OptionError, match="2 whole numbers from 1 to 5"):
            lstm(x, lengths=lengths)
    packed = packing.pack_padded_sequence(x, [5, 1])
    with pytest.raises(errors.OptionError, match="total_length"):
        packing.pad_packed_sequence(packed, total_length=3)
    for options in ({"num_layers": 0}, {"dropout": 1.5}):
        with pytest.raises(errors.OptionError):
            nn.GRU(3, 4, **options)
    with pytest.raises(errors.OptionError, match="hidden_size"):
        nn.GRUCell(3, 0)


def test_uncompiled_steps_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer's loop is found again by its types; the values, modes and lines are those of now."""
    from chainrule.tensor import scan

    traced = []
    original = scan._traced
    monkeypatch.setattr(scan, "_traced", lambda *args: traced.append(1) or original(*args))
    torch.manual_seed(0)
    theirs = torch.nn.GRU(3, 4)
    ours = nn.GRU(3, 4)
    ours.load_state_dict({name: p.detach().numpy() for name, p in theirs.named_parameters()})
    optimizers = optim.SGD(ours.parameters(), lr=0.5), torch.optim.SGD(theirs.parameters(), lr=0.5)
    rng = np.random.default_rng(0)

    def train(x: np.ndarray[Any, Any]) -> None:
        losses = ours(cr.tensor(x))[0].square().sum(), theirs(torch.tensor(x))[0].square().sum()
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        np.testing.assert_allclose(losses[0].item(), losses[1].item(), rtol=1e-5)

    for batch in (2, 2, 2):
        train(rng.standard_normal((5, batch, 3)).astype(np.float32))
    assert len(traced) == 1
    train(rng.standard_normal((5, 6, 3)).astype(np.float32))
    assert len(traced) == 2
    for p in (ours.weight_hh_l0, theirs.weight_hh_l0):
        p.requires_grad_(False)
    train(rng.standard_normal((5, 2, 3)).astype(np.float32))
    assert len(traced) == 3  # no gradient flows to that weight any more
    assert ours.weight_hh_l0.grad is None


def test_a_step_of_ones_own_runs_every_time() -> None:
    class Counted(nn.RNN):
        steps = 0

        def step(self, z: Any, u: Any, state: Any) -> Any:
            Counted.steps += 1
            return super().step(z, u, state)

    layer = Counted(3, 4)
    for _ in range(3):
        layer(cr.zeros(5, 2, 3))
    assert Counted.steps == 3
