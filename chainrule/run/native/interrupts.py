"""Ctrl-C during a native run: it stops between tasks, or after the step (decision 18).

Python's handler runs on the main thread, which is in the native call. But a byte is sent when a
signal comes (``signal.set_wakeup_fd``); a thread waits for it, and tells the run to write no state.
Where another library has taken that byte, Ctrl-C stops after the step.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from chainrule.core.graph import Array
from chainrule.run.native import runner as words

if TYPE_CHECKING:
    import socket

# Who stops a run: somebody asked for it, or a signal came.
ASKED, CTRL_C = 1, 2
# The head of the plan that runs now, or was the last to begin.
running: Array | None = None
_tried = _watching = False


def watch() -> None:
    """Begin to watch for Ctrl-C; once, and only from the main thread."""
    global _tried, _watching
    if _tried or threading.current_thread() is not threading.main_thread():
        return
    _tried = True
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # the program does something else then
    import socket

    read, write = socket.socketpair()  # on Windows a pipe would block
    write.setblocking(False)
    before = signal.set_wakeup_fd(write.fileno(), warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before)
        read.close()
        write.close()
        return
    _watching = True
    args = (read, write)
    threading.Thread(target=_wait, args=args, name="chainrule Ctrl-C", daemon=True).start()


def _wait(read: socket.socket, _write: socket.socket) -> None:
    """Of the watching thread, which keeps both ends open."""
    while signals := read.recv(64):
        head = running
        if head is not None and signal.SIGINT in signals:
            head[words.INTERRUPT] = CTRL_C


def _forget() -> None:
    """In a forked child, where nobody waits."""
    global _tried, _watching
    _tried = False
    if _watching:
        _watching = False
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
