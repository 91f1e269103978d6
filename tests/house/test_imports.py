"""The floors: a file imports only from floors below its own, and importing the library is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "chainrule"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# From the ground up; a file imports from its own floor and from the earlier ones.
FLOORS = (
    "errors",
    "core",
    "run",
    "tensor",
    "nn",
    "optim",
    "explain",
    "profile",
    "formats",
    "data",
    "train",
    "like_torch",
    "models",
    "recipes",
    "web",
    "cli",
)
# The top: `import chainrule` and `python -m chainrule` gather what is below.
ROOF = ("__init__", "__main__")
# The packages that only one floor may import.
ONLY_IN = {"torch": "chainrule.run.torch"}
# What `import chainrule` must not load: needed by some commands only, or not required at all.
LATE = ("llvmlite", "safetensors", "rich", "typer", "PIL", "torch", "matplotlib")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: write the import in full"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def floor(module: str) -> str | None:
    """The floor a name of the package is on; None for the roof (`chainrule` itself, its names)."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else None


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def violations(path: Path) -> list[str]:
    """What a file imports against the rules."""
    here = module_name(path)
    own = floor(here)
    found = []
    for line, target in imports(path):
        where = f"{path.relative_to(ROOT).as_posix()}:{line} imports {target}"
        for package, place in ONLY_IN.items():
            if inside(target, package) and not inside(here, place):
                found.append(f"{where}; only {place} may")
        if not inside(target, "chainrule") or own is None:
            continue
        theirs = floor(target)
        if theirs is None:
            found.append(f"{where}: the roof; import from the floor that has it")
        elif FLOORS.index(theirs) > FLOORS.index(own):
            found.append(f"{where}: {theirs} is above {own}")
        elif theirs == "like_torch" != own and own != "cli":
            found.append(f"{where}: nothing is built on like_torch")
    return found


def test_every_file_is_on_a_floor() -> None:
    known = {*FLOORS, *ROOF}
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES}
    assert found <= known, "a new floor: give it its place in FLOORS"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_one_way(path: Path) -> None:
    assert violations(path) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("from chainrule.tensor import Tensor", "tensor is above core"),
        ("def f():\n    import chainrule.nn.layers", "nn is above core"),
        ("from chainrule import nn", "nn is above core"),
        ("import chainrule as cr", "the roof"),
        ("import torch", "only chainrule.run.torch may"),
        ("from torch.nn import functional", "only chainrule.run.torch may"),
    ],
)
def test_a_wrong_import_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, problem: str
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "chainrule" / "core" / "graph.py"
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n", "utf-8")
    assert [problem in found for found in violations(path)] == [True]


def test_import_loads_numpy_only() -> None:
    program = f"import sys, chainrule; print(*[m for m in {LATE} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []
    assert loaded.stderr == ""
