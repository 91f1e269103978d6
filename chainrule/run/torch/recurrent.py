"""How PyTorch runs a scan: a loop over its prepared step."""

from __future__ import annotations

import torch
from torch import Tensor

from chainrule.core.ops.scan import steps
from chainrule.core.subgraph import Step
from chainrule.run.torch.table import row


@row("scan")
def _scan(
    *tensors: Tensor,
    body: Step,
    carries: int,
    scanned: int,
    length: int,
    reverse: bool,
    truncate: int | None,
) -> tuple[Tensor, ...]:
    carry = list(tensors[:carries])
    xs, constants = tensors[carries : carries + scanned], tensors[carries + scanned :]
    written = []
    for t in steps(length, reverse):
        made = body([*carry, *[x[t] for x in xs], *constants])
        carry = made[:carries]
        written.append(made[carries:])
    if reverse:
        written.reverse()
    return (*carry, *[torch.stack(slices) for slices in zip(*written, strict=True)])
