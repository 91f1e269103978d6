"""How exact are the gradients? The first step of each workload against float64.

    python dev.py bench gradients [--steps N] [W1 W2 ...]

Both libraries start from the same weights in float32, without dropout. The reference is PyTorch in
float64, once on the sides of ReLU and max pooling that we took, once on those that PyTorch took in
float32; at how many entries float64 would have chosen otherwise is counted. An error is the
Euclidean norm of all differences over that of the gradient. Then all three are trained for some
steps, each on its own sides, and the losses compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from kinks import Face, Imposer, Recorder, Switch
from workloads import WORKLOADS, Workload

Array = np.ndarray[Any, Any]

# Our error may be so many times PyTorch's; losses may differ by so much.
MOST, LOSSES = 2.0, 1e-3


def start(workload: Workload) -> dict[str, Array]:
    """The weights that everyone starts from, by name."""
    import chainrule as cr
    from chainrule import nn

    cr.manual_seed(0)
    model = workload.model(Face(nn, Recorder(nn)))
    return {name: x.numpy() for name, x in model.state_dict().items()}


def ours(workload: Workload) -> tuple[list[Array], list[Array]]:
    """Gradients and sides on the native engine, as one compiled function."""
    import chainrule as cr
    from chainrule import nn

    cr.set_executor("native")
    cr.manual_seed(0)
    recorder = Recorder(nn)
    model = workload.model(Face(nn, recorder))

    def gradients(inputs: cr.Tensor, classes: cr.Tensor) -> Any:
        outputs = workload.scores(model(inputs))
        getattr(nn.functional, workload.loss)(outputs, classes).backward()
        grads = [parameter.grad for parameter in model.parameters()]
        model.zero_grad()
        return grads, list(recorder.sides)

    grads, sides = cr.compile(gradients)(*workload.data())
    return [g.numpy() for g in grads], [side.numpy() for side in sides]


def theirs(workload: Workload, weights: dict[str, Array], dtype: Any, kinks: Any) -> list[Array]:
    """Gradients in PyTorch."""
    import torch

    model, inputs, classes = _torch_model(workload, weights, dtype, kinks)
    outputs = workload.scores(model(inputs))
    getattr(torch.nn.functional, workload.loss)(outputs, classes).backward()
    return [parameter.grad.numpy() for parameter in model.parameters()]


def _torch_model(
    workload: Workload, weights: dict[str, Array], dtype: Any, kinks: Any
) -> tuple[Any, Any, Any]:
    """The model and its batch in PyTorch."""
    import torch

    model = workload.model(Face(torch.nn, kinks))
    model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    batch = [torch.from_numpy(array) for array in workload.data()]
    batch = [x.to(dtype) if x.is_floating_point() else x for x in batch]
    return model.to(dtype), *batch


def error(found: Sequence[Array], exact: Sequence[Array]) -> float:
    """The norm of all differences over the norm of what is exact."""
    differences = sum(float(np.sum((a - b) ** 2)) for a, b in zip(found, exact, strict=True))
    return float(np.sqrt(differences / sum(float(np.sum(b**2)) for b in exact)))


@dataclass
class Accuracy:
    """What one workload showed.

    Attributes:
        ours, theirs: errors of the first gradients.
        our_flips, their_flips: entries on the other side than in float64.
        entries: of all ReLU and max pooling.
    """

    ours: float
    theirs: float
    our_flips: int
    their_flips: int
    entries: int

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


def first_step(workload: Workload) -> Accuracy:
    """The errors of the gradients of the first step."""
    import torch

    weights = start(workload)
    found, sides = ours(workload)
    told = Imposer([torch.from_numpy(side) for side in sides])
    exact = theirs(workload, weights, torch.float64, told)
    recorder = Recorder(torch.nn)
    peer = theirs(workload, weights, torch.float32, recorder)
    also_told = Imposer(recorder.sides)
    also_exact = theirs(workload, weights, torch.float64, also_told)
    return Accuracy(
        error(found, exact), error(peer, also_exact), told.flips, also_told.flips, told.entries
    )


# ------------------------------------------------------------------------------ some steps


def our_losses(workload: Workload, steps: int) -> tuple[Array, list[list[Array]]]:
    """The losses of some steps on the native engine, and the sides of each."""
    import chainrule as cr
    from chainrule import nn, optim

    cr.set_executor("native")
    cr.manual_seed(0)
    recorder = Recorder(nn)
    model = workload.model(Face(nn, recorder))
    optimizer = getattr(optim, workload.optimizer)(model.parameters(), **workload.options)

    def step(inputs: cr.Tensor, classes: cr.Tensor) -> tuple[cr.Tensor, list[cr.Tensor]]:
        outputs = workload.scores(model(inputs))
        loss = getattr(nn.functional, workload.loss)(outputs, classes)
        loss.backward()
        optimizer.step()
        return loss, list(recorder.sides)

    compiled, batch = cr.compile(step), workload.data()
    losses, sides = zip(*(compiled(*batch) for _ in range(steps)), strict=True)
    return (
        np.array([loss.item() for loss in losses]),
        [[side.numpy() for side in each] for each in sides],
    )


def their_losses(
    workload: Workload, weights: dict[str, Array], dtype: Any, steps: int,
    told: Sequence[Sequence[Any]] | None = None,
) -> tuple[Array, list[list[Any]]]:  # fmt: skip
    """The losses of some steps in PyTorch, on its own sides or those that it is told."""
    import torch

    kinks = Switch(Recorder(torch.nn))
    model, inputs, classes = _torch_model(workload, weights, dtype, kinks)
    make = getattr(torch.optim, workload.optimizer)
    optimizer = make(model.parameters(), **workload.options)
    losses, sides = [], []
    for step in range(steps):
        kinks.now = Recorder(torch.nn) if told is None else Imposer(told[step])
        optimizer.zero_grad()
        outputs = workload.scores(model(inputs))
        loss = getattr(torch.nn.functional, workload.loss)(outputs, classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        sides.append(kinks.now.sides)
    return np.array(losses), sides


def compare_losses(workload: Workload, steps: int) -> list[float]:
    """Largest differences of a loss: from PyTorch; ours and PyTorch's from float64, free and told.

    Free, float64 takes its own sides; told, it takes those of the run that it is compared with.
    """
    import torch

    weights = start(workload)
    mine, our_sides = our_losses(workload, steps)
    told = [[torch.from_numpy(side) for side in each] for each in our_sides]
    peer, their_sides = their_losses(workload, weights, torch.float32, steps)
    exact, on_ours, on_theirs = (
        their_losses(workload, weights, torch.float64, steps, sides)[0]
        for sides in (None, told, their_sides)
    )
    pairs = (mine - peer, mine - exact, peer - exact, mine - on_ours, peer - on_theirs)
    return [float(np.abs(pair).max()) for pair in pairs]


def main() -> int:
    """Print the tables; 1 if a gradient is less exact than allowed."""
    parser = argparse.ArgumentParser(description="Gradients and losses against float64.")
    parser.add_argument("names", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    print("| | error | PyTorch's | ratio | flips | PyTorch's | of entries |")
    print("|---|---|---|---|---|---|---|")
    worse = False
    for name in options.names:
        accuracy = first_step(WORKLOADS[name])
        worse |= accuracy.ratio > MOST
        print(
            f"| {name} | {accuracy.ours:.2e} | {accuracy.theirs:.2e} | {accuracy.ratio:.2f} | "
            f"{accuracy.our_flips} | {accuracy.their_flips} | {accuracy.entries} |", flush=True,
        )  # fmt: skip
    print(f"\nLargest difference of a loss over {options.steps} steps:\n")
    print("| | from PyTorch | from float64 | PyTorch | from float64 on our sides | PyTorch |")
    print("|---|---|---|---|---|---|")
    for name in options.names:
        found = compare_losses(WORKLOADS[name], options.steps)
        worse |= min(found[0], found[3]) > LOSSES
        print(f"| {name} | {' | '.join(f'{each:.1e}' for each in found)} |", flush=True)
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
