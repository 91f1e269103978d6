"""The threads that run plans: the caller, and helpers that wait for work (decision 18).

Helpers are daemons. They spin for a short while after a run, since the next one usually comes at
once, and then sleep on a lock. Where they make a plan slower, because another program has their
core or there is too little to share, they are left out of it for a while (:class:`Pace`).
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from chainrule.core.arrays import Array, aligned
from chainrule.run.native import interrupts
from chainrule.run.native import runner as words
from chainrule.run.native.cores import keep_away, usable_cores
from chainrule.run.native.kernels.calling import THREAD_BYTES

# Looks at the board before a helper goes to sleep.
_PATIENCE = 20_000
# The first runs of a plan have helpers; then some are made without, to know how long they take.
_TRIED, _ALONE = 6, 2
# Helpers rest when they have cost more than they saved. Counted in runs without them: what they are
# trusted with, and the most that is counted of what they saved. What disturbs a run or two now and
# then costs less than that.
_TRUST, _MOST_SAVED = 0.25, 1.0
# A run without them may count as longer than it was by this factor: the clock is not constant.
_DRIFT = 1.01
# After a rest helpers need some time to wake up.
_WAKING_SECONDS = 2e-3
# Each rest is twice as long as the one before; but short if they saved more than they cost in all
# the runs since then.
_REST_SECONDS, _LONGEST_REST, _SHORT_REST = 0.1, 3.2, 0.01
_MOST_THREADS = 64


class Pace:
    """Whether helpers are good for a plan.

    Attributes:
        rest: seconds for which they will be left out next.
        until: when they may take part again.
    """

    def __init__(self) -> None:
        self._alone = math.inf  # what a run without helpers takes, rather less than more
        self._woken = math.inf  # when they took part first since the last rest
        self._runs = 0
        self._saved, self._in_all = _TRUST, 0.0  # since the last rest: what counts, and everything
        self.rest, self.until = _REST_SECONDS, 0.0

    def wants_helpers(self, now: float) -> bool:
        """Whether they take part in a run that begins now."""
        self._runs += 1
        if now < self.until or _TRIED < self._runs <= _TRIED + _ALONE:
            return False
        self._woken = min(self._woken, now)
        return True

    def took_alone(self, seconds: float) -> None:
        """A run without them."""
        self._alone = min(_DRIFT * self._alone, seconds)

    def took_together(self, seconds: float, now: float) -> None:
        """A run with them, which ends now."""
        saved = 1 - seconds / self._alone
        waking = saved < 0 and now - seconds < self._woken + _WAKING_SECONDS
        if waking or self._alone == math.inf:  # nothing is known yet
            return
        self._saved = min(self._saved + saved, _MOST_SAVED)
        self._in_all += saved
        if self._saved < 0:
            if self._in_all > 0:
                self.rest = _SHORT_REST
            self.until = now + self.rest
            self.rest = min(2 * self.rest, _LONGEST_REST)
            self._saved, self._in_all, self._woken = _TRUST, 0.0, math.inf


class _Helper(threading.Thread):
    """A thread that joins runs.

    Attributes:
        sleeps: whether it has to be woken for the next run.
    """

    def __init__(self, number: int, home: int, board: Array, function: Callable[..., int]) -> None:
        super().__init__(name=f"chainrule helper {number + 1}", daemon=True)
        self.sleeps = False
        self._number, self._home, self._board, self._function = number, home, board, function
        self._scratch = aligned((THREAD_BYTES,), np.dtype(np.uint8))
        self._bell = threading.Semaphore(0)

    def wake(self) -> None:
        """End its sleep."""
        self.sleeps = False
        self._bell.release()

    def run(self) -> None:
        """Its life."""
        board = self._board
        place, scratch = board.ctypes.data, self._scratch.ctypes.data
        seen = int(board[words.GENERATION])
        while not board[words.STOP]:
            seen = self._function(place, scratch, self._number, self._home, seen)
            self.sleeps = True
            if board[words.GENERATION] == seen and not board[words.STOP]:
                self._bell.acquire()
            self.sleeps = False


class Team:
    """All threads of this process that run plans.

    Attributes:
        threads: how many take part, the caller among them.
    """

    def __init__(self) -> None:
        self.threads = 0  # decided at first use
        self._lock = threading.Lock()
        self._fence = threading.Lock()
        self._functions: dict[str, Callable[..., int]] = {}
        self._paces: dict[int, Pace] = {}  # by the place of the plan's head
        self._forget()

    def _forget(self) -> None:
        """Without helpers."""
        self._helpers: list[_Helper] = []
        self._board: Array = aligned((words.BOARD_WORDS,), np.dtype(np.int64))
        self._board[words.PATIENCE] = _PATIENCE

    # ------------------------------------------------------------------ runs

    def run(self, head: int) -> int:
        """Run a plan; not 0 if it wrote no state because of an error or an interrupt."""
        with self._lock:
            if not self._functions:
                self._start()
            if self.threads == 1:
                return self._one(head, self._own)
            pace = self._paces.get(head) or self._paces.setdefault(head, Pace())
            start = time.perf_counter()
            if not pace.wants_helpers(start):
                failed: int = self._one(head, self._own)
                pace.took_alone(time.perf_counter() - start)
                return failed
            self._hire()
            sleepers = [helper for helper in self._helpers if helper.sleeps]
            if sleepers:
                keep_away(sleepers)
                for helper in sleepers:
                    helper.wake()
            failed = self._functions["_many"](self._board.ctypes.data, head, self._own)
            end = time.perf_counter()
            pace.took_together(end - start, end)
            return failed

    def run_alone(self, head: int) -> int:
        """The same on the calling thread: for a plan with nothing to share out."""
        with self._lock:
            if not self._functions:
                self._start()
            return self._one(head, self._own)

    def set_threads(self, count: int) -> None:
        """How many threads take part from now on."""
        with self._lock:
            if self._functions:
                self._dismiss()
            self.threads = max(1, min(count, _MOST_THREADS))

    def leave(self, heads: Iterable[int] = ()) -> None:
        """Wait until no helper is in a plan, so that the one with these heads can be freed."""
        for head in heads:
            self._paces.pop(head, None)
        self._board[words.PLAN] = 0
        with self._fence:  # helpers see the 0 before their words are looked at
            pass
        while any(self._board[words.BUSY : words.BUSY + len(self._helpers)].tolist()):
            time.sleep(0)

    # ------------------------------------------------------------------ helpers

    def _start(self) -> None:
        from chainrule.run.native.jit import Library
        from chainrule.run.native.target import host

        arm = host().triple.startswith(("aarch64", "arm64"))
        spec = ("runner", words.RunnerSpec(arm))
        self._library = Library([spec], words.ENDINGS)
        pointer, word = ctypes.c_void_p, ctypes.c_int64
        kinds: dict[str, tuple[Any, ...]] = {
            "_one": (word, pointer, pointer),
            "_many": (word, pointer, pointer, pointer),
            "_help": (word, pointer, pointer, word, word, word),
        }
        self._functions = {
            ending: ctypes.CFUNCTYPE(*kind)(self._library.addresses[spec, ending])
            for ending, kind in kinds.items()
        }
        self._scratch = aligned((THREAD_BYTES,), np.dtype(np.uint8))
        self._one, self._own = self._functions["_one"], self._scratch.ctypes.data
        self.threads = self.threads or min(usable_cores(), _MOST_THREADS)
        interrupts.watch()

    def _hire(self) -> None:
        """Start the helpers that are missing."""
        while len(self._helpers) < self.threads - 1:
            number = len(self._helpers)
            home = (number + 1) * words.PARTS // self.threads
            helper = _Helper(number, home, self._board, self._functions["_help"])
            self._helpers.append(helper)
            helper.start()

    def _dismiss(self) -> None:
        """Let the helpers go; new ones are hired with the next run."""
        self._board[words.STOP] = 1
        for helper in self._helpers:
            helper.wake()
        self.leave()
        self._forget()


team = Team()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=team.__init__)  # type: ignore[misc]
