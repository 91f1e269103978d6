"""Ctrl-C during a native run: it stops between tasks, or after the step (decision 18).

Python's handler runs on the main thread, which is in the native call. But a byte is written to a
pipe when a signal comes; a thread waits for it, and tells the run to write no state. Where another
library has that pipe (``signal.set_wakeup_fd``), Ctrl-C stops after the step.
"""

from __future__ import annotations

import os
import signal
import threading

from chainrule.core.graph import Array
from chainrule.run.native import runner as words

# Who stops a run: somebody asked for it, or a signal came.
ASKED, CTRL_C = 1, 2
# The head of the plan that runs now, or was the last to begin.
running: Array | None = None
_watching = False


def watch() -> None:
    """Begin to watch for Ctrl-C; once, and only from the main thread."""
    global _watching
    if _watching or threading.current_thread() is not threading.main_thread():
        return
    _watching = True
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # the program does something else then
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)
        return
    threading.Thread(target=_wait, args=(read,), name="chainrule Ctrl-C", daemon=True).start()


def _wait(read: int) -> None:
    while signals := os.read(read, 64):
        head = running
        if head is not None and signal.SIGINT in signals:
            head[words.INTERRUPT] = CTRL_C


def _forget() -> None:
    """In a forked child, where nobody reads the pipe."""
    global _watching
    if _watching:
        _watching = False
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
