"""The README says what happens: its outputs are generated and compared, its program runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
# Training ends in other last digits on another processor; everything else is the same everywhere.
_LEEWAY = 0.02


def docs_build() -> ModuleType:
    """docs/build.py, which is no package."""
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = docs_build()


@pytest.mark.parametrize("command", [command for command, _ in BUILD.blocks(README)])
def test_outputs(command: str) -> None:
    shown = dict(BUILD.blocks(README))[command]
    made = BUILD.output_of(command)
    if not command.startswith("chainrule train"):
        assert shown == made
        return
    number = re.compile(r"\d+\.\d+")
    assert number.sub("#", shown) == number.sub("#", made)
    pairs = zip(number.findall(shown), number.findall(made), strict=True)
    assert all(abs(float(a) - float(b)) <= _LEEWAY for a, b in pairs)


def test_there_are_outputs() -> None:
    commands = [command for command, _ in BUILD.blocks(README)]
    assert commands == ["chainrule explain exam", "chainrule train digits"]


def test_the_program_learns(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    accuracy = float(re.findall(r"held-out accuracy (\d\.\d+)", printed)[0])
    assert accuracy > 0.9
    assert "Back-propagation (chain rule)" in printed
