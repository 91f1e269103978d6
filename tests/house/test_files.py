"""Rules every source file keeps."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("chainrule", "tests", "benchmarks", "examples", "docs")
SOURCES = [
    *ROOT.glob("*.py"),
    *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")),
]
TEXTS = [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "pyproject.toml"]

LONGEST = 500
# A file past 500 lines is asking to be two. These have a reason not to be.
LONG_FILES = {
    "chainrule/core/ops/functions.py": "one table of records: the named functions",
    "chainrule/core/ops/shape.py": "one family of records, each with the one that undoes it",
    "chainrule/tensor/tensor.py": "one class: the methods of PyTorch's tensors, a line or two each",
}


def name(path: Path) -> str:
    """The path as the tables here write it."""
    return path.relative_to(ROOT).as_posix()


def test_long_files_have_a_reason() -> None:
    long = {name(p) for p in SOURCES if len(p.read_text("utf-8").splitlines()) > LONGEST}
    assert long - LONG_FILES.keys() == set(), "split the file, or give the reason in LONG_FILES"
    assert LONG_FILES.keys() - long == set(), "no longer long: take it out of LONG_FILES"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_module_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), f"{name(path)} has no docstring"


# A path of one machine: the home, scratch and work folders of Unix, and a drive of Windows.
MACHINE_PATH = re.compile(r"(?<![\w.~}-])/(?:home|Users|root|tmp|work|opt)/\w|\b[C-Z]:\\\\?\w")


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_no_path_of_a_machine(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    found = [
        f"{number}: {line}" for number, line in enumerate(lines, 1) if MACHINE_PATH.search(line)
    ]
    assert not found, "a path that exists on one machine only:\n" + "\n".join(found)


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports them by their bare names."""
    names = sorted(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in set(names) if names.count(name) > 1] == []
