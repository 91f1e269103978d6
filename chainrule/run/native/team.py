"""The threads that run plans: the caller, and helpers that wait for work (decision 18).

Helpers are daemons. They spin for a short while after a run, since the next one usually comes at
once, and then sleep on a lock. A helper that keeps the others waiting, because another program has
its core, is left out for a while.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.core.graph import Array, aligned
from chainrule.run.native import interrupts
from chainrule.run.native import runner as words
from chainrule.run.native.kernels.calling import THREAD_BYTES

# Looks at the board before a helper goes to sleep.
_PATIENCE = 20_000
# A wait this long means that a helper had lost its core to another program, which keeps it for some
# milliseconds; then helpers rest. Each time they rest twice as long, until many runs were good.
_LATE_SECONDS = 1e-3
_REST_SECONDS = 0.1
_LONGEST_REST = 3.2
_FORGET_AFTER = 200
_MOST_THREADS = 64


class Team:
    """All threads of this process that run plans.

    Attributes:
        threads: how many take part, the caller among them.
    """

    def __init__(self) -> None:
        self.threads = 0  # decided at first use
        self._lock = threading.Lock()
        self._fence = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        """Without helpers, as at the start and in a forked child."""
        self._board: Array = aligned((words.BOARD_WORDS,), np.dtype(np.int64))
        self._functions: dict[str, Callable[..., int]] = {}
        self._scratch: list[Array] = []
        self._asleep: list[threading.Semaphore] = []
        self._sleeping: list[bool] = []
        self._good = 0
        self._rest = self._rest_until = 0.0
        self._late_spins = 0

    # ------------------------------------------------------------------ runs

    def run(self, head: int) -> int:
        """Run a plan; not 0 if it wrote no state because of an error or an interrupt."""
        with self._lock:
            if not self._functions:
                self._start()
            if self.threads == 1 or self._resting():
                return self._one(head, self._own)
            self._hire()
            for number, sleeping in enumerate(self._sleeping):
                if sleeping:
                    self._sleeping[number] = False
                    self._asleep[number].release()
            failed = self._functions["_many"](self._board.ctypes.data, head, self._own)
            self._judge()
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

    def leave(self) -> None:
        """Wait until no helper is in a plan, so that one can be freed."""
        self._board[words.PLAN] = 0
        with self._fence:  # helpers see the 0 before their words are looked at
            pass
        while any(self._board[words.BUSY : words.BUSY + len(self._asleep)].tolist()):
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
            "_help": (word, pointer, pointer, word, word),
            "_pause": (None, word),
        }
        self._functions = {
            ending: ctypes.CFUNCTYPE(*kind)(self._library.addresses[spec, ending])
            for ending, kind in kinds.items()
        }
        self._scratch = [aligned((THREAD_BYTES,), np.dtype(np.uint8))]
        self._one, self._own = self._functions["_one"], self._scratch[0].ctypes.data
        self.threads = self.threads or available_threads()
        self._board[words.PATIENCE] = _PATIENCE
        start = time.perf_counter()
        self._functions["_pause"](1000)
        interrupts.watch()
        self._late_spins = int(_LATE_SECONDS * 1000 / max(time.perf_counter() - start, 1e-9))

    def _seconds_of_pauses(self, count: int) -> float:
        start = time.perf_counter()
        self._functions["_pause"](count)
        return time.perf_counter() - start

    def _hire(self) -> None:
        """Start the helpers that are missing."""
        while len(self._asleep) < self.threads - 1:
            number = len(self._asleep)
            self._asleep.append(threading.Semaphore(0))
            self._sleeping.append(False)
            self._scratch.append(aligned((THREAD_BYTES,), np.dtype(np.uint8)))
            args = (number, self._board, self._functions["_help"], self._scratch[-1])
            name = f"chainrule helper {number + 1}"
            threading.Thread(target=self._help, args=args, name=name, daemon=True).start()

    def _help(
        self, number: int, board: Array, function: Callable[..., int], scratch: Array
    ) -> None:
        """One helper's life."""
        seen = int(board[words.GENERATION])
        awake, sleeping = self._asleep[number], self._sleeping
        while not board[words.STOP]:
            seen = function(board.ctypes.data, scratch.ctypes.data, number, seen)
            sleeping[number] = True
            if board[words.GENERATION] == seen and not board[words.STOP]:
                awake.acquire()
            sleeping[number] = False

    def _dismiss(self) -> None:
        """Let the helpers go; new ones are hired with the next run."""
        self._board[words.STOP] = 1
        for semaphore in self._asleep:
            semaphore.release()
        self.leave()
        threads, functions, library = self.threads, self._functions, self._library
        late, scratch = self._late_spins, self._scratch[:1]
        rest = self._good, self._rest, self._rest_until
        self._forget()
        self._good, self._rest, self._rest_until = rest
        self.threads, self._functions, self._library = threads, functions, library
        self._late_spins, self._scratch = late, scratch
        self._board[words.PATIENCE] = _PATIENCE

    # ------------------------------------------------------------------ late helpers

    def _resting(self) -> bool:
        if self._rest_until and time.perf_counter() < self._rest_until:
            return True
        self._rest_until = 0.0
        return False

    def _judge(self) -> None:
        """A late run sends the helpers to rest; many good ones are forgiven."""
        if self._board[words.LONGEST] > self._late_spins:
            self._good = 0
            self._rest = min(2 * self._rest or _REST_SECONDS, _LONGEST_REST)
            self._rest_until = time.perf_counter() + self._rest
            return
        self._good += 1
        if self._good > _FORGET_AFTER:
            self._rest = 0.0


def available_threads() -> int:
    """How many threads this process may keep busy: its cores, within its control group's share."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, min(cores, _MOST_THREADS))


team = Team()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=team.__init__)  # type: ignore[misc]
