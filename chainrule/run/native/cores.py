"""The processor's cores: how many this process may use, and keeping threads on different ones."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Iterable


def usable_cores() -> int:
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
    return max(1, cores)


def keep_away(threads: Iterable[threading.Thread]) -> None:
    """Keep these threads off the core that the caller runs on, where the process has others.

    Linux likes to wake a thread on the core of the one that wakes it, and may leave both there for
    10 ms though another core is idle: longer than many a training step.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        others = os.sched_getaffinity(0) - {ctypes.CDLL(None).sched_getcpu()}
    except (OSError, AttributeError):  # a C library without it
        return
    if others:
        for thread in threads:
            with contextlib.suppress(OSError):  # it has ended, or the system forbids it
                if thread.native_id:  # it was started
                    os.sched_setaffinity(thread.native_id, others)
