"""Candidates in processes of their own take turns; who was how fast is told round by round."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import environment

HERE = Path(__file__).resolve().parent


class CandidateError(Exception):
    """A candidate that can't take part; the text says why."""


class Process:
    """A candidate in a process of its own; see ``worker`` for the other end.

    Attributes:
        first: results of its first steps, by key.
        flops: operations of a step, where it alone knows.
        started: seconds from the start of the process to the end of its first step.
    """

    def __init__(
        self,
        candidate: str,
        workload: str = "",
        kind: str = "training",
        keys: Sequence[str] = ("training",),
        threads: int = 1,
        start: str | None = None,
        **more: str,
    ) -> None:
        """Start it. ``threads=0`` leaves the number to the library."""
        order = {
            "candidate": candidate, "workload": workload, "kind": kind, "keys": keys,
            "threads": threads, "start": start,
        }  # fmt: skip
        limits = {"OMP_NUM_THREADS": str(threads)} if threads else {}
        path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._begin = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from worker import serve; serve()", json.dumps(order)],
            cwd=HERE,
            env=environment(**limits, PYTHONPATH=path, **more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self.first: dict[str, list[float]] = {}
        self.flops = 0.0
        self.started = 0.0

    def ready(self) -> None:
        """Wait for the first step.

        Raises:
            CandidateError: it could not take it.
        """
        found = self._answer()
        self.started = time.perf_counter() - self._begin
        if "error" in found:
            self.end()
            raise CandidateError(found["error"])
        self.first, self.flops = found.get("first", {}), found.get("flops", 0.0)

    def turn(self, key: str) -> tuple[float, float]:
        """Seconds per step, and seconds of processor time per second."""
        self._tell(key)
        found = self._answer()
        return found["seconds"], found["busy"]

    def close(self) -> float | None:
        """End it; the most memory it had, in bytes."""
        self._tell(None)
        found = self._answer()
        self.end()
        memory: float | None = found["memory"]
        return memory

    def end(self) -> None:
        """End it without a word."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # a message that nobody reads any more
                pipe.close()
        self._process.kill()
        self._process.wait()

    def _tell(self, message: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise CandidateError("its process ended") from None

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise CandidateError("its process ended")
        found: dict[str, Any] = json.loads(line)
        return found


def take_turns(
    turns: Mapping[Any, Callable[[], tuple[float, float]]], budget: float, least: int, most: int
) -> tuple[dict[Any, list[tuple[float, float]]], dict[Any, str]]:
    """What each candidate took in each round; and who broke down, with the reason.

    Args:
        turns: one turn of each candidate.
        budget: seconds after which no further round begins.
        least, most: how many rounds there are, whatever the budget.
    """
    found: dict[Any, list[tuple[float, float]]] = {name: [] for name in turns}
    failed: dict[Any, str] = {}
    begin = time.perf_counter()
    for number in range(most):
        if number >= least and time.perf_counter() - begin > budget:
            break
        for name, turn in turns.items():
            if name in failed:
                continue
            try:
                found[name].append(turn())
            except CandidateError as error:
                failed[name] = str(error)
                del found[name]
    return found, failed
