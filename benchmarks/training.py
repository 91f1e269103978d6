"""Training steps on the native executor against PyTorch: the table of paired ratios.

    python dev.py bench training [--threads N] [--rounds N] [W1 W2 ...]

The candidates take turns in one process, so that what else the machine does falls on all of them; a
ratio is PyTorch's time over ours in the same round. Its interval holds 90% of bootstrap medians.
The share of the peak is against a loop of nothing but fused products and sums, measured in the run.
"CPU" is the processor time that a candidate got per second of wall clock and thread: far under 100%
means that other programs were busy, and the figures say little.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
from common import Array, interval
from workloads import WORKLOADS, Workload, chainrule_step, torch_step

import chainrule as cr
from chainrule.run.native.limits import peak_flops
from chainrule.run.native.target import host
from chainrule.run.native.team import team

OURS = "chainrule"


def measure(
    candidates: Mapping[str, Callable[[], object]], rounds: int, pause: float, seconds: float = 0.02
) -> tuple[dict[str, Array], dict[str, float]]:
    """Seconds per step of each candidate in each round, and the processor time it got.

    A turn is as many steps as last about ``seconds``. Before it comes a ``pause``, and steps that
    do not count: helper threads spin for a while after their last work (OpenMP's for .2 s), and
    would take the core from the next candidate's.
    """
    counts = {}
    for name, step in candidates.items():
        for _ in range(3):
            step()
        start = time.perf_counter()
        step()
        counts[name] = max(1, int(seconds / (time.perf_counter() - start)))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    busy = dict.fromkeys(candidates, 0.0)
    for _ in range(rounds):
        for name, step in candidates.items():
            if pause:
                time.sleep(pause)
                for _ in range(3):
                    step()
            cpu, start = time.process_time(), time.perf_counter()
            for _ in range(counts[name]):
                step()
            times[name].append((time.perf_counter() - start) / counts[name])
            busy[name] += time.process_time() - cpu
    found = {name: np.array(each) for name, each in times.items()}
    return found, {name: busy[name] / (found[name].sum() * counts[name]) for name in candidates}


def compare(workload: Workload, threads: int, rounds: int, peak: float) -> list[str]:
    """The lines of one workload."""
    candidates = {
        OURS: chainrule_step(workload),
        "torch eager": torch_step(workload, fused=False),
        "torch fused": torch_step(workload, fused=True),
    }
    if len(workload.data()[0].shape) == 4:
        candidates["torch channels_last"] = torch_step(workload, fused=True, channels_last=True)
    losses = {name: step() for name, step in candidates.items()}
    if not workload.is_random and max(losses.values()) - min(losses.values()) > 1e-3:
        raise AssertionError(f"the first losses differ: {losses}")
    times, busy = measure(candidates, rounds, pause=0.25 if threads > 1 else 0.0)
    lines = []
    for name, each in times.items():
        median = float(np.median(each))
        rate = workload.flops / median
        ratio = ""
        if name != OURS:
            ratios = each / times[OURS]
            low, high = interval(ratios)
            ratio = f"{np.median(ratios):.2f} ({low:.2f}-{high:.2f})"
        lines.append(
            f"| {workload.name} | {name} | {1e3 * median:.3f} | {rate / 1e9:.0f} | "
            f"{rate / peak / threads:.0%} | {busy[name] / threads:.0%} | {ratio} |"
        )
    return lines


def main() -> int:
    """Print the table; 1 if PyTorch is faster somewhere."""
    parser = argparse.ArgumentParser(description="Training steps against PyTorch.")
    parser.add_argument("names", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    team.set_threads(options.threads)
    cr.set_executor("native")
    peak = peak_flops()
    print(f"{host().cpu}, {options.threads} thread(s), peak {peak / 1e9:.0f} GFLOP/s per core\n")
    print("| | candidate | ms | GFLOP/s | of peak | CPU | torch / ours (90%) |")
    print("|---|---|---|---|---|---|---|")
    slower = False
    for name in options.names:
        for line in compare(WORKLOADS[name], options.threads, options.rounds, peak):
            print(line, flush=True)
            slower |= line.rstrip(" |").split("|")[-1].strip().startswith("0.")
    return int(slower)


if __name__ == "__main__":
    sys.exit(main())
