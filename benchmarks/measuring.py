"""Rows of measurements: every candidate on one workload, all taking turns."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from candidates import OURS, PEAK, PRODUCTS, inference, training
from turns import CandidateError, Process, take_turns
from workloads import SIZES, WORKLOADS, Workload, named, sized, start_of


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        seconds: for the rounds of one workload; after that no further round begins.
        least, most: rounds, whatever the time.
        threads: with how many each candidate is tried.
        compiled: whether ``torch.compile`` takes part.
    """

    seconds: float = 30.0
    least: int = 9
    most: int = 40
    threads: tuple[int, ...] = (1, 2)
    compiled: bool = False


QUICK = Settings(seconds=0.0, least=3, most=3)


@dataclass(frozen=True)
class Row:
    """One candidate on one workload.

    Attributes:
        kind: training, inference, products or scaling.
        seconds: of a step, round by round; a round of one candidate pairs with that of another.
        busy: seconds of processor time per second.
        flops: products and sums of the matrix products of a step.
        peaks: the most that one core computes, per second, round by round.
        memory: the most bytes that the process had; of training alone.
    """

    kind: str
    workload: str
    batch: int
    threads: int
    candidate: str
    seconds: list[float]
    busy: float
    flops: float
    peaks: list[float]
    memory: float | None = None


def training_rows(name: str, settings: Settings) -> tuple[list[Row], list[str]]:
    """A workload's step, everyone with every number of threads, and who could not take part."""
    workload = WORKLOADS[name]
    names = training(workload, settings.compiled)
    return _rows("training", workload, ["training"], names, settings)


def inference_rows(
    name: str, settings: Settings, batches: Sequence[int] = (1, 64)
) -> tuple[list[Row], list[str]]:
    """A workload's network in inference at each batch."""
    workload = WORKLOADS[name]
    names = inference(workload, settings.compiled)
    return _rows("inference", workload, [*map(str, batches)], names, settings)


def products_rows(name: str, settings: Settings) -> tuple[list[Row], list[str]]:
    """The products of a workload's step alone, by the libraries under PyTorch, on one thread."""
    alone = replace(settings, threads=(1,), seconds=settings.seconds / 4)
    return _rows("products", WORKLOADS[name], ["training"], [PRODUCTS], alone)


def scaling_rows(
    kind: str, names: Sequence[str], settings: Settings
) -> tuple[list[Row], list[str]]:
    """A step at each size of one kind; how it goes with threads is seen in the same rows."""
    rows: list[Row] = []
    notes: list[str] = []
    for size in SIZES[kind]:
        more = _rows("scaling", sized(kind, size), ["training"], names, settings)
        rows += more[0]
        notes += more[1]
    return rows, notes


def sized_rows(name: str, names: Sequence[str], settings: Settings) -> tuple[list[Row], list[str]]:
    """A step of one size, for example ``batch:16``."""
    return _rows("scaling", named(name), ["training"], names, settings)


def _rows(
    kind: str, workload: Workload, keys: list[str], names: Sequence[str], settings: Settings
) -> tuple[list[Row], list[str]]:
    """All candidates on one workload. A key is a batch of inference, or says "training"."""
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.npz"
        np.savez(start, **start_of(workload))
        process = partial(
            Process, workload=workload.name, keys=keys, start=str(start),
            kind="training" if kind == "scaling" else kind,
        )  # fmt: skip
        wanted = [(name, threads) for threads in settings.threads for name in names]
        everyone = {each: process(each[0], threads=each[1]) for each in [(PEAK, 1), *wanted]}
        notes = _wait(everyone, workload)
    rows = []
    for key in keys:
        turns = {each: partial(one.turn, key) for each, one in everyone.items()}
        share = settings.seconds / len(keys)
        found, failed = take_turns(turns, share, settings.least, settings.most)
        for each, reason in failed.items():
            notes.append(_note(workload, each, reason))
            everyone.pop(each).end()
        peaks = [everyone[PEAK, 1].flops / seconds for seconds, _ in found[PEAK, 1]]
        batch, flops = _size(workload, key)
        rows += [
            Row(
                kind, workload.name, batch, threads, name, [seconds for seconds, _ in turns],
                float(np.mean([busy for _, busy in turns])),
                everyone[name, threads].flops or flops, peaks,
            )
            for (name, threads), turns in found.items() if name != PEAK
        ]  # fmt: skip
    memory = {each: one.close() for each, one in everyone.items()}
    if kind == "training":
        rows = [Row(**{**vars(row), "memory": memory[row.candidate, row.threads]}) for row in rows]
    return rows, notes


def _size(workload: Workload, key: str) -> tuple[int, float]:
    """Batch and operations of what is measured under a key."""
    own = len(workload.data()[0])
    if key == "training":
        return own, workload.flops
    return int(key), workload.forward_flops / own * int(key)


def _wait(everyone: dict[tuple[str, int], Process], workload: Workload) -> list[str]:
    """Wait for all first steps; who fails or computes something else is left out, and named."""
    notes = []
    for each, process in [*everyone.items()]:
        try:
            process.ready()
        except CandidateError as error:
            notes.append(_note(workload, each, str(error)))
            del everyone[each]
    ours = next((p.first for (name, _), p in everyone.items() if name == OURS), {})
    for each, process in [*everyone.items()]:
        if each[0] != PEAK and ours and not _same(process.first, ours, workload):
            notes.append(_note(workload, each, f"{process.first}, where ours has {ours}"))
            process.end()
            del everyone[each]
    return notes


def _note(workload: Workload, candidate: tuple[str, int], reason: str) -> str:
    name, threads = candidate
    return f"{workload.name}, {name}, {threads} thread{'s' if threads > 1 else ''}: {reason}"


def _same(theirs: dict[str, list[float]], ours: dict[str, list[float]], workload: Workload) -> bool:
    """Whether first results agree. Where dropout is drawn, losses of training need not."""
    for key, numbers in ours.items():
        if key == "training" and workload.is_random:
            continue
        if not np.allclose(theirs[key], numbers, rtol=1e-3, atol=1e-3 * abs(numbers[-1])):
            return False
    return True
