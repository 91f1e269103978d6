"""Einsum against PyTorch's: values, gradients, and mistakes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import Case, Derivation, assert_equal, run, torch_derivatives, torch_forward
from samples import normal, whole

import chainrule as cr
from chainrule.core.graph import walk
from chainrule.core.ops.einsum import einsum
from chainrule.errors import OptionError, ShapeError

EXACT = {"rtol": 1e-10, "atol": 1e-12}

EQUATIONS: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    ("i->", ((3,),)),
    ("ij->ji", ((2, 3),)),
    ("ij", ((2, 3),)),
    ("ba", ((2, 3),)),
    ("ij->j", ((2, 3),)),
    ("ii->i", ((3, 3),)),
    ("ii", ((3, 3),)),
    ("bii->b", ((2, 3, 3),)),
    ("iji->j", ((3, 2, 3),)),
    ("iii->i", ((3, 3, 3),)),
    ("iijj->ij", ((2, 2, 3, 3),)),
    ("i,i->", ((4,), (4,))),
    ("i,i->i", ((4,), (4,))),
    ("i,j->ij", ((2,), (3,))),
    ("i,j->ji", ((2,), (3,))),
    ("i,j->", ((2,), (3,))),
    ("ij,jk->ik", ((2, 3), (3, 4))),
    ("ij,jk", ((2, 3), (3, 4))),
    ("ij,kj->ki", ((2, 3), (4, 3))),
    ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5))),
    ("bij,bjk->ikb", ((2, 3, 4), (2, 4, 5))),
    ("bhid,bhjd->bhij", ((2, 2, 3, 4), (2, 2, 5, 4))),
    ("bqhd,bkhd->bhqk", ((2, 3, 2, 4), (2, 5, 2, 4))),
    ("ijk,ilm->jl", ((2, 3, 4), (2, 5, 6))),
    ("ii,ij->j", ((3, 3), (3, 2))),
    ("ij,ij->", ((2, 3), (2, 3))),
    ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 2))),
    ("a,ab,b->", ((3,), (3, 2), (2,))),
    ("bn,anm,bm->ba", ((2, 3), (4, 3, 5), (2, 5))),
    ("...ij,...jk->...ik", ((2, 3, 4), (2, 4, 5))),
    ("...ij,...jk->...ik", ((6, 1, 3, 4), (2, 4, 5))),
    ("...ij,jk->...ik", ((2, 2, 3, 4), (4, 5))),
    ("...i->...", ((2, 3, 4),)),
    ("...i->i...", ((2, 3, 4),)),
    ("i...,i...->...", ((3, 2), (3, 2))),
    ("i...j", ((2, 3, 4),)),
    ("...", ((2, 3),)),
    ("...,...", ((2, 3), (2, 3))),
    ("ij,ij->i", ((2, 1), (2, 3))),
    ("b i j , b j k -> b i k", ((1, 3, 4), (2, 4, 5))),
    ("Aa,aB->AB", ((2, 3), (3, 4))),
    (",i->i", ((), (3,))),
    ("ij,jk->ik", ((0, 3), (3, 4))),
    ("ij,jk->ik", ((2, 0), (0, 4))),
]


def case(equation: str, shapes: tuple[tuple[int, ...], ...]) -> Case:
    arrays = tuple(normal(*shape, seed=seed) for seed, shape in enumerate(shapes))
    return Case(lambda *xs: einsum(equation, *xs), lambda *xs: torch.einsum(equation, *xs), arrays)


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_values_and_derivatives(equation: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    sample = case(equation, shapes)
    xs, outputs = sample.nodes()
    first, second = torch_derivatives(sample)
    ours = Derivation(sample)
    for executor in ("interpreter", "torch"):
        assert_equal(run(outputs, xs, sample.inputs, executor), torch_forward(sample), **EXACT)
        found = ours.run(executor)
        assert_equal(found[0], first, **EXACT)
        assert_equal(found[1], second, **EXACT)


@given(st.data())
def test_random_equations(data: st.DataObject) -> None:
    """Two or three terms of any letters, any of them kept."""
    letters = st.lists(st.sampled_from("abcd"), max_size=3)
    terms = data.draw(st.lists(letters, min_size=1, max_size=3))
    lengths = {letter: data.draw(st.integers(1, 3)) for letter in "abcd"}
    used = sorted({letter for term in terms for letter in term})
    kept = data.draw(st.permutations(used))[: data.draw(st.integers(0, len(used)))]
    equation = ",".join(map("".join, terms)) + "->" + "".join(kept)
    sample = case(equation, tuple(tuple(lengths[letter] for letter in term) for term in terms))
    xs, outputs = sample.nodes()
    assert_equal(run(outputs, xs, sample.inputs), torch_forward(sample), **EXACT)


def test_whole_numbers() -> None:
    a, b = whole(-5, 5, 2, 3), whole(-5, 5, 3, 4, seed=1)
    found = cr.einsum("ij,jk->ik", cr.tensor(a), cr.tensor(b))
    assert found.dtype == cr.int64
    np.testing.assert_array_equal(found.numpy(), a @ b)


def test_a_matrix_product_is_one() -> None:
    """Nothing but the op it stands for, so that it is as fast."""
    sample = case("bij,bjk->bik", ((2, 3, 4), (2, 4, 5)))
    _, outputs = sample.nodes()
    assert [node.op.name for node in walk(outputs) if node.inputs] == ["matmul"]


@pytest.mark.parametrize(
    ("equation", "says"),
    [
        ("ij->ij", "one term per operand, 2"),
        ("ij,k->ij", "a letter for each of the 2 axes"),
        ("ij,jk->iz", "each letter of the result once, and from a term, but got iz"),
        ("ij,jk->ii", "each letter of the result once"),
        ("i1,jk->", "letters, commas"),
        ("ij,j.k->", "letters, commas"),
        ("ijk,jk->i", "a letter for each of the 2 axes"),
    ],
)
def test_wrong_equations(equation: str, says: str) -> None:
    with pytest.raises(OptionError, match="einsum equation") as caught:
        cr.einsum(equation, cr.ones(2, 3), cr.ones(3, 4))
    assert says in str(caught.value)


def test_wrong_lengths() -> None:
    with pytest.raises(ShapeError, match="one length for j, but got 3 and 4"):
        cr.einsum("ij,jk->ik", cr.ones(2, 3), cr.ones(4, 2))
    with pytest.raises(ShapeError, match=r"one length for \.\.\., but got 2 and 3"):
        cr.einsum("...i,...i->...", cr.ones(2, 3), cr.ones(3, 3))


def test_batched_products() -> None:
    a, b, c = normal(2, 3, 4), normal(2, 4, 5, seed=1), normal(3, 5, seed=2)
    ours, theirs = map(cr.tensor, (a, b, c)), map(torch.tensor, (a, b, c))
    (a1, b1, c1), (a2, b2, c2) = ours, theirs
    np.testing.assert_allclose(cr.bmm(a1, b1).numpy(), torch.bmm(a2, b2), rtol=1e-12)
    np.testing.assert_allclose(
        cr.baddbmm(c1, a1, b1, beta=0.5, alpha=2).numpy(),
        torch.baddbmm(c2, a2, b2, beta=0.5, alpha=2),
        rtol=1e-12,
    )
    with pytest.raises(ShapeError, match="bmm needs "):
        cr.bmm(cr.ones(3, 4), cr.ones(4, 5))
