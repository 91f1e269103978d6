"""Write the outputs shown in the README anew, by running the commands that they stand under."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"

# A console block: the command, then its output.
_BLOCK = re.compile(r"```console\n\$ (chainrule [^\n]*)\n(.*?)```", re.DOTALL)
# Lines of a long run that are shown, at its start and at its end.
_HEAD, _TAIL = 4, 1


def output_of(command: str) -> str:
    """What a command prints, run in an empty folder; a long run's middle becomes ``...``."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", *command.split()],
            cwd=folder,
            check=True,
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "CHAINRULE_LANG": "en"},
        )
    if not command.startswith("chainrule train"):
        return done.stdout
    lines = done.stdout.splitlines()
    end = next(i for i, line in enumerate(lines) if line.startswith("held-out")) + 1
    shown = [*lines[:_HEAD], "...", *lines[end - _TAIL : end]]
    return re.sub(r"-\d{8}-\d{6}", "-TIME", "\n".join(shown)) + "\n"


def blocks(text: str) -> list[tuple[str, str]]:
    """The commands in a text, each with the output shown under it."""
    return _BLOCK.findall(text)


def refreshed(text: str) -> str:
    """The text with every output made anew."""
    return _BLOCK.sub(lambda m: f"```console\n$ {m[1]}\n{output_of(m[1])}```", text)


if __name__ == "__main__":
    README.write_text(refreshed(README.read_text("utf-8")), "utf-8", newline="\n")
    print(f"wrote {README.name}")
