"""One candidate in a process of its own: it makes its steps, and runs them when it is told to.

It is told what to do by lines of JSON, and answers with lines of JSON. The first answer comes
after the first step. See ``turns`` for the other end.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from typing import Any

# A turn lasts about this long; steps that are longer are a turn each.
TURN_SECONDS = 0.02
# Helper threads spin for a while after their last work (OpenMP's for up to .2 s).
_QUIET_SECONDS = 0.3


def serve() -> None:
    """Read the order from the command line, then serve the requests that come in."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def answer(**found: Any) -> None:
        print(json.dumps(found), file=answers, flush=True)

    order = json.loads(sys.argv[1])
    try:
        steps, facts = _make(order)
        answer(**facts)
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}".splitlines()[0])
        return
    if order["threads"]:
        from candidates import keep_on

        keep_on(order["threads"])
    counts: dict[str, int] = {}
    for line in sys.stdin:
        key = json.loads(line)
        if key is None:
            break
        if key not in counts:  # now no other candidate is busy
            counts[key] = _count(steps[key])
        answer(**_turn(steps[key], counts[key]))
    answer(memory=peak_memory())


def _make(order: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The steps by key, each run once, and what the first runs found."""
    from candidates import OURS, PEAK, inference_step, set_threads, training_step

    name, threads = order["candidate"], order["threads"]
    if name == PEAK:
        from chainrule.run.native.limits import peak_loop

        run, flops = peak_loop()
        return dict.fromkeys(order["keys"], run), {"flops": flops}
    if threads:
        set_threads(name, threads)
    if name == OURS:
        import chainrule as cr

        cr.set_executor("native")
    from workloads import named

    workload = named(order["workload"])
    if order["kind"] == "products":
        from products import products_step

        step, flops = products_step(workload)
        step()
        return dict.fromkeys(order["keys"], step), {"flops": flops}
    if order["kind"] == "training":
        steps = {"training": training_step(name, workload, _weights(order["start"]))}
    else:
        steps = {
            key: inference_step(name, workload, int(key), threads or 1) for key in order["keys"]
        }
    return steps, {"first": {key: _summary(step()) for key, step in steps.items()}}


def _weights(path: str | None) -> dict[str, Any] | None:
    """The weights that everyone begins with."""
    if path is None:
        return None
    import numpy as np

    with np.load(path) as file:
        return dict(file)


def _summary(result: Any) -> list[float]:
    """A loss, or mean and root mean square of a prediction: the same in every layout."""
    if isinstance(result, float):
        return [result]
    import numpy as np

    array = np.asarray(result.numpy() if hasattr(result, "numpy") else result, np.float64)
    return [float(array.mean()), float(np.sqrt((array**2).mean()))]


def _count(step: Any) -> int:
    """How many steps make a turn."""
    for _ in range(3):
        step()
    start = time.perf_counter()
    step()
    return max(1, math.ceil(TURN_SECONDS / (time.perf_counter() - start)))


def _turn(step: Any, count: int) -> dict[str, float]:
    """Seconds per step and processor time per second, of steps that follow upon each other.

    The first do not count: they wake the threads up, and find other candidates' data in the caches.
    """
    for _ in range(max(1, count // 4)):
        step()
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(count):
        step()
    wall = time.perf_counter() - start
    busy = (time.process_time() - cpu) / wall
    _wait_until_quiet()
    return {"seconds": wall / count, "busy": busy}


def _wait_until_quiet() -> None:
    """Until no thread of this process is busy any more: the next candidate wants the cores."""
    end = time.perf_counter() + _QUIET_SECONDS
    while time.perf_counter() < end:
        cpu = time.process_time()
        time.sleep(0.002)
        if time.process_time() - cpu < 0.0005:
            return


def peak_memory() -> float | None:
    """The most memory that this process had at once, in bytes; None where it can't be known."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            (line,) = [line for line in file if line.startswith("VmHWM")]
        return 1024.0 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS
