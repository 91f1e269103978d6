"""Every op and named function, and their derivatives, on the native engine.

The tolerance of every entry follows from an analysis of its roundings (``bounds``); NaN and the
infinities stand where the interpreter has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from bounds import bounded
from cases import CASES, KINKS, LIBRARY, SPECIALS
from oracle import Case, Derivation, input_nodes

from chainrule.core.dtype import float32, float64, is_float
from chainrule.core.graph import Array, Graph, Node, TensorType, Variable
from chainrule.core.op import input
from chainrule.core.ops import random
from chainrule.core.ops.arithmetic import floor_divide, remainder
from chainrule.core.rewrite import expand
from chainrule.run import interpreter
from chainrule.run.native.failures import NoKernelError, WideError
from chainrule.run.native.plan import Plan

# Ops without native support, each with the reason. Graphs with tensors of float64 are none: they
# are the interpreter's by design (decision 14), whatever the op.
WITHOUT_KERNEL: dict[str, str] = {}

# Beside NaN and infinity: a few roundings of float32, by NumPy and by us.
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


def narrow(array: Array) -> Array:
    """float32 in place of float64."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32) if array.dtype == np.float64 else array


def _drawn(name: str) -> list[Case]:
    """The cases of a random op, drawn in float32."""

    def narrowed(case: Case) -> Any:
        def build(*xs: Node) -> Node:
            made = case.build(*xs)
            attrs = {**made.attrs, "dtype": float32}
            return getattr(random, name)(*made.inputs, **attrs)

        return build

    return [Case(narrowed(case), case.reference, case.inputs) for case in CASES[name]]


# Cases that hold float64 in the core's table, in float32.
_VARIABLE = Variable(np.array([1.0, -2.0, 0.5], np.float32), "v", trainable=True)
NARROW = {
    "random_uniform": _drawn("random_uniform"),
    "random_normal": _drawn("random_normal"),
    "read": [Case(lambda x: x * _VARIABLE.read(), None, (np.arange(3.0),))],  # type: ignore[arg-type]
}


def runs(case: Case) -> bool:
    """Whether the case is one of float32, whole numbers and truth values."""
    nodes, outputs = case.nodes([narrow(array) for array in case.inputs])
    return not any(
        isinstance(node.type, TensorType) and node.dtype == float64
        and (node.size != 1 or node.op.name == "random_uniform")
        for node in expand(Graph(nodes, outputs)).nodes
    )  # fmt: skip


EVERY = {
    name: [case for case in [*cases, *NARROW.get(name, [])] if runs(case)]
    for name, cases in CASES.items()
    if name not in WITHOUT_KERNEL
}


def has_floats(case: Case) -> bool:
    return any(array.dtype == np.float64 for array in case.inputs)


def every(table: dict[str, list[Case]]) -> Any:
    return pytest.mark.parametrize(
        ("name", "case"),
        [
            pytest.param(name, case, id=f"{name}-{i}")
            for name, cases in table.items()
            for i, case in enumerate(cases)
        ],
    )


def native(nodes: Sequence[Node], outputs: Sequence[Node], arrays: Sequence[Array]) -> list[Array]:
    """The results of the native engine; without a kernel this fails."""
    graph = Graph(nodes, outputs)
    return Plan(graph)(arrays, [variable.value for variable in graph.reads])


def assert_bounded(nodes: Sequence[Node], outputs: Sequence[Node], arrays: Sequence[Array]) -> None:
    """Whole numbers are exact, floats within what their roundings may amount to."""
    found = native(nodes, outputs, arrays)
    with np.errstate(all="ignore"):
        expected = bounded(nodes, outputs, arrays)
    for y, node, (value, error) in zip(found, outputs, expected, strict=True):
        assert (y.shape, y.dtype) == node.type
        if not is_float(node.dtype):
            np.testing.assert_array_equal(y, value)
            continue
        np.testing.assert_array_equal(np.isfinite(y), np.isfinite(value))
        finite = np.isfinite(value)
        off = ~(np.abs(y.astype(np.float64) - value) <= error)
        assert not off[finite].any(), (y[off & finite], value[off & finite], error[off & finite])
        np.testing.assert_array_equal(y[~finite], value[~finite])


# ------------------------------------------------------------------------------ the walker


def test_every_op_of_the_library_is_tried() -> None:
    """On the native engine: an op without a kernel fails above, one without a case here."""
    tried = {name for name, cases in EVERY.items() if cases}
    assert LIBRARY.keys() - tried == WITHOUT_KERNEL.keys()
    for name in WITHOUT_KERNEL:
        arrays = [narrow(array) for array in CASES[name][0].inputs]
        with pytest.raises(NoKernelError):
            native(*CASES[name][0].nodes(arrays), arrays)


@every({name: [case for case in cases if not runs(case)] for name, cases in CASES.items()})
def test_tensors_of_float64_are_the_interpreters(name: str, case: Case) -> None:
    arrays = [narrow(array) for array in case.inputs]
    with pytest.raises(WideError):
        native(*case.nodes(arrays), arrays)


# ------------------------------------------------------------------------------ the checks


@every(EVERY)
def test_forward(name: str, case: Case) -> None:
    arrays = [narrow(array) for array in case.inputs]
    assert_bounded(*case.nodes(arrays), arrays)


@every({name: [c for c in cases if has_floats(c)] for name, cases in EVERY.items()})
def test_derivatives(name: str, case: Case) -> None:
    """First and second."""
    derivation = Derivation(case, [narrow(array) for array in case.inputs])
    outputs = [*derivation.first, *derivation.second]
    assert_bounded(derivation.inputs, outputs, derivation.arrays)


@every(KINKS)
def test_kinks(name: str, case: Case) -> None:
    derivation = Derivation(case, [narrow(array) for array in case.inputs])
    assert_bounded(derivation.inputs, derivation.first, derivation.arrays)


@every({name: [c for c in cases if runs(c)] for name, cases in SPECIALS.items()})
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_infinity(name: str, case: Case) -> None:
    """Where the interpreter has them, and the numbers beside them close to its own."""
    arrays = [narrow(array) for array in case.inputs]
    nodes, outputs = case.nodes(arrays)
    graph = Graph(nodes, outputs)
    expected = interpreter.prepare(graph)(arrays, [v.value for v in graph.reads])
    for a, b in zip(native(nodes, outputs, arrays), expected, strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)


# Full vectors and what is left over, one tile and what is left over.
SIZES = (1, 7, 16, 33, 1003, 8197)


@pytest.mark.parametrize(
    "name", [name for name, op in LIBRARY.items() if op.elementwise and op.arity]
)
def test_odd_sizes(name: str) -> None:
    """The entries of the first case again and again; and a few rows of them."""
    case = max(EVERY[name], key=lambda each: min(x.size for x in each.inputs))
    for size in SIZES:
        for shape in ((size,), (3, size)):
            arrays = [np.resize(narrow(array), shape) for array in case.inputs]
            assert_bounded(*case.nodes(arrays), arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64, np.uint8])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_division_rounds_down(dtype: Any) -> None:
    """Every sign, the ends of the range, 0; quotients far beyond 2^24."""
    rng = np.random.default_rng(0)
    if dtype == np.float32:
        edges = np.array([0, -0.0, 1, -1, 3, -7.5, 1e-30, 3e38, -3e38, np.inf, -np.inf, np.nan])
        more = rng.standard_normal(2000) * 10.0 ** rng.integers(-6, 7, 2000)
    else:
        info = np.iinfo(dtype)
        edges = np.array([0, 1, 2, 7, info.max, info.min, info.max - 1, info.min + 1])
        more = rng.integers(info.min, info.max, 2000)
    edges, more = edges.astype(dtype), more.astype(dtype)
    a, b = (grid.reshape(-1) for grid in np.meshgrid(edges, edges))
    a, b = np.concatenate([a, more]), np.concatenate([b, rng.permutation(more) // dtype(3)])
    x, y = input_nodes([a, b])
    found = Plan(Graph([x, y], [floor_divide(x, y), remainder(x, y)]))([a, b], [])
    quotient, rest = np.floor_divide(a, b), np.remainder(a, b)
    if dtype == np.float32:  # NumPy rounds (a - rest) / b, we do so once
        near = ~(np.abs(quotient) >= 2**23)
        np.testing.assert_array_equal(found[0][near], quotient[near])
        np.testing.assert_allclose(found[0], quotient, rtol=2e-7)
        np.testing.assert_array_equal(np.signbit(found[1][rest == 0]), np.signbit(rest[rest == 0]))
    else:
        np.testing.assert_array_equal(found[0], quotient)
    np.testing.assert_array_equal(found[1], rest)


def test_a_constant_has_its_own_zero() -> None:
    """0.0 equals -0.0, but a kernel with the one is not a kernel with the other."""
    numbers = np.array([1.5, -2], np.float32)
    x = input(TensorType(numbers.shape, float32))
    for zero in (0.0, -0.0):
        (found,) = Plan(Graph([x], [x * zero]))([numbers], [])
        assert found.tobytes() == (numbers * np.float32(zero)).tobytes()
