"""Every op with a kernel, and every derivative, against the interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from cases import CASES, KINKS, LIBRARY, SPECIALS
from oracle import Case, Derivation

from chainrule.core.graph import Array, Graph, Node
from chainrule.run import interpreter
from chainrule.run.native.failures import NoKernelError
from chainrule.run.native.plan import Plan

# Half a dozen roundings of float32 on the way, and what sums of a few terms cancel.
CLOSE = {"rtol": 1e-5, "atol": 2e-6}
# Second derivatives go through some twenty ops.
ROUGH = {"rtol": 1e-4, "atol": 2e-5}

# What has no kernel yet; a graph with it runs on the interpreter as a whole.
WITHOUT = (
    "floor_divide", "remainder", "pow of int", "matmul of int", "sort", "cumsum", "float64", "scan",
    "convolution", "max_pool", "avg_pool", "adaptive_max_pool", "random numbers of float64",
)  # fmt: skip


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
    """Both results; a graph without a kernel must be one that is known to be."""
    try:
        return both(nodes, outputs, arrays)
    except NoKernelError as error:
        if str(error).startswith(WITHOUT):
            pytest.skip(f"no kernel: {error}")
        raise


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


def test_every_op_of_the_library_is_tried() -> None:
    assert LIBRARY.keys() <= CASES.keys()
