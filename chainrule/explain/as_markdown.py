"""An explanation as Markdown with LaTeX formulas, for notebooks and documents."""

from __future__ import annotations

from collections.abc import Iterator

from chainrule.explain.as_text import equation, phase_title, remark, shown_entries
from chainrule.explain.document import Explanation
from chainrule.explain.notation import Printer, number
from chainrule.explain.steps import PHASES, Line, Step


def render(explanation: Explanation) -> str:
    """The whole explanation."""
    say = explanation.say
    given = ", ".join(f"`{name}` = {shown}" for name, shown in explanation.given())
    lines = [f"**{say('network')}**: {explanation.summary()}", "", f"**{say('given')}**: {given}"]
    for phase in PHASES:
        steps = [step for step in explanation.steps if step.phase == phase]
        if steps:
            lines += ["", f"## {phase_title(explanation, phase)}"]
            for step in steps:
                lines += ["", *_step(explanation, step)]
    sizes = explanation.through_time()
    if len(sizes) > 1:
        shown = ", ".join(f"`{name}` = {number(size)}" for name, size in sizes)
        lines += ["", f"{say('through_time')}: {shown}"]
    flips = explanation.flips()
    if flips:
        lines += ["", f"## {say('flip')}", ""]
        for name, at, now in flips:
            lines.append(f"- {say('flips_at', name=name, at=number(at), now=number(now))}")
    if len(explanation.passes) > 1:
        lines += ["", *_table(explanation)]
    return "\n".join(lines) + "\n"


def _step(explanation: Explanation, step: Step) -> Iterator[str]:
    said = remark(explanation, step)
    if said:
        yield f"{said}:"
        yield ""
    rows = []
    arrow = r"\leftarrow" if step.rule == "parameter_update" else "="
    name = rf"\delta = {step.latex}" if step.delta else step.latex
    if step.formula is not None:
        rows.append(f"{name} &{arrow} {Printer(latex=True)(step.formula)}")
    for index in step.indices(shown_entries(explanation)):
        line = step.line(index)
        row = _line(explanation, line, arrow)
        if step.formula is None and step.delta:
            row = rf"\delta = {row}"
        shortcut = step.shortcut(index)
        if shortcut is not None:
            row += rf" \quad \left(= {Printer(latex=True)(shortcut)}\right)"
        rows.append(row)
    yield r"$$\begin{aligned}"
    yield " \\\\\n".join(rows)
    yield r"\end{aligned}$$"
    for note in step.notes:
        yield ""
        yield f"> {explanation.say(note)}"


def _line(explanation: Explanation, line: Line, arrow: str) -> str:
    full = explanation.settings.full
    row = f"{line.symbol.latex} &{arrow} {equation(line, full=full, latex=True)}"
    if line.check is not None:
        check = explanation.say("check")
        row += rf" \qquad \text{{{check}: }} {Printer(latex=True).number(line.check, 1e-5)}"
    return row


def _table(explanation: Explanation) -> Iterator[str]:
    heads, *rows = [explanation.columns(), *(explanation.row(one) for one in explanation.passes)]
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield f"| {' | '.join(row)} |"
