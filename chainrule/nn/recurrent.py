"""Recurrent layers: the same weights at every step of a sequence.

Parameters have PyTorch's names and layouts: ``weight_ih_l0`` (gates * hidden, inputs) multiplies
the input, ``weight_hh_l0`` (gates * hidden, hidden) the state; ``_reverse`` is the other direction.
All start from U(-k, k), k = 1 / sqrt(hidden).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from chainrule.core.dtype import as_dtype, default_dtype
from chainrule.core.graph import is_program
from chainrule.core.ops import recurrent
from chainrule.errors import LayerInputError, OptionError, ShapeError
from chainrule.nn import functional, init
from chainrule.nn.module import Module, Parameter, takes_device
from chainrule.nn.packing import PackedSequence, checked_lengths, mask
from chainrule.tensor.functions import cat, stack, where, zeros
from chainrule.tensor.scan import loop, memo_of
from chainrule.tensor.tensor import Tensor, wrap

State = tuple[Tensor, ...]


class _Step(Module):
    """What one step is, for a cell and for a layer.

    Attributes:
        gates: how many rows the weights have for each unit of the state.
        states: how many tensors the state has.
    """

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    input_size: int
    hidden_size: int
    bias: bool
    nonlinearity = "tanh"

    def step(self, z: Tensor, u: Tensor, state: State) -> State:
        """The next state from W x + b_ih, U h + b_hh, and the state."""
        raise NotImplementedError

    def _set_sizes(self, input_size: int, hidden_size: int, bias: bool) -> None:
        for name, value in (("input_size", input_size), ("hidden_size", hidden_size)):
            if value < 1:
                raise OptionError(name=name, expected="at least 1", got=value)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias

    def _set_nonlinearity(self, nonlinearity: str) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise OptionError(
                name="nonlinearity", expected='"tanh" or "relu"', got=repr(nonlinearity)
            )
        self.nonlinearity = nonlinearity

    def _add_parameters(self, inputs: int, suffix: str, dtype: object) -> None:
        kind = as_dtype(dtype) if dtype is not None else default_dtype()
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, inputs),
            "weight_hh": (rows, self.hidden_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        for name, shape in shapes.items():
            setattr(self, name + suffix, Parameter(np.zeros(shape, kind)))

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _part(self, x: Tensor, name: str, suffix: str) -> Tensor:
        """W x + b of the input (``ih``) or of the state (``hh``)."""
        bias = getattr(self, f"bias_{name}{suffix}") if self.bias else None
        return functional.linear(x, getattr(self, f"weight_{name}{suffix}"), bias)

    def _check_input(self, x: Tensor, axes: tuple[int, int]) -> None:
        name = type(self).__name__
        if x.ndim not in axes:
            raise ShapeError(
                op=name, expected=f"an input with {axes[0]} or {axes[1]} axes", got=x.shape,
                mend="the last axis are the features of one step",
            )  # fmt: skip
        if x.shape[-1] != self.input_size:
            raise LayerInputError(
                name=name, expected=self.input_size, got=x.shape[-1], shape=x.shape
            )

    def _first_state(self, hx: Any, shape: tuple[int, ...], dtype: object) -> State:
        """The initial state as a tuple; zeros where none is given."""
        if hx is None:
            return (zeros(*shape, dtype=dtype),) * self.states
        state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if [x.shape for x in state] != [shape] * self.states:
            raise ShapeError(
                op=type(self).__name__,
                expected=f"an initial state of shape {shape}" + ", twice" * (self.states - 1),
                got=" and ".join(str(x.shape) for x in state),
                mend="leave it out to start from zeros",
            )
        return state

    def _given(self, state: State) -> Any:
        """The state as users see it."""
        return state[0] if self.states == 1 else state


class _PlainStep(_Step):
    """h' = tanh(W x + b_ih + U h + b_hh), or relu of it."""

    def step(self, z: Tensor, u: Tensor, state: State) -> State:
        return ((z + u).tanh() if self.nonlinearity == "tanh" else (z + u).relu(),)


class _LSTMStep(_Step):
    """h' = o tanh(c'), c' = f c + i g."""

    gates = 4
    states = 2

    def step(self, z: Tensor, u: Tensor, state: State) -> State:
        h, c = recurrent.lstm_cell((z + u).node, state[1].node)
        return wrap(h), wrap(c)


class _GRUStep(_Step):
    """h' = (1 - z) n + z h."""

    gates = 3

    def step(self, z: Tensor, u: Tensor, state: State) -> State:
        return (wrap(recurrent.gru_cell(z.node, u.node, state[0].node)),)


# ---------------------------------------------------------------------------------- cells


class _Cell(_Step):
    """One step: input (batch, inputs) or (inputs,), state (batch, hidden) or (hidden,)."""

    @takes_device
    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, dtype: object = None
    ) -> None:
        self._set_sizes(input_size, hidden_size, bias)
        self._add_parameters(input_size, "", dtype)
        self.reset_parameters()

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        """The next state; ``hx`` is the state before, zeros where it is left out."""
        self._check_input(x, (1, 2))
        state = self._first_state(hx, (*x.shape[:-1], self.hidden_size), x.dtype)
        u = self._part(state[0], "hh", "")
        return self._given(self.step(self._part(x, "ih", ""), u, state))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ", bias=False" * (not self.bias)


class RNNCell(_PlainStep, _Cell):
    """h' = tanh(W x + b_ih + U h + b_hh); or relu, with ``nonlinearity="relu"``.

    Shapes: x (batch, input_size), h (batch, hidden_size), weight_ih (hidden_size, input_size),
    weight_hh (hidden_size, hidden_size); or without the batch axis.

    Raises:
        LayerInputError: the last axis of x is not ``input_size``.
        ShapeError: a state of another shape.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.RNNCell(3, 4)(cr.ones(2, 3)).shape
        (2, 4)

    Source: Elman, "Finding structure in time", 1990.
    """

    @takes_device
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: object = None,
    ) -> None:
        self._set_nonlinearity(nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype)


class LSTMCell(_LSTMStep, _Cell):
    """i, f, o = sigmoid, g = tanh of the parts of W x + b_ih + U h + b_hh;
    c' = f c + i g; h' = o tanh(c').

    Shapes: x (batch, input_size); h and c (batch, hidden_size); weight_ih (4 hidden_size,
    input_size), its rows in the order i, f, g, o. Takes ``(h, c)`` and gives ``(h', c')``.

    Raises:
        LayerInputError: the last axis of x is not ``input_size``.
        ShapeError: a state of another shape.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> h, c = nn.LSTMCell(3, 4)(cr.ones(2, 3))
        >>> h.shape, c.shape
        ((2, 4), (2, 4))

    Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997; Gers et al., 2000.
    """


class GRUCell(_GRUStep, _Cell):
    """r, z = sigmoid and n = tanh of the parts of W x + b_ih and U h + b_hh, the reset gate r
    multiplying U h + b_hh of n; h' = (1 - z) n + z h.

    Shapes: x (batch, input_size), h (batch, hidden_size), weight_ih (3 hidden_size, input_size),
    its rows in the order r, z, n.

    Raises:
        LayerInputError: the last axis of x is not ``input_size``.
        ShapeError: a state of another shape.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.GRUCell(3, 4)(cr.ones(2, 3)).shape
        (2, 4)

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014.
    """


# ---------------------------------------------------------------------------------- layers


class _Layers(_Step):
    """Layers of steps over whole sequences, each layer reading the outputs of the one before.

    The input's share of the gates, W x + b_ih, is computed for all steps at once before the loop.
    """

    @takes_device
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        truncate: int | None = None,
        dtype: object = None,
    ) -> None:
        self._set_sizes(input_size, hidden_size, bias)
        if num_layers < 1:
            raise OptionError(name="num_layers", expected="at least 1", got=num_layers)
        if not 0 <= dropout <= 1:
            raise OptionError(name="dropout", expected="between 0 and 1", got=dropout)
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.truncate = truncate
        for layer, suffixes in enumerate(self._suffixes()):
            inputs = hidden_size * len(suffixes) if layer else input_size
            for suffix in suffixes:
                self._add_parameters(inputs, suffix, dtype)
        self.reset_parameters()

    def _suffixes(self) -> list[list[str]]:
        """The ends of the parameters' names, for each layer and direction."""
        directions = ["", "_reverse"] if self.bidirectional else [""]
        return [[f"_l{n}{way}" for way in directions] for n in range(self.num_layers)]

    def flatten_parameters(self) -> None:
        """Accepted, as in PyTorch; there is nothing to do."""

    def forward(self, x: Any, hx: Any = None, *, lengths: Any = None) -> Any:
        """The last layer's output at every step, and every layer's last state.

        Args:
            x: (time, batch, input_size); (batch, time, input_size) with ``batch_first``; without a
                batch axis (time, input_size); or a ``PackedSequence``.
            hx: the initial state, each tensor (layers * directions, batch, hidden_size).
            lengths: how many steps of each sequence count, (batch,): beyond, the output is 0 and
                the state stays; the backward direction begins at each sequence's own end.
        """
        if isinstance(x, PackedSequence):
            output, last = self._run(x.padded, hx, x.lengths)
            return PackedSequence(output, x.lengths), last
        self._check_input(x, (2, 3))
        batched = x.ndim == 3
        if not batched:
            x = x.unsqueeze(1)
            hx = _each(hx, lambda h: h.unsqueeze(1))
        elif self.batch_first:
            x = x.transpose(0, 1)
        if lengths is not None:
            lengths = checked_lengths(lengths, *x.shape[:2])
        output, last = self._run(x, hx, lengths)
        if not batched:
            return output.squeeze(1), _each(last, lambda h: h.squeeze(1))
        return (output.transpose(0, 1) if self.batch_first else output), last

    def _run(self, x: Tensor, hx: Any, lengths: Tensor | None) -> tuple[Tensor, Any]:
        steps, batch = x.shape[:2]
        suffixes = self._suffixes()
        count = sum(map(len, suffixes))
        initial = self._first_state(hx, (count, batch, self.hidden_size), x.dtype)
        alive = None if lengths is None else mask(lengths, steps).unsqueeze(2)
        last: list[State] = []
        for layer, directions in enumerate(suffixes):
            if layer:
                x = functional.dropout(x, self.dropout, self.training)
            outputs = []
            for suffix in directions:
                state = tuple(part[len(last)] for part in initial)
                state, output = self._direction(x, state, suffix, alive)
                last.append(state)
                outputs.append(output)
            x = cat(outputs, 2) if len(outputs) > 1 else outputs[0]
        return x, self._given(tuple(stack(parts) for parts in zip(*last, strict=True)))

    def _direction(
        self, x: Tensor, state: State, suffix: str, alive: Tensor | None
    ) -> tuple[State, Tensor]:
        """One layer in one direction: the last state, and h at every step."""

        def body(state: State, slices: Sequence[Tensor]) -> tuple[State, Tensor]:
            after = self.step(slices[0], self._part(state[0], "hh", suffix), state)
            if alive is None:
                return after, after[0]
            inside = slices[1]
            held = tuple(where(inside, new, old) for new, old in zip(after, state, strict=True))
            return held, where(inside, after[0], 0.0)

        z = self._part(x, "ih", suffix)
        xs = (z,) if alive is None else (z, alive)
        memo = None if is_program(type(self).step.__code__) else memo_of(self, suffix)
        return loop(body, state, xs, None, suffix.endswith("_reverse"), self.truncate, memo)

    def extra_repr(self) -> str:
        words = [str(self.input_size), str(self.hidden_size)]
        plain = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,
                 "bidirectional": False, "truncate": None}  # fmt: skip
        words += [
            f"{name}={getattr(self, name)}"
            for name, usual in plain.items()
            if getattr(self, name) != usual
        ]
        return ", ".join(words)


def _each(state: Any, change: Any) -> Any:
    if state is None:
        return None
    return change(state) if isinstance(state, Tensor) else tuple(map(change, state))


class RNN(_PlainStep, _Layers):
    """h[t] = tanh(W x[t] + b_ih + U h[t-1] + b_hh) at every step; or relu.

    Args:
        input_size, hidden_size: features of x[t] and of h[t].
        num_layers: layers on top of each other.
        nonlinearity: "tanh" or "relu".
        bias: whether there are b_ih and b_hh.
        batch_first: x is (batch, time, features), not (time, batch, features).
        dropout: probability of dropping an entry between layers, in training.
        bidirectional: a second direction, from the end; the outputs stand side by side.
        truncate: back-propagation through time stops every so many steps.

    Shapes: x (time, batch, input_size); output (time, batch, directions * hidden_size); h_n
    (layers * directions, batch, hidden_size).

    To carry the state on from batch to batch, detach it: ``output, h = rnn(x, h.detach())``.

    Raises:
        LayerInputError: the last axis of x is not ``input_size``.
        ShapeError: an initial state of another shape.
        OptionError: an option that is not allowed; lengths that do not fit.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> output, h = nn.RNN(3, 4, batch_first=True)(cr.ones(2, 5, 3), lengths=[5, 3])
        >>> output.shape, h.shape
        ((2, 5, 4), (1, 2, 4))

    Source: Elman, "Finding structure in time", 1990.
    """

    @takes_device
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        truncate: int | None = None,
        dtype: object = None,
    ) -> None:
        self._set_nonlinearity(nonlinearity)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            truncate=truncate, dtype=dtype,
        )  # fmt: skip


class LSTM(_LSTMStep, _Layers):
    """i, f, o = sigmoid, g = tanh of the parts of W x[t] + b_ih + U h[t-1] + b_hh;
    c[t] = f c[t-1] + i g; h[t] = o tanh(c[t]).

    Args and shapes are those of :class:`RNN`, but for ``nonlinearity``; the weights have 4
    hidden_size rows in the order i, f, g, o; the state is ``(h, c)``.

    To carry the state on from batch to batch, detach both:
    ``output, (h, c) = lstm(x, (h.detach(), c.detach()))``.

    Raises:
        LayerInputError: the last axis of x is not ``input_size``.
        ShapeError: an initial state of another shape.
        OptionError: an option that is not allowed; lengths that do not fit; ``proj_size``.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> output, (h, c) = nn.LSTM(3, 4, num_layers=2, bidirectional=True)(cr.ones(5, 2, 3))
        >>> output.shape, h.shape, c.shape
        ((5, 2, 8), (4, 2, 4), (4, 2, 4))

    Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997; Gers et al., 2000.
    """

    @takes_device
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        truncate: int | None = None,
        dtype: object = None,
    ) -> None:
        if proj_size:
            raise OptionError(
                name="proj_size", expected="0", got=proj_size,
                mend="put a Linear after the LSTM, or make hidden_size smaller",
            )  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            truncate=truncate, dtype=dtype,
        )  # fmt: skip


class GRU(_GRUStep, _Layers):
    """r, z = sigmoid and n = tanh of the parts of W x[t] + b_ih and U h[t-1] + b_hh, the reset gate
    r multiplying U h + b_hh of n; h[t] = (1 - z) n + z h[t-1].

    Args and shapes are those of :class:`RNN`, but for ``nonlinearity``; the weights have 3
    hidden_size rows in the order r, z, n.

    Raises:
        LayerInputError: the last axis of x is not ``input_size``.
        ShapeError: an initial state of another shape.
        OptionError: an option that is not allowed; lengths that do not fit.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> output, h = nn.GRU(3, 4)(cr.ones(5, 2, 3))
        >>> output.shape, h.shape
        ((5, 2, 4), (1, 2, 4))

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014.
    """
