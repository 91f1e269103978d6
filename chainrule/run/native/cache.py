"""Compiled kernels on disk: found by key, verified when read, bounded in size.

Each entry is a file: a SHA-256 digest, then the object. Writers make a file of their own and rename
it, so that many processes may share the folder. Once it is too large, the entries read longest ago
go. A folder that can't be read or written is no error: kernels are then compiled in every process.
Neither is one that other users may write to, which is left alone: what is in it would run here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DIGEST = 32
# Of these files, of a few KB each, a large network has some hundreds.
LIMIT_BYTES = 64 << 20
# A file that is still being written after this long was left by a process that ended.
_LEFT_SECONDS = 3600.0

# Bytes stored by this process since it looked at the size of the folder; None: it never did.
_unchecked: int | None = None


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
        place = folder()
        if not is_private(place):
            return None
        path = place / f"{key}.o"
        data = path.read_bytes()
    except (OSError, RuntimeError):
        return None
    digest, image = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(image).digest() != digest:
        return None
    with contextlib.suppress(OSError):  # the folder may be read-only
        os.utime(path)  # read last now
    return image


def has(key: str) -> bool:
    """Whether there is an object of this key; it may not verify."""
    try:
        return (folder() / f"{key}.o").exists()
    except (OSError, RuntimeError):
        return False


def store(key: str, image: bytes) -> None:
    """Keep an object; quietly not, where the folder can't be written."""
    try:
        place = folder()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_private(place):
            return
        handle, name = tempfile.mkstemp(dir=place, suffix=".part")  # for its owner alone
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(image).digest() + image)
            os.replace(name, place / f"{key}.o")
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            return
        _bound(place, _DIGEST + len(image))
    except (OSError, RuntimeError):
        return


def is_private(place: Path) -> bool:
    """Whether nobody but its owner, who is this user or root, can write to a folder.

    Raises:
        OSError: there is no such folder.
    """
    found = place.stat()
    if not hasattr(os, "getuid"):  # Windows: the user's own folder by default
        return True
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid in (os.getuid(), 0) and not writable


def _bound(place: Path, stored: int) -> None:
    """Forget the entries read longest ago once the folder is too large.

    A full folder has thousands of entries, so a process looks at its first store, and then each
    time that it has stored a small share of the limit.
    """
    global _unchecked
    if _unchecked is not None and _unchecked + stored < LIMIT_BYTES // 64:
        _unchecked += stored
        return
    _unchecked = 0
    entries = [(found.st_mtime, found.st_size, path) for path, found in _files(place, ".o")]
    total = sum(size for _, size, _ in entries)
    if total > LIMIT_BYTES:
        for _, size, path in sorted(entries):
            _remove(path)
            total -= size
            if total <= LIMIT_BYTES:
                break
    for path, found in _files(place, ".part"):
        if found.st_mtime < time.time() - _LEFT_SECONDS:
            _remove(path)


def _files(place: Path, suffix: str) -> Iterator[tuple[str, os.stat_result]]:
    """Files of a folder that are still there when they are looked at; none without the folder."""
    with contextlib.suppress(OSError), os.scandir(place) as found:
        for each in found:
            with contextlib.suppress(OSError):
                if each.name.endswith(suffix):
                    yield each.path, each.stat()


def _remove(path: str | Path) -> bool:
    """Whether the file was there and could be removed."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------ for people


@dataclass(frozen=True)
class Contents:
    """What the cache holds.

    Attributes:
        folder: where it is.
        entries: how many kernels.
        nbytes: what they take on disk.
        limit: bytes that are kept at most.
        state: ``"in use"``, or why it is not.
    """

    folder: Path
    entries: int
    nbytes: int
    limit: int
    state: str


def contents() -> Contents:
    """What is in the cache; a folder that is missing or can't be read has nothing in it."""
    place = folder()
    sizes = [found.st_size for _, found in _files(place, ".o")]
    return Contents(place, len(sizes), sum(sizes), LIMIT_BYTES, _state(place))


def _state(place: Path) -> str:
    try:
        if not place.is_dir():
            return "not made yet"
        if not is_private(place):
            return "not used: other users can write to it, or it is another user's"
    except OSError as error:
        return f"not used: {error.strerror}"
    if not os.access(place, os.R_OK | os.X_OK):
        return "not used: it can't be read"
    return "in use" if os.access(place, os.W_OK) else "in use, read-only"


def clear() -> tuple[int, int]:
    """Remove every kernel. Programs that are running keep theirs.

    Returns:
        How many were removed, and how many could not be.
    """
    place = folder()
    removed = [_remove(path) for path, _ in [*_files(place, ".o")]]
    for path, _ in [*_files(place, ".part")]:
        _remove(path)
    return sum(removed), len(removed) - sum(removed)
