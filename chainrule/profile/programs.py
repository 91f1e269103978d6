"""The step of a program: it is run until it has called a compiled function a few times."""

from __future__ import annotations

import runpy
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chainrule.errors import OptionError
from chainrule.tensor.compile import Compiled

# The first call traces; a program may call a step once by itself, to try it.
_CALLS = 3

Step = tuple[Compiled, tuple[Any, ...], dict[str, Any]]


class _Found(BaseException):
    """Ends the program, whatever errors it catches."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step


def step_of(program: Callable[[], object], name: str) -> Step:
    """The compiled function that a program calls most, and what it calls it with.

    The program ends when it calls one for the third time.

    Raises:
        OptionError: it calls none.
    """
    counts: Counter[Compiled] = Counter()
    last: list[Step] = []
    call = Compiled.__call__

    def watched(self: Compiled, *args: Any, **kwargs: Any) -> Any:
        counts[self] += 1
        last[:] = [(self, args, kwargs)]
        if counts[self] == _CALLS:
            raise _Found(last[0])
        return call(self, *args, **kwargs)

    Compiled.__call__ = watched  # type: ignore[method-assign]
    try:
        program()
    except _Found as found:
        return found.step
    finally:
        Compiled.__call__ = call  # type: ignore[method-assign]
    if not last:
        raise OptionError(
            name=name, expected="a program that calls a compiled step", got="one that calls none",
            mend="write step = cr.compile(step) before the loop",
        )  # fmt: skip
    return last[0]


def step_of_file(path: Path, options: Sequence[str] = ()) -> Step:
    """The step of a Python file, which is run as ``python FILE OPTIONS``.

    Raises:
        OptionError: there is no such file, or it calls no compiled function.
    """
    if not path.is_file():
        raise OptionError(
            name="what to profile", expected="digits, W1 to W7, or a Python file",
            got=repr(str(path)), mend="",
        )  # fmt: skip
    before = sys.argv, [*sys.path]
    sys.argv = [str(path), *options]
    sys.path.insert(0, str(path.resolve().parent))
    try:
        return step_of(lambda: runpy.run_path(str(path), run_name="__main__"), path.name)
    finally:
        sys.argv, sys.path[:] = before
