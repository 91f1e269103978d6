"""Everything at once: training, inference, start, memory and size, written to docs/benchmarks.

    python dev.py bench [--quick] [--scaling] [--all] [--out FOLDER] [W1 W2 ...]

W1 to W7 in training and in inference (batch 1 and 64), with one thread and with two, against
PyTorch, JAX and onnxruntime; about a quarter of an hour. --quick takes a few rounds, enough to see
that it works. --scaling varies batch, width, sequence and depth too, and takes as many threads as
there are cores. --all lets torch.compile take part. See ``report`` for what is written.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import footprint
import import_time
import report
import startup
from candidates import EAGER, FUSED, JAX, OURS
from figures import Results, Roof
from measuring import (
    QUICK,
    Settings,
    inference_rows,
    products_rows,
    scaling_rows,
    sized_rows,
    training_rows,
)
from workloads import SIZES, WORKLOADS, chainrule_training

import chainrule as cr
from chainrule.run.native.cores import usable_cores
from chainrule.run.native.limits import memory_rate
from chainrule.run.native.target import host


def machine(options: argparse.Namespace) -> dict[str, str]:
    """What the figures depend on."""
    versions = []
    for name in ("numpy", "llvmlite", "torch", "jax", "onnxruntime"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} is not installed")
    cores = usable_cores()
    return {
        "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": f"{_processor()}, {cores} cores to use",
        "memory": f"a core moves {memory_rate() / 1e9:.0f} GB/s beyond its own caches",
        "system": f"{platform.system()} {platform.release()}",
        "versions": f"Python {platform.python_version()}, {', '.join(versions)}",
        "rounds": "a few (--quick): these figures say little" if options.quick else "at least 9",
    }


def _processor() -> str:
    """The name that it gives itself, and LLVM's, which may be that of an older one."""
    own = ""
    if (listed := Path("/proc/cpuinfo")).exists():
        found = re.search(r"model name\s*:\s*(.+)", listed.read_text("utf-8"))
        own = f"{found[1]}, " if found else ""
    return f"{own}{host().cpu} to LLVM ({platform.machine()})"


def _commit() -> str:
    """Which version of the sources was measured."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=footprint.ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() or "not from a repository"


def profile_of(name: str) -> tuple[str, Roof]:
    """Where the time of our step goes, and what the least is that it could be."""
    workload = WORKLOADS[name]
    found = cr.profile(chainrule_training(workload), *workload.data())
    share = found.share_of_roof(found.total)
    least = found.total.seconds * share
    kernels = [(row.phase, row.seconds, row.flops, row.nbytes) for row in found.rows]
    roof = Roof(found.peak, found.memory, share, workload.flops / least / found.peak, kernels)
    return found.text(["phase", "kernel"], width=120), roof


def run(options: argparse.Namespace, results: Results) -> None:
    """Measure; what is found is in the results at once."""
    cores = usable_cores()
    threads = tuple(count for count in (1, 2) if count <= cores)
    if options.scaling:
        threads += tuple(2**power for power in range(2, 7) if 2**power <= cores)
    settings = QUICK if options.quick else Settings()
    settings = replace(settings, threads=threads, compiled=options.all)
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"{time.perf_counter() - begin:6.0f} s  {text}", flush=True)

    def measure(text: str, make: Callable[..., tuple[list[Any], list[str]]], *args: Any) -> None:
        say(text)
        rows, notes = make(*args)
        results.rows += rows
        results.notes += notes

    for name in options.names:
        measure(f"training {name}", training_rows, name, settings)
    if not options.scaling:
        measure("training W1 at batch 16", sized_rows, "batch:16", [OURS, EAGER], settings)
    for name in options.names:
        measure(f"inference {name}", inference_rows, name, settings)
    if options.scaling:
        shorter = replace(settings, seconds=settings.seconds / 4)
        for kind in SIZES:
            names = [OURS, *([EAGER] if kind == "batch" else []), FUSED, JAX]
            measure(f"scaling: {kind}", scaling_rows, kind, names, shorter)
    say("first steps in new processes")
    results.starts, notes = startup.starts(1 if options.quick else 5)
    results.notes += notes
    cr.set_executor("native")
    results.new_batch, results.planning = startup.new_batch_seconds()
    results.small_call = startup.small_call_seconds()
    for name in options.names:
        measure(f"products of {name}", products_rows, name, settings)
    for name in options.names:
        say(f"profile of {name}")
        results.profiles[name], results.roofs[name] = profile_of(name)
    say("import time, installed size")
    results.imports = import_time.seconds(3 if options.quick else 15)
    results.installed = footprint.installed()
    say("done")


def main() -> int:
    """Measure and write the report; 1 if a candidate could not take part."""
    parser = argparse.ArgumentParser(description="Everything at once, written to docs/benchmarks.")
    parser.add_argument("names", nargs="*", metavar="W1", help="some workloads; all if none")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it works")
    parser.add_argument("--scaling", action="store_true", help="batch, width, sequence and depth")
    parser.add_argument("--all", action="store_true", help="torch.compile takes part")
    parser.add_argument("--out", type=Path, default=report.FOLDER, help="where the report goes")
    options = parser.parse_args()
    options.names = options.names or list(WORKLOADS)
    if unknown := {*options.names} - {*WORKLOADS}:
        parser.error(f"{', '.join(unknown)}: there are {', '.join(WORKLOADS)}")
    results = Results(machine(options))
    try:
        run(options, results)
    except KeyboardInterrupt:
        results.notes.append("what comes after the last line here: the run was stopped")
    finally:
        report.save(results, options.out)
    print(options.out / "README.md")
    print("".join(f"left out: {note}\n" for note in results.notes), end="")
    return int(bool(results.notes))


if __name__ == "__main__":
    sys.exit(main())
