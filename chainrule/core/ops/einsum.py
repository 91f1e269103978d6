"""Einstein's summation, lowered to permutations, matrix products and sums.

It is not an op of its own: what it makes are nodes of the ops it is lowered to.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

from chainrule.core.graph import Node, Shape
from chainrule.core.op import common_dtype, lift
from chainrule.core.ops.arithmetic import mul
from chainrule.core.ops.linear import MATMUL
from chainrule.core.ops.reduction import sum
from chainrule.core.ops.shape import broadcast_to, permute, reshape, slice_
from chainrule.errors import OptionError, ShapeError

Labels = tuple[str, ...]  # one letter per axis; "0", "1" ... for the axes of an ellipsis


def einsum(equation: str, *operands: Node) -> Node:
    """Products of entries, summed over every letter that the result does not name.

    ``einsum("bij,bjk->bik", a, b)`` is y[b, i, k] = sum over j of a[b, i, j] b[b, j, k].
    """
    inputs, output = _parse(equation, operands)
    dtype = common_dtype(mul, operands)
    lengths = _lengths(equation, inputs, operands)
    terms = []
    for labels, x in zip(inputs, operands, strict=True):
        stretched = broadcast_to(lift(x, dtype), [lengths[letter] for letter in labels])
        terms.append(_diagonal(stretched, labels))
    x, labels = terms[0]
    for position, (y, others) in enumerate(terms[1:], 2):
        wanted = {*output, *(letter for _, rest in terms[position:] for letter in rest)}
        a = _summed(x, labels, {*wanted, *others})
        b = _summed(y, others, {*wanted, *labels})
        x, labels = _product(*a, *b, wanted)
    x, labels = _summed(x, labels, set(output))
    return permute(x, [labels.index(letter) for letter in output])


# ------------------------------------------------------------------------------ the equation


def _parse(equation: str, operands: Sequence[Node]) -> tuple[list[Labels], Labels]:
    """The letters of every operand and of the result; "..." becomes numbers."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        _refuse(equation, f"one term per operand, {len(operands)}", f"{len(terms)} terms")
    inputs = [_letters(equation, term, x.ndim) for term, x in zip(terms, operands, strict=True)]
    hidden = sorted({letter for labels in inputs for letter in labels if letter.isdigit()},
                    key=int, reverse=True)  # fmt: skip
    if not arrow:
        times = Counter(letter for labels in inputs for letter in labels if letter.isalpha())
        output = (*hidden, *sorted(letter for letter in times if times[letter] == 1))
        return inputs, output
    before, dots, after = right.partition("...")
    output = (*before, *(hidden if dots else ()), *after)
    unknown = [letter for letter in output if not any(letter in labels for labels in inputs)]
    if unknown or len(set(output)) < len(output):
        _refuse(equation, "each letter of the result once, and from a term", right)
    return inputs, output


def _letters(equation: str, term: str, ndim: int) -> Labels:
    before, dots, after = term.partition("...")
    named = before + after
    if not all(letter.isascii() and letter.isalpha() for letter in named):
        _refuse(equation, "letters, commas, one -> and one ... a term", repr(term))
    rest = ndim - len(named)
    if rest < 0 or (rest and not dots):
        _refuse(equation, f"a letter for each of the {ndim} axes", repr(term))
    return (*before, *(str(axis) for axis in range(rest)[::-1]), *after)


def _refuse(equation: str, expected: str, got: str) -> NoReturn:
    raise OptionError(
        name=f"einsum equation {equation!r}",
        expected=expected,
        got=got,
        mend='for example "bij,bjk->bik"',
    )


def _lengths(equation: str, inputs: Sequence[Labels], operands: Sequence[Node]) -> dict[str, int]:
    """The length of each letter; 1 stretches."""
    found: dict[str, int] = {}
    for labels, x in zip(inputs, operands, strict=True):
        for letter, length in zip(labels, x.shape, strict=True):
            known = found.setdefault(letter, length)
            if known == 1:
                found[letter] = length
            elif length not in (1, known):
                axis = "..." if letter.isdigit() else letter
                raise ShapeError(
                    op=f"einsum {equation!r}",
                    expected=f"one length for {axis}",
                    got=f"{known} and {length}",
                    mend="a letter stands for one length in all terms",
                )
    return found


# ------------------------------------------------------------------------------ the lowering


def _diagonal(x: Node, labels: Labels) -> tuple[Node, Labels]:
    """A letter that stands twice in a term takes the entries where both axes agree."""
    for letter in dict.fromkeys(labels):
        while labels.count(letter) > 1:
            first = labels.index(letter)
            second = labels.index(letter, first + 1)
            rest = [axis for axis in range(x.ndim) if axis not in (first, second)]
            n, shape = x.shape[first], tuple(x.shape[axis] for axis in rest)
            flat = reshape(permute(x, (*rest, first, second)), (*shape, n * n))
            zeros, ones = (0,) * len(rest), (1,) * len(rest)
            x = slice_(flat, (*zeros, 0), (*shape, n * n), (*ones, n + 1))
            labels = (*(labels[axis] for axis in rest), letter)
    return x, labels


def _summed(x: Node, labels: Labels, wanted: set[str]) -> tuple[Node, Labels]:
    """Without the axes that nothing else needs."""
    gone = [axis for axis, letter in enumerate(labels) if letter not in wanted]
    if not gone:
        return x, labels
    return sum(x, gone), tuple(letter for letter in labels if letter in wanted)


def _product(
    a: Node, a_labels: Labels, b: Node, b_labels: Labels, wanted: set[str]
) -> tuple[Node, Labels]:
    """Two terms as one: shared letters that are still wanted stay, the others are summed."""
    shared = [letter for letter in a_labels if letter in b_labels]
    kept = tuple(letter for letter in shared if letter in wanted)
    folded = tuple(letter for letter in shared if letter not in wanted)
    left = tuple(letter for letter in a_labels if letter not in shared)
    right = tuple(letter for letter in b_labels if letter not in shared)
    lengths = dict(zip((*a_labels, *b_labels), (*a.shape, *b.shape), strict=True))

    def shape(*groups: Labels) -> Shape:
        return tuple(lengths[letter] for group in groups for letter in group)

    def arranged(x: Node, labels: Labels, *groups: Labels) -> Node:
        return permute(x, [labels.index(letter) for group in groups for letter in group])

    if not folded:
        columns = reshape(arranged(a, a_labels, kept, left), shape(kept, left) + (1,) * len(right))
        rows = reshape(
            arranged(b, b_labels, kept, right), shape(kept) + (1,) * len(left) + shape(right)
        )
        return mul(columns, rows), (*kept, *left, *right)

    m, k, n = (math.prod(shape(group)) for group in (left, folded, right))
    rows = reshape(arranged(a, a_labels, kept, left, folded), (*shape(kept), m, k))
    columns = reshape(arranged(b, b_labels, kept, folded, right), (*shape(kept), k, n))
    return reshape(MATMUL(rows, columns), shape(kept, left, right)), (*kept, *left, *right)
