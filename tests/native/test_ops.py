"""Every op with a kernel, and every derivative, against the interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from cases import CASES, KINKS, LIBRARY, SPECIALS
from oracle import Case, Derivation, input_nodes

from chainrule.core.graph import Array, Graph, Node
from chainrule.core.ops.arithmetic import floor_divide, remainder
from chainrule.run import interpreter
from chainrule.run.native.failures import NoKernelError
from chainrule.run.native.plan import Plan

# Half a dozen roundings of float32 on the way, and what sums of a few terms cancel.
CLOSE = {"rtol": 1e-5, "atol": 2e-6}
# Second derivatives go through some twenty ops.
ROUGH = {"rtol": 1e-4, "atol": 2e-5}


def narrow(array: Array) -> Array:
    """float32 in place of float64."""
    return array.astype(np.float32) if array.dtype == np.float64 else array


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


def both(
    nodes: Sequence[Node], outputs: Sequence[Node], arrays: Sequence[Array]
) -> tuple[list[Array], list[Array]]:
    """The results of the native engine and of the interpreter, in float32."""
    graph = Graph(nodes, outputs)
    variables = [variable.value for variable in graph.reads]
    found = Plan(graph)(arrays, variables)
    return found, interpreter.prepare(graph)(arrays, variables)


def assert_close(found: Sequence[Array], expected: Sequence[Array], **tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, **tolerance)


def native(nodes: Sequence[Node], outputs: Sequence[Node], arrays: Sequence[Array]) -> Any:
    """Both results; without a kernel the graph would run on the interpreter."""
    try:
        return both(nodes, outputs, arrays)
    except NoKernelError as error:
        pytest.skip(f"no kernel: {error}")


@every(CASES)
def test_forward(name: str, case: Case) -> None:
    arrays = [narrow(array) for array in case.inputs]
    nodes, outputs = case.nodes(arrays)
    found, expected = native(nodes, outputs, arrays)
    for a, node in zip(found, outputs, strict=True):
        assert (a.shape, a.dtype) == node.type
    assert_close(found, expected, **CLOSE)


@every({name: [c for c in cases if has_floats(c)] for name, cases in CASES.items()})
def test_derivatives(name: str, case: Case) -> None:
    arrays = [narrow(array) for array in case.inputs]
    derivation = Derivation(case, arrays)
    outputs = [*derivation.first, *derivation.second]
    found, expected = native(derivation.inputs, outputs, derivation.arrays)
    assert_close(found, expected, **ROUGH)


@every(KINKS)
def test_kinks(name: str, case: Case) -> None:
    arrays = [narrow(array) for array in case.inputs]
    derivation = Derivation(case, arrays)
    found, expected = native(derivation.inputs, derivation.first, derivation.arrays)
    assert_close(found, expected, **CLOSE)


@every(SPECIALS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_infinity(name: str, case: Case) -> None:
    arrays = [narrow(array) for array in case.inputs]
    nodes, outputs = case.nodes(arrays)
    found, expected = native(nodes, outputs, arrays)
    assert_close(found, expected, **CLOSE)


# What must not fall back to the interpreter; every other op of the library may, for now.
WITH_KERNELS = (
    "add", "sub", "mul", "div", "neg", "floor_divide", "remainder", "pow", "sqrt", "exp", "expm1",
    "log", "log1p", "sin", "cos", "atan", "tanh", "erf", "abs", "sign", "floor", "ceil", "round",
    "maximum", "minimum", "equal", "not_equal", "less", "less_equal", "logical_and", "logical_or",
    "logical_xor", "logical_not", "isnan", "where", "cast", "stop_gradient", "input", "constant",
    "written", "reshape", "permute", "broadcast_to", "flip", "slice", "pad", "concatenate", "take",
    "take_add", "gather", "gather_add", "put", "iota", "sum", "amax", "argmax", "matmul", "step",
    "sigmoid", "relu", "leaky_relu", "elu", "softplus", "silu", "gelu", "softmax", "log_softmax",
    "square", "mean", "var", "linear", "dropout", "mse_loss", "l1_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "cross_entropy", "random_bits",
)  # fmt: skip


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_the_op_has_kernels(name: str) -> None:
    case = CASES[name][0]
    arrays = [narrow(array) for array in case.inputs]
    nodes, outputs = case.nodes(arrays)
    both(nodes, outputs, arrays)


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


def test_every_op_of_the_library_is_tried() -> None:
    assert LIBRARY.keys() <= CASES.keys()
