"""Installed size: the required dependencies of chainrule and of its peers, from pip's records."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("torch", "jax", "onnxruntime")


def installed() -> dict[str, float]:
    """Bytes on disk of chainrule with what it requires, and of each peer with what that requires.

    A peer that is not installed is left out.
    """
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    own = sum(path.stat().st_size for path in (ROOT / "chainrule").rglob("*.py"))
    found = {"chainrule": own + _size(settings["project"]["dependencies"])}
    for name in PEERS:
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = _size([name])
    return found


def _size(requirements: list[str]) -> float:
    """Bytes of packages and all that they require."""
    from packaging.requirements import Requirement

    seen: dict[str, Distribution] = {}
    waiting = [Requirement(each) for each in requirements]
    while waiting:
        wanted = waiting.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        try:
            seen[name] = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform
        waiting += map(Requirement, seen[name].requires or [])
    return float(sum(map(_bytes, seen.values())))


def _bytes(package: Distribution) -> int:
    paths = [Path(str(package.locate_file(file))) for file in package.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file())


def main() -> int:
    """Print the sizes."""
    for name, size in installed().items():
        print(f"{name:12} {size / 2**20:8.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
