"""An explanation as JSON: the steps with their formulas, numbers and checks."""

from __future__ import annotations

import json
from typing import Any

from chainrule.explain.as_text import shown_entries
from chainrule.explain.document import Explanation
from chainrule.explain.notation import Formula, Printer
from chainrule.explain.steps import Line, Step


def render(explanation: Explanation) -> str:
    """The document as JSON text (non-ASCII characters escaped, so that any console can show it)."""
    document = {
        "language": explanation.settings.lang,
        "network": explanation.summary(),
        "given": dict(explanation.given()),
        "outcome": explanation.outcome(),
        "steps": [_step(explanation, step) for step in explanation.steps],
        "passes": [
            {"loss": one.loss, "prediction": one.prediction.tolist(), **dict(one.parameters)}
            for one in explanation.passes
        ],
        "flips": [{"input": name, "at": at, "now": now} for name, at, now in explanation.flips()],
    }
    return json.dumps(document, indent=2) + "\n"


def _step(explanation: Explanation, step: Step) -> dict[str, Any]:
    limit = shown_entries(explanation)
    return {
        "phase": step.phase,
        "rule": step.rule,
        "word": explanation.say(step.rule),
        "symbol": {"plain": step.plain, "latex": step.latex},
        "delta": step.delta,
        "formula": _both(step.formula),
        "shape": list(step.shape),
        "layer": ".".join(step.scope),
        "line": str(step.source) if step.source else "",
        "notes": [explanation.say(note) for note in step.notes],
        "entries": [
            {
                "index": list(index),
                **_line(step.line(index)),
                "shortcut": _both(step.shortcut(index)),
            }
            for index in step.indices(limit)
        ],
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "symbol": {"plain": line.symbol.plain, "latex": line.symbol.latex},
        "formula": _both(line.formula),
        "numbers": _both(line.opened, numbers=True),
        "result": line.result,
        "check": line.check,
        "reads": list(line.reads),
    }


def _both(formula: Formula | None, numbers: bool = False) -> dict[str, str] | None:
    if formula is None:
        return None
    return {
        "plain": Printer(numbers=numbers, full=True)(formula),
        "latex": Printer(latex=True, numbers=numbers, full=True)(formula),
    }
