"""Identical bits: every workload on 1, 2 and 3 threads, and tile by tile in random orders.

    python dev.py bench determinism [--steps N] [W1 W2 ...]

Each run starts from the same seed and trains for some steps at the workload's full batch. Then the
losses, the parameters, the buffers and the optimizer's state are compared, bit for bit. In the last
run every step but the first has a random order of its own among the tasks whose needs are done, and
each tile the memory of a random thread.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from workloads import WORKLOADS, Workload

import chainrule as cr
from chainrule import nn, optim
from chainrule.run.native.team import team

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "native"))

from shuffled import shuffled

Array = np.ndarray[Any, Any]


class Training:
    """A workload's compiled step, from the seed on."""

    def __init__(self, workload: Workload) -> None:
        cr.manual_seed(0)
        self.model = workload.model(nn)
        make = getattr(optim, workload.optimizer)
        self.optimizer = make(self.model.parameters(), **workload.options)
        self.losses: list[float] = []
        self._batch = workload.data()

        def step(inputs: cr.Tensor, classes: cr.Tensor) -> cr.Tensor:
            outputs = workload.scores(self.model(inputs))
            loss = getattr(nn.functional, workload.loss)(outputs, classes)
            loss.backward()
            self.optimizer.step()
            return loss

        self._step = cr.compile(step)

    def run(self) -> None:
        """One step."""
        self.losses.append(self._step(*self._batch).item())

    def plan(self) -> Any:
        """The plan of the step, which has run."""
        (entry,) = self._step._entries.values()
        return entry.plan

    def bits(self) -> bytes:
        """Everything that a step changes."""
        cells = {**self.model.state_dict(), **self.optimizer.variables()}
        arrays = [np.array(self.losses), *(cell.numpy() for cell in cells.values())]
        return b"".join(array.tobytes() for array in arrays)


def on_threads(workload: Workload, count: int, steps: int) -> bytes:
    """The bits after some steps on so many threads."""
    team.set_threads(count)
    training = Training(workload)
    for _ in range(steps):
        training.run()
    team.set_threads(1)
    return training.bits()


def in_random_orders(workload: Workload, steps: int) -> bytes:
    """The bits after some steps, each but the first in an order of its own."""
    training = Training(workload)
    training.run()
    for seed in range(1, steps):
        with shuffled(training.plan(), seed):
            training.run()
    return training.bits()


def main() -> int:
    """Print what was compared; 1 if a bit differs."""
    parser = argparse.ArgumentParser(description="Bits on any threads, in any order of tiles.")
    parser.add_argument("names", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--steps", type=int, default=21)
    options = parser.parse_args()
    cr.set_executor("native")
    differs = False
    for name in options.names:
        workload = WORKLOADS[name]
        expected = on_threads(workload, 1, options.steps)
        found = {f"{count} threads": on_threads(workload, count, options.steps) for count in (2, 3)}
        found["random orders"] = in_random_orders(workload, options.steps)
        for what, bits in found.items():
            same = bits == expected
            differs |= not same
            print(f"{name}, {what}: {'the same bits' if same else 'DIFFERENT BITS'}", flush=True)
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
