"""An explanation as plain text, for any console: ASCII symbols, one line per quantity."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from chainrule.explain.document import Explanation
from chainrule.explain.notation import Formula, Number, Printer, Symbol, number
from chainrule.explain.steps import PHASES, Line, Step
from chainrule.explain.words import LOSSES

# Entries of one quantity shown by default, and with full=True.
SHOWN, SHOWN_FULL = 4, 64
# Hazards that are part of everyday work: said in full explanations only.
_EVERYDAY = ("dead_unit",)


def render(explanation: Explanation) -> str:
    """The whole explanation; about 15 lines for one neuron, everything with ``full``."""
    lines = list(_head(explanation))
    first = explanation.passes[0]
    for phase in PHASES:
        steps = [step for step in first.steps if step.phase == phase]
        if steps:
            lines += ["", phase_title(explanation, phase)]
            for step in steps:
                lines += [f"  {line}" for line in _step(explanation, step)]
        if phase == "backward":
            lines += [f"  {line}" for line in _through_time(explanation)]
    lines += _decision(explanation)
    if len(explanation.passes) > 1:
        lines += ["", *_table(explanation)]
    return "\n".join(lines) + "\n"


def shown_entries(explanation: Explanation) -> int:
    """How many entries of one quantity are shown."""
    return SHOWN_FULL if explanation.settings.full else SHOWN


def _head(explanation: Explanation) -> Iterator[str]:
    say = explanation.say
    yield f"{say('network')}: {explanation.summary()}"
    given = [f"{name} = {shown}" for name, shown in explanation.given()]
    yield f"{say('given')}: " + ", ".join(given)


def phase_title(explanation: Explanation, phase: str) -> str:
    """The heading of a phase, with the loss's name or the learning rate."""
    title = explanation.say(phase)
    if phase == "loss":
        loss = explanation.recording.loss
        if loss is not None and loss.op.name in LOSSES:
            title += f": {explanation.say(loss.op.name)}"
    if phase == "update":
        rates = ", ".join(f"{key} = {number(rate)}" for key, rate in explanation.rates().items())
        title += f" ({rates})" if rates else ""
    return title


def _step(explanation: Explanation, step: Step) -> Iterator[str]:
    limit = shown_entries(explanation)
    size = math.prod(step.shape)
    indent = ""
    if step.formula is not None:
        indent = "  "
        arrow = "<-" if step.rule == "parameter_update" else "="
        head = f"{step.delta} = {step.plain}" if step.delta else step.plain
        said = _in_brackets(remark(explanation, step))
        yield f"{head} {arrow} {Printer()(step.formula)}{said}"
        if size > limit:
            shape = " x ".join(map(str, step.shape))
            yield f"  ({explanation.say('folded', shape=shape, count=size, shown=limit)})"
    for index in step.indices(limit):
        full = explanation.settings.full
        yield indent + _line(explanation, step, step.line(index), index, full)
    if step.function == "softmax" and size > 1:
        rows = np.ravel(np.asarray(step.array).sum(axis=-1))
        sums = ", ".join(number(float(row), 1e-5) for row in rows[:limit])
        yield f"  ({explanation.say('sum_of_row', total=sums)})"
    for note in step.notes:
        if note not in _EVERYDAY or explanation.settings.full:
            yield f"  ! {explanation.say(note)}"


def entry(explanation: Explanation, step: Step, index: tuple[int, ...]) -> str:
    """One entry of a step with every term of its sum."""
    return _line(explanation, step, step.line(index), index, full=True)


def _line(
    explanation: Explanation, step: Step, line: Line, index: tuple[int, ...], full: bool
) -> str:
    """One entry: its equation, what it is in words, and its check."""
    head = line.symbol.plain
    if step.delta and step.formula is None:
        head = f"{step.delta} = {head}"
    arrow = "<-" if step.rule == "parameter_update" else "="
    text = f"{head} {arrow} {equation(line, full=full)}"
    shortcut = step.shortcut(index)
    if shortcut is not None:
        text += f"  ({explanation.say('shortcut', formula=Printer(full=full)(shortcut))})"
    elif step.formula is None:
        text += _in_brackets(remark(explanation, step))
    if full and line.paths:
        text += f"  ({explanation.say('paths', count=len(line.paths))})"
    if line.check is not None:
        text += f"  [{explanation.say('check')} {number(line.check, 1e-5)}]"
        text += "" if line.agrees else f" ! {explanation.say('differs')}"
    return text


def equation(line: Line, *, full: bool, latex: bool = False) -> str:
    """``formula = numbers = worked sum = result``, each only if it says something new."""
    symbols, numbers = Printer(latex=latex, full=full), Printer(latex, numbers=True, full=full)
    parts = []
    if _worth_printing(line.formula):
        parts.append(symbols(line.formula))
        parts.append(numbers(line.opened if _worth_printing(line.opened) else line.formula))
        parts.append(numbers.worked(line.formula))
    parts.append(numbers.number(line.result))
    said = [part for i, part in enumerate(parts) if part and part not in parts[:i]]
    return " = ".join(said)


def _worth_printing(formula: Formula) -> bool:
    """A formula that says more than its number does."""
    return not isinstance(formula, Number) and not (
        isinstance(formula, Symbol) and np.isnan(formula.value)
    )


def remark(explanation: Explanation, step: Step) -> str:
    """What a step is, in words: ``weighted sum``, ``sigmoid, prediction, pass 62.2%``."""
    say = explanation.say
    words = []
    if step.rule in ("weighted_sum", "activation", "chain_start", "local_derivative", "error_term"):
        words.append(say(step.rule))
    if step.function and step.rule == "activation":
        words = [say(step.function)]
    if explanation.is_prediction(step):
        words.append(say("prediction"))
        outcome = explanation.outcome()
        if outcome:
            words.append(outcome)
    return ", ".join(words)


def _in_brackets(text: str) -> str:
    return f"  ({text})" if text else ""


def _through_time(explanation: Explanation) -> Iterator[str]:
    sizes = explanation.through_time()
    if len(sizes) > 1:
        shown = ", ".join(f"{name} = {number(size)}" for name, size in sizes)
        yield f"{explanation.say('through_time')}: {shown}"


def _decision(explanation: Explanation) -> Iterator[str]:
    flips = explanation.flips()
    if flips:
        yield ""
        yield explanation.say("flip")
        for name, at, now in flips:
            yield "  " + explanation.say("flips_at", name=name, at=number(at), now=number(now))


def _table(explanation: Explanation) -> Iterator[str]:
    """One row per update: the loss, the prediction, the parameters."""
    rows = [explanation.columns(), *(explanation.row(one) for one in explanation.passes)]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (w - _width(cell)) for cell, w in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _width(text: str) -> int:
    """Columns on a terminal: Chinese characters take two."""
    return sum(2 if ord(character) > 0x2E7F else 1 for character in text)
