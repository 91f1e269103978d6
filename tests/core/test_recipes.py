"""Ops ask their rules once for their attributes and the types of operands; nodes are the same."""

from __future__ import annotations

from typing import Any

import pytest
from cases import CASES
from hypothesis import given
from hypothesis import strategies as st

from chainrule.core import dtype as types
from chainrule.core import op as records
from chainrule.core.graph import Node, TensorType
from chainrule.core.op import OPS, Op, input
from chainrule.core.ops.arithmetic import add, div, where
from chainrule.core.subgraph import Subgraph
from chainrule.errors import ChainruleError, DTypeError, ShapeError

PLAIN = [op for op in OPS.values() if op.elementwise and op.name != "cast"]


def described(value: Any) -> object:
    """A node with what it is made of, by content."""
    if not isinstance(value, Node):
        return value
    if value.op.is_leaf and value.op.name != "constant":
        return id(value)
    attrs = {name: repr(each) for name, each in value.attrs.items()}  # -0.0 is not 0.0
    return value.op.name, attrs, value.type, tuple(map(described, value.inputs))


def outcome(make: Any) -> object:
    """What is made, or the error that is raised instead."""
    try:
        return described(make())
    except (ChainruleError, TypeError) as error:
        return type(error).__name__


def operands() -> st.SearchStrategy[Any]:
    shapes = st.sampled_from([(), (3,), (1,), (2, 3), (2, 1), (4,)])
    dtypes = st.sampled_from([types.float32, types.float64, types.int64, types.bool_])
    nodes = st.builds(lambda shape, dtype: input(TensorType(shape, dtype), "x"), shapes, dtypes)
    return st.one_of(nodes, st.sampled_from([2, -1.5, 0.0, -0.0, True, 0]))


@given(st.sampled_from(PLAIN), st.lists(operands(), min_size=3, max_size=3))
def test_a_node_is_the_same_the_second_time(op: Op, given_: list[Any]) -> None:
    chosen = given_[: op.arity]
    expected = outcome(lambda: op._made(chosen, {}))
    assert outcome(lambda: op(*chosen)) == expected
    assert outcome(lambda: op(*chosen)) == expected


def test_numbers_of_a_recipe_are_their_own() -> None:
    x = input(TensorType((2,), types.float32), "x")
    numbers = [0.0, -0.0, 2.5, 7, True]
    made = [add(x, number).inputs[1].inputs[0].attrs["value"] for number in numbers]
    assert repr(made) == "[0.0, -0.0, 2.5, 7.0, 1.0]"


def test_recipes_follow_the_default_type() -> None:
    x = input(TensorType((2,), types.int64), "x")
    assert div(x, 2).dtype == types.float32
    types.set_default_dtype("float64")
    try:
        assert div(x, 2).dtype == types.float64
    finally:
        types.set_default_dtype("float32")


def test_a_misfit_is_an_error_each_time() -> None:
    x, y = (input(TensorType(shape, types.float32), "x") for shape in ((2,), (3,)))
    wide = input(TensorType((2,), types.float64), "x")
    for _ in range(2):
        with pytest.raises(ShapeError, match=r"test_recipes\.py"):
            add(x, y)
        with pytest.raises(DTypeError, match="float32 and float64"):
            where(x, x, wide)


@pytest.mark.parametrize("name", CASES)
def test_with_attributes_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every op's cases, built by the rules alone, then while recipes are learnt, then by them."""
    for case in CASES[name]:
        with monkeypatch.context() as patch:
            patch.setattr(records, "_recipes", {})
            patch.setattr(records, "_recipe_of", lambda *_: None)
            expected = Subgraph(*case.nodes())
            assert not any(records._recipes.values())
        for _ in range(2):
            assert Subgraph(*case.nodes()) == expected
    assert any(records._recipes.values())


def test_only_so_many_recipes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[Any, Any] = {}
    monkeypatch.setattr(records, "_RECIPES_KEPT", 3)
    monkeypatch.setattr(records, "_recipes", kept)
    for length in range(10):
        x = input(TensorType((length,), types.float32), "x")
        assert add(x, x).shape == (length,)
        assert 0 < len(kept) <= 3
