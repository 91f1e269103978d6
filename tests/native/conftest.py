"""For the tests of the native engine: the sample cases of the core, and a cache of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chainrule.run.native import plan
from chainrule.run.native.team import team

# The cases that every executor is tried on stand beside the tests of the core.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kernels are compiled once per session, whatever the user's cache holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAINRULE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test may change the number of threads; however little there is to do, all take part."""
    monkeypatch.setattr(plan, "_SHARED", 0)
    team.set_threads(1)
    yield
    team.set_threads(1)
