"""What a call costs apart from the numbers: microseconds of Python and of the native call.

    python dev.py bench latency [--rounds N]

Three calls with next to nothing to compute, from the outside: two arrays of 1 x 16 in, a tensor
out. PyTorch's eager addition of two tensors stands beside them. Medians of rounds of 1000 calls,
the candidates taking turns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
from common import medians

import chainrule as cr
from chainrule import nn, optim
from chainrule.run.native.team import team

CALLS = 1000
# A compiled addition of two small arrays, end to end.
WANTED = 10e-6


def candidates() -> dict[str, Callable[[], object]]:
    """The calls by name; the first is the one that has a bound."""
    import torch

    x, y = np.ones((1, 16), np.float32), np.ones((1, 16), np.float32)
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    given, other = cr.tensor(x), cr.tensor(y)
    add = cr.compile(lambda x, y: x + y)
    model = nn.Linear(16, 1)
    optimizer = optim.SGD(model.parameters(), lr=1e-3)

    @cr.compile
    def step(x: cr.Tensor) -> cr.Tensor:
        loss = model(x).mean()
        loss.backward()
        optimizer.step()
        return loss

    return {
        "compiled addition of arrays": lambda: add(x, y),
        "compiled addition of tensors": lambda: add(given, other),
        "compiled step of Linear(16, 1)": lambda: step(x),
        "torch eager addition": lambda: a + b,
    }


def main() -> int:
    """Print the table; 1 if the first is not under its bound."""
    parser = argparse.ArgumentParser(description="Latency of a compiled call.")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    cr.set_executor("native")
    team.set_threads(1)

    def many(call: Callable[[], object]) -> Callable[[], object]:
        def calls() -> None:
            for _ in range(CALLS):
                call()

        return calls

    found = medians(
        {name: many(call) for name, call in candidates().items()}, rounds=options.rounds, warmup=3
    )
    print("| call | us |")
    print("|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {1e6 * seconds / CALLS:.2f} |")
    return int(next(iter(found.values())) / CALLS > WANTED)


if __name__ == "__main__":
    sys.exit(main())
