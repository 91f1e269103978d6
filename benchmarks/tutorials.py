"""Tutorial programs as they are pasted, without ``cr.compile``: ours against PyTorch's time.

    python dev.py bench tutorials [--rounds N] [--threads N] [NAME ...]

The programs of ``tests/like_torch/programs``. Some are in float64 there, so that the tests can
compare digits; here they are in float32, as users have them, but for two whose data is not. Each
run is a process of its own, and the libraries
take turns. Three times are compared, each the median over the rounds:

- *whole*: from the start of the process to its end, as at the command line, imports included;
- *first*: the program itself, the first time in a process: plans and the derivatives are made;
- *again*: the same program once more in that process: what a longer training costs.

A ratio is PyTorch's time over ours: above 1 we are faster. Kernels come from the cache on disk,
but for those of the first round, which does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import types
import warnings
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "like_torch"
FLOAT64 = ("gru_forecast", "siamese")
LIBRARIES = ("chainrule", "torch")
COLUMNS = ("whole", "first", "again")


def child(library: str, path: Path, threads: int) -> dict[str, float]:
    """Run a program twice in this process; the seconds that it took."""
    sys.path.insert(0, str(FOLDER))
    from pasted import with_our_imports

    source = path.read_text("utf-8")
    if path.stem not in FLOAT64:
        source = source.replace("float64", "float32")
    if library == "torch":
        import torch

        torch.set_num_threads(threads)
    else:
        import chainrule as cr
        from chainrule.run.native.team import team

        team.set_threads(threads)
        source = with_our_imports(source)
    code = compile(source, str(path), "exec")
    warnings.simplefilter("ignore")
    times = []
    for _ in range(2):
        if library == "torch":
            torch.manual_seed(0)
            torch.set_default_dtype(torch.float32)
        else:
            cr.manual_seed(0)
            cr.set_default_dtype("float32")
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, vars(types.ModuleType("__main__")))
        times.append(time.perf_counter() - start)
    return dict(zip(("first", "again"), times, strict=True))


def measure(library: str, path: Path, threads: int) -> dict[str, float] | None:
    """The seconds of one run; None if the program failed. The second run is not in the whole."""
    from common import environment  # brings NumPy: nothing that the child should start with

    command = [sys.executable, __file__, "--child", library, "--threads", str(threads), str(path)]
    with tempfile.TemporaryDirectory() as folder:  # programs write checkpoints where they stand
        start = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(OMP_NUM_THREADS=str(threads)),
            capture_output=True,
            text=True,
            check=False,
        )
        whole = time.perf_counter() - start
    if done.returncode:
        return None
    times: dict[str, float] = json.loads(done.stdout)
    return {"whole": whole - times["again"], **times}


def compare(path: Path, rounds: int, threads: int) -> dict[str, float] | None:
    """PyTorch's median times over ours, by column; prints the program's line."""
    found: dict[str, list[dict[str, float]]] = {library: [] for library in LIBRARIES}
    for turn in range(rounds + 1):
        for library in LIBRARIES:
            times = measure(library, path, threads)
            if times is None:
                print(f"| {path.stem} | failed under {library} | | |", flush=True)
                return None
            if turn:
                found[library].append(times)
    cells, ratios = [], {}
    for column in COLUMNS:
        ours, theirs = (
            statistics.median(times[column] for times in found[library]) for library in LIBRARIES
        )
        ratios[column] = theirs / ours
        cells.append(f"{1e3 * ours:.0f} / {1e3 * theirs:.0f} ms: {theirs / ours:.2f}")
    print(f"| {path.stem} | " + " | ".join(cells) + " |", flush=True)
    return ratios


def main() -> int:
    """Print the table; 1 if PyTorch is faster as a whole somewhere."""
    parser = argparse.ArgumentParser(description="Tutorial programs against PyTorch.")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", choices=LIBRARIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, Path(options.names[0]), options.threads)))
        return 0
    programs = sorted((FOLDER / "programs").glob("*.py"))
    chosen = [p for p in programs if not options.names or p.stem in options.names]
    print("| program | whole: ours / PyTorch: ratio | first | again |")
    print("|---|---|---|---|")
    compared = [compare(path, options.rounds, options.threads) for path in chosen]
    ratios = [each for each in compared if each is not None]
    for column in COLUMNS:
        each = [ratio[column] for ratio in ratios]
        mean = math.exp(sum(map(math.log, each)) / len(each))
        won = sum(ratio > 1 for ratio in each)
        print(f"{column}: geometric mean {mean:.2f}, ahead in {won} of {len(each)}")
    return int(any(ratio["whole"] < 1 for ratio in ratios))


if __name__ == "__main__":
    sys.exit(main())
