"""For every test: where the data is, repeatable random tests, and a clean state after each."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from chainrule import run
from chainrule.core import dtype
from chainrule.tensor import state

# Every test starts on this executor; those of one executor choose it.
EXECUTOR = os.environ.get("CHAINRULE_EXECUTOR", "native")

# Derandomized: a failure on one machine is the same failure on every machine.
hypothesis.settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """One flag writes the golden files anew; the change is then read as a diff."""
    parser.addoption("--refresh-golden", action="store_true", help="write the golden files anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of that name in ``golden/`` beside the test."""
    folder = request.path.parent / "golden"

    def compare(name: str, text: str) -> None:
        path = folder / name
        if request.config.getoption("--refresh-golden"):
            folder.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        assert path.exists(), f"no golden file {path}; run pytest --refresh-golden"
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(autouse=True, scope="session")
def ctrl_c() -> None:
    """Ctrl-C works, in the programs that tests start too: a shell's background jobs ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_state() -> Iterator[None]:
    """The same start for every test, whatever ran before it and however that ended."""
    state.eager.forget()
    state.eager.grads.clear()
    state.eager.checks.clear()
    state.manual_seed(0)
    dtype.set_default_dtype("float32")
    run.set_executor(EXECUTOR)
    yield
    dtype.set_default_dtype("float32")
    run.set_executor(EXECUTOR)


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages in English, whatever the language of the machine."""
    monkeypatch.delenv("CHAINRULE_LANG", raising=False)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of test data; see CONTRIBUTING.md. Without it, CI fails and a laptop skips."""
    named = os.environ.get("CHAINRULE_DATA", "")
    folder = Path(named)
    if not named or not folder.is_dir():
        reason = f"needs the test data: CHAINRULE_DATA is {named!r}, which is not a folder"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
