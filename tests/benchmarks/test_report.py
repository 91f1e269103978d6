"""The report of the benchmarks is made from numbers alone: small ones here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import candidates
import figures
import pytest
import report
from common import geometric_mean, interval
from figures import Results, Roof, ratio
from measuring import Row
from startup import Start
from turns import CandidateError, Process, take_turns
from workloads import WORKLOADS, sized

ROOT = Path(__file__).resolve().parents[2]
OURS, TORCH, JAX, ONNX = candidates.OURS, candidates.EAGER, candidates.JAX, candidates.ONNX
PEAKS = [100e9, 90e9, 125e9]


def row(candidate: str, seconds: float, kind: str = "training", **changes: object) -> Row:
    facts = {
        "kind": kind, "workload": "W4", "batch": 64, "threads": 1, "candidate": candidate,
        "seconds": [seconds, 1.1 * seconds, seconds], "busy": 1.0, "flops": 15.6e9,
        "peaks": PEAKS, "memory": 100e6 if candidate == OURS else 200e6,
    }  # fmt: skip
    return Row(**{**facts, **changes})


@pytest.fixture
def results() -> Results:
    return Results(
        machine={"processor": "a small one"},
        rows=[
            row(OURS, 0.2), row(TORCH, 0.3), row(JAX, 0.1),
            row(OURS, 0.125, threads=2), row(TORCH, 0.15, threads=2),
            row(OURS, 0.01, "inference", batch=1), row(ONNX, 0.02, "inference", batch=1),
            row(OURS, 0.01, "scaling", workload="batch:16", batch=16),
            row(TORCH, 0.05, "scaling", workload="batch:16", batch=16),
            row(OURS, 0.02, "scaling", workload="batch:64"),
        ],
        starts=[Start(OURS, "W1", "warm", [0.2, 0.25]), Start(TORCH, "W1", "", [2.0])],
        new_batch=[0.01], planning=[0.006], small_call=[8e-6],
        imports={"python alone": 0.01, "numpy": 0.1, "chainrule": 0.15},
        installed={"chainrule": 280 * 2**20, "torch": 800 * 2**20},
        notes=["W3, jax: it is not installed"],
    )  # fmt: skip


def test_where_we_are_behind_stays_and_stands_out(results: Results) -> None:
    page = report.page(results)
    (line,) = [line for line in page.splitlines() if "jax (fastest peer)" in line]
    assert "| W4 | 64 | jax (fastest peer) | 100 (100-110) | 156 | 156% | 100% |" in line
    assert "| 0.50 (0.50-0.50) | **behind** | 191 |" in line
    assert (
        "| W4 | 64 | torch | 300 (300-330) | 52 | 52% | 100% | 1.50 (1.50-1.50) | ahead |" in page
    )
    assert "- W3, jax: it is not installed" in page
    assert "<training>" not in page


def test_goals_say_what_falls_short(results: Results) -> None:
    found = {goal.about: goal for goal in figures.goals(results)}
    assert not found["training W4, 1 thread, against jax"].met
    assert found["training W4, 1 thread, share of the FMA peak"].found == (
        "0.78 (0.62-0.79), 0.62 of the best round's"
    )
    assert found["our 2 threads against our 1, W2-W7, geometric mean of 1"].found == "1.60"
    assert not found["our 2 threads against our 1, W2-W7, geometric mean of 1"].met
    assert found["training W4, 2 threads, against torch"].met
    assert found["inference, batch 1, 1 thread, onnxruntime, geometric mean of 1"].found == "2.00"
    assert found["peak memory of training W4 against torch"].found == "0.50"
    assert found["W1 at batch 16 against torch"].met
    assert not found["planning W1 for a new batch"].met
    met = sum(goal.met for goal in found.values())
    assert f"{met} of {len(found)} are met" in report.page(results)


def test_a_run_with_nothing_in_it_is_a_page_too() -> None:
    page = report.page(Results(machine={}))
    assert page.startswith("# Benchmarks")
    assert "## How it was measured" in page


def test_busy_machines_are_told(results: Results) -> None:
    assert "Other programs were busy" not in report.page(results)
    results.rows = [row(OURS, 0.1, busy=0.6), row(TORCH, 0.1, busy=0.6)]
    assert "Other programs were busy: candidates got 60% of a core" in report.page(results)


def test_numbers_go_into_the_folder_and_come_back(results: Results, tmp_path: Path) -> None:
    results.profiles = {"W4": "step: 1 ms"}
    kernels = [("forward", 1e-3, 50e6, 1e6), ("update", 1e-4, 0.0, 1e6)]
    results.rows.append(row(candidates.PRODUCTS, 0.15, "products", flops=10e9))
    results.roofs = {"W4": Roof(100e9, 5e9, 0.5, 0.875, kernels)}
    report.save(results, tmp_path)
    assert report.load(tmp_path) == results
    assert "## W4: ResNet-20, SGD\n\n```\nstep: 1 ms\n```" in (tmp_path / "profiles.md").read_text()
    assert json.loads((tmp_path / "results.json").read_text("utf-8"))["rows"][0]["peaks"] == PEAKS
    page = (tmp_path / "README.md").read_text("utf-8")
    assert "| W4 | 200 | 78% | 150 | 67% | 50% | 88% |" in page
    for name in ("roofline", "training", "inference", "start", "scaling"):
        assert f"![{name}]({name}.png)" in page
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def timed(candidate: str, *seconds: float) -> Row:
    return replace(row(candidate, 0), seconds=[*seconds])


def test_ratios_are_paired() -> None:
    """The machine was half as fast in the second round, for both."""
    found = ratio(timed(TORCH, 2.0, 4.0), timed(OURS, 1.0, 2.0))
    assert (found.median, found.low, found.high, found.verdict) == (2.0, 2.0, 2.0, "ahead")
    even = ratio(timed(TORCH, 0.5, 2.0), timed(OURS, 1.0, 1.0))
    assert even.verdict == "even"
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    low, high = interval(figures.np.arange(1.0, 100.0))
    assert 40 < low < 50 < high < 60


def test_operations_of_the_forward_pass() -> None:
    """A third of a step's and of what its first layer leaves out, or counted by hand."""
    assert WORKLOADS["W1"].forward_flops == 2 * 64 * (784 * 128 + 128 * 10)
    convolutions = 9 * 32 * 26**2 + 9 * 32 * 64 * 24**2
    by_hand = 2 * 64 * (convolutions + 9216 * 128 + 1280)
    assert WORKLOADS["W3"].forward_flops == pytest.approx(by_hand, rel=0.01)
    assert sized("depth", 8).forward_flops == 8 * 2 * 64 * 128 * 128
    assert sized("sequence", 64).flops < WORKLOADS["W6"].flops / 32


def test_who_breaks_down_is_left_out() -> None:
    """A round is only counted for those that are there until the end."""
    left = iter([(1.0, 1.0)])

    def breaks() -> tuple[float, float]:
        for turn in left:
            return turn
        raise CandidateError("its process ended")

    found, failed = take_turns({"a": lambda: (2.0, 1.0), "b": breaks}, 60.0, least=3, most=3)
    assert found == {"a": [(2.0, 1.0)] * 3}
    assert failed == {"b": "its process ended"}


def test_a_process_that_cannot_begin_says_why() -> None:
    process = Process("no such library", "W1")
    with pytest.raises(CandidateError, match="KeyError"):
        process.ready()


def test_the_list_has_programs_only() -> None:
    listed = subprocess.run(
        [sys.executable, "dev.py", "bench", "--list"], cwd=ROOT, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    names = [line.split()[0] for line in listed.splitlines()]
    assert {"full", "training", "report", "startup"} <= {*names}
    assert not {"workloads", "common", "worker"} & {*names}
    refused = subprocess.run(
        [sys.executable, "dev.py", "bench", "workloads"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "there is no benchmark 'workloads'" in refused.stdout
