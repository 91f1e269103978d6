"""Two threads while another program takes one of the cores: no worse than one thread.

    python dev.py bench spinner [--steps N] [W1 W2 ...]

A process that does nothing but count is pinned to one of two cores, at the same priority. Then
training steps are timed with 1 thread and with 2, in turns of 20 steps; the process may use both
cores. Asked for: the median step of 2 threads at most 1.05 times, the mean at most 1.15 times that
of 1 thread. Linux only: elsewhere a process can't be pinned.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import numpy as np
from workloads import WORKLOADS, Workload, chainrule_step

import chainrule as cr
from chainrule.run.native.team import team

MEDIAN, MEAN = 1.05, 1.15
TURN = 20


def times_of(workload: Workload, steps: int) -> dict[int, np.ndarray]:
    """Seconds of each step, by the number of threads."""
    step = chainrule_step(workload)
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(-(-steps // TURN)):
        for threads, each in found.items():
            team.set_threads(threads)
            step()
            for _ in range(TURN):
                start = time.perf_counter()
                step()
                each.append(time.perf_counter() - start)
    return {threads: np.array(each[:steps]) for threads, each in found.items()}


def compare(workload: Workload, steps: int) -> bool:
    """Print a line; whether both bounds hold."""
    times = times_of(workload, steps)
    median, mean = (how(times[2]) / how(times[1]) for how in (np.median, np.mean))
    alone = 1e3 * np.median(times[1])
    print(f"| {workload.name} | {alone:.3f} | {median:.3f} | {mean:.3f} |", flush=True)
    return bool(median <= MEDIAN and mean <= MEAN)


def main() -> int:
    """Print the table; 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(description="Two threads beside a busy program.")
    parser.add_argument("names", nargs="*", default=["W1", "W2", "W4"])
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        print("this needs two cores")
        return 1
    os.sched_setaffinity(0, cores)
    cr.set_executor("native")
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(spinner.pid, cores[-1:])
        print("| | 1 thread, ms | 2 threads: median | mean |")
        print("|---|---|---|---|")
        held = [compare(WORKLOADS[name], options.steps) for name in options.names]
    finally:
        spinner.kill()
        spinner.wait()
    return int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
