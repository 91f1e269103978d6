"""Formulas as data: small trees of symbols, numbers and ops, printed in two notations.

The same tree is printed with its symbols (``w1*x1 + b``) and with their recorded numbers put in
(``0.5*2 + 0.1``), as plain text for terminals and as LaTeX. How an op is printed is a fact of its
record (:class:`chainrule.core.op.Notation`); this file only adds signs, parentheses and folding.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from chainrule.core.graph import TensorType
from chainrule.core.op import ATOM, OPS, PRODUCT, SUM, UNARY, Op, input
from chainrule.run.interpreter import evaluate

# What float64 leaves of differences that are 0.
_NOISE = 1e-15
# A sum with more terms than this is printed as its first ones, "...", and its last one.
_TERMS_SHOWN = 4


@dataclass(frozen=True)
class Symbol:
    """A named quantity, with its recorded value."""

    plain: str
    latex: str
    value: float


@dataclass(frozen=True)
class Number:
    """A number that is part of the program, or that stands for a decision already taken."""

    value: float


@dataclass(frozen=True)
class Apply:
    """An op applied to operands."""

    op: Op
    args: tuple[Formula, ...]
    attrs: tuple[tuple[str, Hashable], ...] = ()


@dataclass(frozen=True)
class Sum:
    """A sum of any number of terms."""

    terms: tuple[Formula, ...]


Formula = Symbol | Number | Apply | Sum


def apply(name: str, *args: Formula, **attrs: Hashable) -> Formula:
    """An op by name, tidied: factors of 1, terms of 0 and idle guards are left out."""
    made = Apply(OPS[name], args, tuple(attrs.items()))
    return _tidy(made)


def total(terms: Sequence[Formula]) -> Formula:
    """A sum; of one term, the term."""
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))


# ---------------------------------------------------------------------------------- value


def value(formula: Formula) -> float:
    """What the formula comes to, worked out in float64 from the numbers in it."""
    if isinstance(formula, Symbol | Number):
        return formula.value
    if isinstance(formula, Sum):
        return float(np.sum([value(term) for term in formula.terms]))
    numbers = [np.asarray(value(arg), np.float64) for arg in formula.args]
    scalar = TensorType((), np.dtype(np.float64))
    with np.errstate(all="ignore"):
        if formula.op.evaluate is not None:
            return float(formula.op.evaluate(*numbers, **dict(formula.attrs)))
        node = formula.op(*[input(scalar) for _ in numbers], **dict(formula.attrs))
        return float(evaluate(node, numbers))


# ---------------------------------------------------------------------------------- tidying


def _is(formula: Formula, number: float) -> bool:
    return isinstance(formula, Number) and formula.value == number


def _tidy(formula: Apply) -> Formula:
    """The formula without what a reader would leave out; its value stays the same, to rounding."""
    name, args = formula.op.name, formula.args
    if name == "mul" and _is(args[0], 1):
        return args[1]
    if name in ("mul", "div") and _is(args[1], 1):
        return args[0]
    if name == "add" and _is(args[0], 0):
        return args[1]
    if name in ("add", "sub") and _is(args[1], 0):
        return args[0]
    if name == "sub" and _is(args[0], 0):
        return apply("neg", args[1])
    if name == "mul" and _is_reciprocal(args[1]):
        return apply("div", args[0], args[1].args[1])
    if name == "mul" and _is(args[0], -1):
        return apply("neg", args[1])
    if name == "neg" and isinstance(args[0], Number):
        return Number(-args[0].value)
    if name == "where":
        return args[1] if value(args[0]) else args[2]
    if name in ("maximum", "minimum") and isinstance(args[1], Number) and _is_guard(formula):
        return args[0]
    if name == "log1p" and isinstance(args[0], Apply) and args[0].op.name == "neg":
        return apply("log", apply("sub", Number(1.0), args[0].args[0]))
    return formula


def _is_reciprocal(formula: Formula) -> TypeGuard[Apply]:
    return isinstance(formula, Apply) and formula.op.name == "div" and _is(formula.args[0], 1)


def _is_guard(formula: Apply) -> bool:
    """Whether a max or min only keeps a logarithm or a divisor in range, and did nothing here."""
    bound = abs(value(formula.args[1]))
    return (bound >= 100 or bound <= 1e-6) and value(formula) == value(formula.args[0])


# ---------------------------------------------------------------------------------- printing


def number(x: float, exact: float = 1e-6) -> str:
    """A number for reading: short decimals in full, others to 4 decimals or 4 digits."""
    if np.isnan(x) or np.isinf(x):
        return str(float(x))
    size = abs(x)
    if size < _NOISE:
        return "0"
    if abs(x - round(x, 3)) <= exact * size and size < 1e9:
        return f"{round(x, 3):.10g}"
    if 1e-3 <= size < 1e5:
        return f"{x:.4f}"
    return f"{x:.4g}"


@dataclass(frozen=True)
class Printer:
    """How formulas are printed.

    Attributes:
        latex: LaTeX, or plain text that any console can show.
        numbers: recorded numbers in place of symbols.
        full: sums with all their terms.
    """

    latex: bool = False
    numbers: bool = False
    full: bool = False

    def __call__(self, formula: Formula) -> str:
        """The text of a formula."""
        return self._print(formula)[0]

    def _print(self, formula: Formula, first: bool = True) -> tuple[str, int]:
        """Text and precedence; ``first``: a minus sign in front needs no parentheses."""
        if isinstance(formula, Number):
            return self._number(formula.value)
        if isinstance(formula, Symbol):
            if self.numbers:
                return self._number(formula.value)
            if self.latex:
                return formula.latex, ATOM
            return formula.plain, UNARY if "/" in formula.plain else ATOM
        if isinstance(formula, Sum):
            return self._sum(formula), SUM
        return self._apply(formula, first)

    def number(self, x: float, exact: float = 1e-6) -> str:
        """A number in this notation."""
        return self._number(x, exact)[0]

    def _number(self, x: float, exact: float = 1e-6) -> tuple[str, int]:
        text = number(x, exact)
        if self.latex and "e" in text and text[-1].isdigit():
            mantissa, exponent = text.split("e")
            return rf"{mantissa} \cdot 10^{{{int(exponent)}}}", PRODUCT
        return text, UNARY if x < 0 else ATOM

    def _apply(self, formula: Apply, first: bool) -> tuple[str, int]:
        notation = formula.op.notation
        template = notation.latex if self.latex else notation.plain
        # Operands of a function call, of a fraction and of a root need no parentheses of their own.
        enclosing = notation.precedence == ATOM and not notation.binds
        binds = notation.binds or ((SUM if enclosing else notation.precedence),) * len(formula.args)
        fraction = self.latex and formula.op.name == "div"
        printed = []
        for position, arg in enumerate(formula.args):
            leads = enclosing or (first and position == 0 and binds[0] < UNARY)
            text, precedence = self._print(arg, leads or fraction)
            if not fraction and precedence < binds[position]:
                text = self._wrap(self._print(arg)[0])
            elif not fraction and not leads and text.startswith("-"):
                text = self._wrap(text)
            printed.append(text)
        attrs = {key: _text(item) for key, item in formula.attrs}
        return template.format(*printed, **attrs), notation.precedence

    def _wrap(self, text: str) -> str:
        return rf"\left({text}\right)" if self.latex else f"({text})"

    def _sum(self, formula: Sum) -> str:
        terms = list(formula.terms)
        dots = r"\dots" if self.latex else "..."
        shown: list[Formula | None] = list(terms)
        if not self.full and len(terms) > _TERMS_SHOWN + 1:
            shown = [*terms[: _TERMS_SHOWN - 1], None, terms[-1]]
        text = ""
        for term in shown:
            if term is None:
                text += f" + {dots}"
                continue
            part, _ = self._print(term, first=not text or isinstance(term, Number | Symbol))
            if not text:
                text = part
            elif part.startswith("-"):
                text += f" - {part[1:]}"
            else:
                text += f" + {part}"
        return text

    def worked(self, formula: Formula) -> str:
        """A sum with every term worked out, ``1 - 0.6 + 0.1``; "" for anything else."""
        if not isinstance(formula, Sum) or len(formula.terms) < 2:
            return ""
        terms = tuple(Number(value(term)) for term in formula.terms)
        if all(isinstance(term, Symbol | Number) for term in formula.terms):
            return ""
        return Printer(self.latex, True, self.full)(Sum(terms))


def _text(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)
