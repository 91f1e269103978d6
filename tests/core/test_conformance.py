"""Every op x every table: the records, PyTorch's rows, and the sample cases with their answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES, KINKS, LIBRARY, SPECIALS
from oracle import (
    Case,
    Derivation,
    assert_equal,
    central_differences,
    cotangents_of,
    derived,
    floats,
    input_nodes,
    listed,
    run,
    to_torch,
    torch_derivatives,
    torch_forward,
)

from chainrule.core.graph import Graph, Node, TensorType, walk
from chainrule.core.op import Op, results
from chainrule.core.rewrite import body_of
from chainrule.run import interpreter
from chainrule.run.torch.table import ROWS

EXACT = {"rtol": 1e-10, "atol": 1e-12}
EXECUTORS = ("interpreter", "torch")

# They end gradients on purpose.
BLOCKERS = ("stop_gradient", "written")

# ------------------------------------------------------------------------------ the walker


def gaps(
    ops: Mapping[str, Op] = LIBRARY,
    rows: Mapping[str, Any] = ROWS,
    cases: Mapping[str, Sequence[Case]] = CASES,
    specials: Mapping[str, Sequence[Case]] = SPECIALS,
) -> list[str]:
    """What is missing: ``op: table`` for each hole."""
    found = []
    for name, op in ops.items():
        given = name in ("input", "read")
        if not (op.evaluate or op.body or given or name == "constant"):
            found.append(f"{name}: evaluation")
        if not (name in rows or op.body or given):
            found.append(f"{name}: torch row")
        if not (op.notation.plain and op.notation.latex):
            found.append(f"{name}: notation")
        if not cases.get(name):
            found.append(f"{name}: cases")
        if not specials.get(name) and any(floats(case.nodes()[0]) for case in cases.get(name, ())):
            found.append(f"{name}: NaN and infinity")
        missing = {slot for case in cases.get(name, ()) for slot in _without_rule(op, case)}
        found += [f"{name}: derivative of input {slot}" for slot in sorted(missing)]
    return found


def _without_rule(op: Op, case: Case) -> list[int]:
    """Inputs to which PyTorch finds a slope but the record has no rule."""
    if op.name in BLOCKERS or op.arity == 0:
        return []
    xs = [to_torch(array) for array in case.inputs]
    outputs = listed(case.reference(*xs))
    return [
        slot
        for slot, x in enumerate(xs)
        if not _has_rule(op, slot) and any(_depends(output, x) for output in outputs)
    ]


def _has_rule(op: Op, slot: int) -> bool:
    if isinstance(op.derivative, tuple):
        return slot < len(op.derivative) and op.derivative[slot] is not None
    return op.derivative is not None or op.body is not None


def _depends(output: torch.Tensor, x: torch.Tensor) -> bool:
    if not (output.requires_grad and x.requires_grad):
        return False
    (grad,) = torch.autograd.grad(output.sum(), x, allow_unused=True, retain_graph=True)
    return grad is not None and bool((grad != 0).any())


def without(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != name}


def test_no_gaps() -> None:
    assert gaps() == []


@pytest.mark.parametrize("name", LIBRARY)
def test_a_removed_row_is_reported(name: str) -> None:
    """The walker is not blind: each row taken out of each table is named."""
    op = LIBRARY[name]
    only = {name: op}

    def changed(**facts: Any) -> dict[str, Op]:
        return {name: dataclasses.replace(op, **facts)}

    assert f"{name}: cases" in gaps(only, cases=without(CASES, name))
    assert f"{name}: notation" in gaps(changed(notation=type(op.notation)("", "")))
    if name in SPECIALS:
        assert f"{name}: NaN and infinity" in gaps(only, specials=without(SPECIALS, name))
    if name in ROWS:
        expected = [] if op.body else [f"{name}: torch row"]
        assert gaps(only, rows=without(ROWS, name)) == expected
    if op.evaluate:
        expected = [] if op.body else [f"{name}: evaluation"]
        assert gaps(changed(evaluate=None)) == expected


FLAT = ("sign", "floor", "ceil", "round")  # their slope is 0, with or without a rule


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, op in LIBRARY.items()
        if op.derivative and not op.body and name not in (*BLOCKERS, *FLAT)
    ],
)
def test_a_removed_derivative_is_reported(name: str) -> None:
    changed = {name: dataclasses.replace(LIBRARY[name], derivative=None)}
    assert f"{name}: derivative of input" in " ".join(gaps(changed))


# ------------------------------------------------------------------------------ the checks


def every(table: Mapping[str, Sequence[Case]]) -> Any:
    """One test for each case of each op."""
    return pytest.mark.parametrize(
        ("name", "case"),
        [
            pytest.param(name, case, id=f"{name}-{index}")
            for name, cases in table.items()
            for index, case in enumerate(cases)
        ],
    )


def calls(name: str, outputs: Sequence[Node]) -> list[Node]:
    """The nodes of an op among what the results were built from."""
    return [node for node in walk(outputs) if node.op.name == name]


@every(CASES)
def test_forward(name: str, case: Case) -> None:
    xs, outputs = case.nodes()
    assert calls(name, outputs), f"this case makes no {name}"
    expected = torch_forward(case)
    for executor in EXECUTORS:
        assert_equal(run(outputs, xs, case.inputs, executor), expected, **EXACT)


@every(CASES)
def test_derivatives(name: str, case: Case) -> None:
    """First and second, against autograd."""
    derivation = Derivation(case)
    first, second = torch_derivatives(case)
    for executor in EXECUTORS:
        ours = derivation.run(executor)
        assert_equal(ours[0], first, **EXACT)
        assert_equal(ours[1], second, **EXACT)


def _is_smooth(case: Case) -> bool:
    """Not where gradients end on purpose, nor through float32, where a step of 1e-5 is lost."""
    made = walk(case.nodes()[1])
    return not any(
        node.op.name in BLOCKERS
        or node.attrs.get("truncate")
        or node.attrs.get("padding_idx") is not None
        or "float32" in str(node.attrs.get("dtype"))
        for node in made
    )


@every({name: list(filter(_is_smooth, cases)) for name, cases in CASES.items()})
def test_central_differences(name: str, case: Case) -> None:
    derivation = Derivation(case)
    xs, outputs = case.nodes()
    numeric = central_differences(floats(outputs), xs, case.inputs)
    assert_equal(derivation.run("interpreter")[0], numeric, rtol=1e-5, atol=1e-8)


@every(KINKS)
def test_kinks(name: str, case: Case) -> None:
    derivation = Derivation(case)
    first, _ = torch_derivatives(case)
    xs, outputs = case.nodes()
    for executor in EXECUTORS:
        assert_equal(run(outputs, xs, case.inputs, executor), torch_forward(case), **EXACT)
        found = run(derivation.first, derivation.inputs, derivation.arrays, executor)
        assert_equal(found, first, **EXACT)


@every(SPECIALS)
def test_nan_and_infinity(name: str, case: Case) -> None:
    """To a relative tolerance alone: a tiny number has its digits, too."""
    xs, outputs = case.nodes()
    assert calls(name, outputs)
    for executor in EXECUTORS:
        found = run(outputs, xs, case.inputs, executor)
        assert_equal(found, torch_forward(case), rtol=1e-10, atol=0)


def _has_floats(case: Case) -> bool:
    return any(x.dtype == np.float64 for x in case.inputs)


@every({name: list(filter(_has_floats, cases)) for name, cases in CASES.items()})
def test_float32_stays_float32(name: str, case: Case) -> None:
    """No node of a value or a derivative is float64 when no input is."""
    narrow = [x.astype(np.float32) if x.dtype == np.float64 else x for x in case.inputs]
    xs, outputs = case.nodes(narrow)
    derivation = Derivation(case, narrow)
    made = walk([*outputs, *derivation.first, *derivation.second])
    wide = [
        node for node in made if isinstance(node.type, TensorType) and node.dtype.name == "float64"
    ]
    assert [node for node in wide if node.op.name not in ("cast", "read")] == []
    for executor in EXECUTORS:
        run(outputs, xs, narrow, executor)  # the types of the arrays are checked in there
        first, second = derivation.run(executor)
        assert {g.dtype.name for g in (*first, *second)} == {"float32"}


# ------------------------------------------------------------------- functions and their bodies


@every({name: CASES[name] for name, op in LIBRARY.items() if op.body and op.derivative})
def test_own_derivative_is_the_bodys(name: str, case: Case) -> None:
    xs, outputs = case.nodes()
    for node in calls(name, outputs):
        wrt = floats(node.inputs)
        outputs_of = results(node)
        weights = cotangents_of(outputs_of)
        seeds = input_nodes(weights)
        own = derived(outputs_of, wrt, seeds)
        through = derived(body_of(node), wrt, seeds)
        arrays = [*case.inputs, *weights]
        inputs = [*xs, *seeds]
        expected = run(through, inputs, arrays)
        assert_equal(run(own, inputs, arrays), expected, **EXACT)


@every({name: CASES[name] for name, op in LIBRARY.items() if op.body and op.evaluate})
def test_own_evaluation_is_the_bodys(name: str, case: Case) -> None:
    xs, outputs = case.nodes()
    for node in calls(name, outputs):
        own = run([node], xs, case.inputs)
        body = run(list(body_of(node)), xs, case.inputs)
        assert_equal(own, body, rtol=1e-14, atol=1e-15)


@every({name: CASES[name][:1] for name in LIBRARY})
def test_notation_and_hazards(name: str, case: Case) -> None:
    """Templates can be filled; hazards say true or false for every entry of the first input."""
    xs, outputs = case.nodes()
    seen: dict[Node, Any] = {}
    graph = Graph(xs, outputs)
    variables = [variable.value for variable in graph.reads]
    interpreter.prepare(graph, hook=seen.__setitem__)(case.inputs, variables)
    for node in calls(name, outputs):
        words = [f"x{index}" for index in range(len(node.inputs))]
        for template in (node.op.notation.plain, node.op.notation.latex):
            assert template.format(*words, **node.attrs)
        for hazard in node.op.hazards:
            arrays = [seen[child] for child in node.inputs]
            found = hazard.where(*arrays, **node.attrs)
            assert (found.shape, found.dtype) == (arrays[0].shape, np.dtype(bool))
