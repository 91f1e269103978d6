#!/usr/bin/env python3
"""Every job of this project, in one command, on Linux, macOS and Windows.

    python3 dev.py demo      train on handwritten digits, from nothing
    python3 dev.py check     style, types and the first tests: seconds, for every save
    python3 dev.py test      check, and then the whole test suite: before every push
    python3 dev.py lint      mend the style: sort imports, format
    python3 dev.py bench     measure everything, or one thing: bench NAME; bench --list
    python3 dev.py docs      run the examples in the documentation and refresh their output

It needs Python 3.11 or newer and nothing else. What a job needs is installed into a virtual
environment of its own under .venv/, and used again until the requirements in pyproject.toml
change. Words after the job are passed on:

    python3 dev.py demo --epochs 5
    python3 dev.py test tests/core -k sigmoid
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# The tests that say within seconds whether the house stands.
FIRST_TESTS = ("tests/test_first.py", "tests/house")
# The folders the style rules hold for.
SOURCES = ("chainrule", "tests", "benchmarks", "examples", "docs", "dev.py")


class Failed(Exception):
    """A job that did not succeed, with its exit status."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status


def say(text: str) -> None:
    """Print a line of our own at once, so that it stands before what a command prints."""
    print(text, flush=True)


# ------------------------------------------------------------------------------ environments


class Environment:
    """A virtual environment under .venv/ with the library and one of its extras."""

    def __init__(self, name: str, extra: str) -> None:
        self.folder = ROOT / ".venv" / name
        self.extra = extra
        self.programs = self.folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.programs / ("python.exe" if os.name == "nt" else "python")
        self.stamp = self.folder / "made-from"

    def ready(self) -> Environment:
        """Make the environment, unless it is there and was made for today's requirements."""
        wanted = self._fingerprint()
        if self.stamp.is_file() and self.stamp.read_text("utf-8") == wanted:
            return self
        shown = self.folder.relative_to(ROOT)
        say(f"-- making {shown} (downloads packages; a few minutes the first time)")
        if self.folder.exists():
            shutil.rmtree(self.folder)
        try:
            run(sys.executable, "-m", "venv", str(self.folder))
        except Failed as failure:
            raise Failed(failure.status, "on Debian and Ubuntu: apt install python3-venv") from None
        target = f".[{self.extra}]" if self.extra else "."
        self.run("-m", "pip", "install", "--quiet", "--no-input", "--editable", target)
        self.stamp.write_text(wanted, "utf-8")
        return self

    def run(self, *arguments: str, **settings: str) -> None:
        """Run this environment's Python in the project's folder."""
        run(str(self.python), *arguments, **settings)

    def _fingerprint(self) -> str:
        import tomllib  # new in Python 3.11, and older ones are to read our message

        settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        # Settings of ruff and the like are read anew by every run.
        installed = {name: settings[name] for name in ("build-system", "project")}
        made_from = (installed, self.extra, sys.version, os.fsencode(ROOT))
        return hashlib.sha256(repr(made_from).encode()).hexdigest()


PRODUCT = Environment("demo", extra="")
DEVELOPMENT = Environment("dev", extra="test")
BENCHMARKS = Environment("bench", extra="bench")


def run(*command: str, **settings: str) -> None:
    """Run a command in the project's folder, with more environment variables; raise if it fails."""
    say("$ " + " ".join((Path(command[0]).stem, *command[1:])))
    environment = {**os.environ, **settings}
    data = ROOT.parent / "shared" / "data"
    if data.is_dir():
        environment.setdefault("CHAINRULE_DATA", str(data))
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if status:
        raise Failed(status)


# ------------------------------------------------------------------------------ jobs


def demo(options: Sequence[str]) -> None:
    """Train on the embedded digits; show the held-out accuracy and where the picture is."""
    environment = PRODUCT.ready()
    program = "chainrule.exe" if os.name == "nt" else "chainrule"
    run(str(environment.programs / program), "train", "digits", *options)


def check(options: Sequence[str]) -> None:
    """Style, types and the first tests; with --no-tests, style and types only."""
    environment = DEVELOPMENT.ready()
    environment.run("-m", "ruff", "check", "--quiet", *existing(SOURCES))
    environment.run("-m", "ruff", "format", "--check", "--quiet", *existing(SOURCES))
    environment.run("-m", "mypy")
    if "--no-tests" not in options:
        environment.run("-m", "pytest", "-q", *existing(FIRST_TESTS), *options)


def test(options: Sequence[str]) -> None:
    """All of check, then the whole suite; with extra words, only pytest with those."""
    if options:
        DEVELOPMENT.ready().run("-m", "pytest", *options)
        return
    check(())
    # Two workers share the cores, so the libraries inside them start no threads of their own.
    DEVELOPMENT.run("-m", "pytest", "-q", "-n", "2", OMP_NUM_THREADS="1")


def lint(options: Sequence[str]) -> None:
    """Mend what ruff can mend, and format."""
    environment = DEVELOPMENT.ready()
    environment.run("-m", "ruff", "check", "--fix", *options, *existing(SOURCES))
    environment.run("-m", "ruff", "format", *existing(SOURCES))


def bench(options: Sequence[str]) -> None:
    """Run all benchmarks and write docs/benchmarks, or one by name; --list lists them.

    Extra words go to the program: bench --quick, bench training W1 --threads 2.
    """
    found = programs()
    if "--list" in options:
        for name, about in found.items():
            say(f"{name:20} {about}")
        return
    name, *rest = options if options and not options[0].startswith("-") else ("full", *options)
    if name not in found:
        raise Failed(2, f"there is no benchmark {name!r}; there are: {', '.join(found)}")
    BENCHMARKS.ready().run(f"benchmarks/{name}.py", *rest)


def docs(options: Sequence[str]) -> None:
    """Run the examples in docstrings; write the outputs shown in the README anew."""
    environment = DEVELOPMENT.ready()
    environment.run("-m", "pytest", "-q", "tests/house/test_doctests.py", *options)
    for program in existing(("docs/build.py",)):
        environment.run(program)


JOBS: dict[str, Callable[[Sequence[str]], None]] = {
    job.__name__: job for job in (demo, check, test, lint, bench, docs)
}


# ------------------------------------------------------------------------------ small helpers


def existing(names: Sequence[str]) -> list[str]:
    """Those of the files and folders that are there."""
    return [name for name in names if (ROOT / name).exists()]


def programs() -> dict[str, str]:
    """The benchmarks, and what each is about; files beside them are their parts."""
    found = {}
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        if "\ndef main(" in path.read_text("utf-8"):
            found[path.stem] = summary(path)
    return found


def summary(path: Path) -> str:
    """The first line of a program's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job named on the command line; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without the letters of the path
    if sys.version_info < (3, 11):  # noqa: UP036 - older ones may run this file
        say(f"dev.py needs Python 3.11 or newer; this is {sys.version.split()[0]}")
        return 2
    parser = argparse.ArgumentParser(
        prog="dev.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", nargs="?", choices=JOBS, help="what to do")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="passed on to the job")
    chosen = parser.parse_args(arguments)
    if chosen.job is None:
        parser.print_help()
        return 0
    try:
        JOBS[chosen.job](chosen.options)
    except Failed as failure:
        if str(failure):
            say(f"dev.py: {failure}")
        return failure.status
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
