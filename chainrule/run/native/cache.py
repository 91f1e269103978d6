"""Compiled kernels on disk: found by key, verified when read, bounded in size.

Each entry is a file: a SHA-256 digest, then the object. Writers make a file of their own and rename
it, so that many processes may share the folder. A folder that can't be read or written is no error:
kernels are then compiled in every process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from pathlib import Path

_DIGEST = 32
LIMIT_BYTES = 256 << 20


def folder() -> Path:
    """Where objects are kept: ``$CHAINRULE_CACHE``, else the user's cache folder."""
    named = os.environ.get("CHAINRULE_CACHE")
    if named:
        return Path(named) / "kernels"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home())
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "chainrule" / "kernels"


def load(key: str) -> bytes | None:
    """The object of this key, or None if there is none that verifies."""
    try:
        data = (folder() / f"{key}.o").read_bytes()
    except (OSError, RuntimeError):
        return None
    digest, image = data[:_DIGEST], data[_DIGEST:]
    return image if hashlib.sha256(image).digest() == digest else None


def store(key: str, image: bytes) -> None:
    """Keep an object; quietly not, where the folder can't be written."""
    try:
        place = folder()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(image).digest() + image)
            os.replace(name, place / f"{key}.o")
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            return
        _bound(place)
    except (OSError, RuntimeError):
        return


def _bound(place: Path) -> None:
    """Forget the entries read longest ago once the folder is too large."""
    entries = [(entry.stat(), entry) for entry in place.glob("*.o")]
    total = sum(stat.st_size for stat, _ in entries)
    for stat, entry in sorted(entries, key=lambda pair: pair[0].st_mtime):
        if total <= LIMIT_BYTES:
            return
        with contextlib.suppress(OSError):
            entry.unlink()
        total -= stat.st_size
