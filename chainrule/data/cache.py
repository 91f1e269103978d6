"""Where downloads are kept between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """A folder below the library's cache; the name only, nothing is made.

    The cache is ``CHAINRULE_CACHE`` where that is set, else the platform's place for files that can
    be made again: ``XDG_CACHE_HOME`` or ``~/.cache`` on Linux, ``~/Library/Caches`` on macOS,
    ``%LOCALAPPDATA%`` on Windows.

    >>> from chainrule.data import cache_folder
    >>> cache_folder("mnist").name
    'mnist'
    """
    chosen = os.environ.get("CHAINRULE_CACHE")
    root = Path(chosen).expanduser() if chosen else _platform_cache() / "chainrule"
    return root.joinpath(*parts)


def _platform_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    # The XDG rule: a relative path is invalid and is to be ignored.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".cache"
