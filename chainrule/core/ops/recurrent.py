"""One step of a gated recurrent network as a named function, with its gates as further results.

``z`` are the gates' inputs, all in one row: W x + b_ih + U h + b_hh. The rules are the textbook's;
the gates that they read are residuals, so nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.core.graph import Node, ResultType, TensorType
from chainrule.core.op import Joint, Notation, Op, of_one_dtype, register, results
from chainrule.core.ops.arithmetic import tanh
from chainrule.core.ops.functions import sigmoid
from chainrule.core.ops.shape import concatenate, slice_
from chainrule.errors import ShapeError


def chunks(z: Node, count: int) -> list[Node]:
    """Equal parts of the last axis."""
    size = z.shape[-1] // count
    low, high = (0,) * (z.ndim - 1), z.shape[:-1]
    return [slice_(z, (*low, k * size), (*high, (k + 1) * size)) for k in range(count)]


def _check(name: str, gates: int, state: TensorType, *inputs: TensorType) -> None:
    wanted = (*state.shape[:-1], gates * state.shape[-1])
    for z in inputs:
        if z.shape != wanted:
            raise ShapeError(
                op=name,
                expected=f"gate inputs of shape {wanted} for a state of shape {state.shape}",
                got=z.shape,
                mend=f"the weights have {gates} rows for each unit of the state",
            )


# ------------------------------------------------------------------------------ LSTM


def _lstm_type(z: TensorType, c: TensorType) -> ResultType:
    _check("lstm_cell", 4, c, z)
    return (c,) * 7


def _lstm(z: Node, c: Node) -> tuple[Node, ...]:
    i, f, g, o = chunks(z, 4)
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    after = f * c + i * g
    t = tanh(after)
    return o * t, after, i, f, g, o, t


def _lstm_rule(d: Sequence[Node], y: Sequence[Node], z: Node, c: Node) -> Sequence[Node]:
    _, _, i, f, g, o, t = y
    dh, dc, di, df, dg, do, dt = d
    dc = dc + (dh * o + dt) * (1 - t * t)
    gates = [
        (di + dc * g) * i * (1 - i),
        (df + dc * c) * f * (1 - f),
        (dg + dc * i) * (1 - g * g),
        (do + dh * t) * o * (1 - o),
    ]
    return concatenate(gates, -1), dc * f


LSTM_CELL = register(
    Op(
        "lstm_cell",
        _lstm_type,
        None,
        Joint(_lstm_rule),
        Notation.call("lstm_cell", r"\operatorname{{LSTM}}", inputs=2),
        body=_lstm,
        operands=of_one_dtype,
        arity=2,
    )
)


def lstm_cell(z: Node, c: Node) -> tuple[Node, Node]:
    """h' = o tanh(c'), c' = f c + i g, with i, f, o = sigmoid and g = tanh of the parts of z.

    Args:
        z: (..., 4 hidden), in the order i, f, g, o.
        c: (..., hidden), the cell state.

    Returns:
        h', c'. The node's further results are i, f, g, o and tanh(c').

    Source: Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 2000.
    """
    h, after, *_ = results(LSTM_CELL(z, c))
    return h, after


# ------------------------------------------------------------------------------ GRU


def _gru_type(x: TensorType, u: TensorType, h: TensorType) -> ResultType:
    _check("gru_cell", 3, h, x, u)
    return (h,) * 4


def _gru(x: Node, u: Node, h: Node) -> tuple[Node, ...]:
    (xr, xz, xn), (ur, uz, un) = chunks(x, 3), chunks(u, 3)
    r, z = sigmoid(xr + ur), sigmoid(xz + uz)
    n = tanh(xn + r * un)
    return (1 - z) * n + z * h, r, z, n


def _gru_rule(d: Sequence[Node], y: Sequence[Node], x: Node, u: Node, h: Node) -> Sequence[Node]:
    _, r, z, n = y
    dh, dr, dz, dn = d
    un = chunks(u, 3)[2]
    dn = (dn + dh * (1 - z)) * (1 - n * n)
    dz = (dz + dh * (h - n)) * z * (1 - z)
    dr = (dr + dn * un) * r * (1 - r)
    return concatenate([dr, dz, dn], -1), concatenate([dr, dz, dn * r], -1), dh * z


GRU_CELL = register(
    Op(
        "gru_cell",
        _gru_type,
        None,
        Joint(_gru_rule),
        Notation.call("gru_cell", r"\operatorname{{GRU}}", inputs=3),
        body=_gru,
        operands=of_one_dtype,
        arity=3,
    )
)


def gru_cell(x: Node, u: Node, h: Node) -> Node:
    """h' = (1 - z) n + z h, with r, z = sigmoid(x + u) and n = tanh(x_n + r u_n) of the parts.

    Args:
        x: (..., 3 hidden), W x + b_ih, in the order r, z, n.
        u: (..., 3 hidden), U h + b_hh; the reset gate multiplies its last part, as in PyTorch.
        h: (..., hidden), the state.

    Returns:
        h'. The node's further results are r, z and n.

    Source: Cho et al., 2014.
    """
    return results(GRU_CELL(x, u, h))[0]
