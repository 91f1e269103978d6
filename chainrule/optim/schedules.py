"""Learning rates as functions of the step, computed inside the graph.

A schedule is given as ``lr``: ``optim.Adam(parameters, lr=optim.cosine(1e-3, steps=1000))``.
``t`` counts finished steps from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from chainrule.errors import OptionError
from chainrule.tensor.functions import cos, minimum
from chainrule.tensor.tensor import Tensor

Schedule = Callable[[Tensor], Tensor]


def constant(lr: float) -> Schedule:
    """lr at every step."""
    return lambda t: t * 0 + lr


def step_decay(lr: float, every: int, gamma: float = 0.1) -> Schedule:
    """lr gamma^(t // every): lowered by a factor after every so many steps.

    Example:
        >>> import chainrule as cr
        >>> schedule = step_decay(1.0, every=10, gamma=0.5)
        >>> [schedule(cr.tensor(t, "float64")).item() for t in (9, 10, 25)]
        [1.0, 0.5, 0.25]
    """
    _positive("every", every)
    return lambda t: lr * gamma ** (t / every).floor()


def cosine(lr: float, steps: int, lr_min: float = 0.0) -> Schedule:
    """lr_min + (lr - lr_min) (1 + cos(pi t / steps)) / 2, then lr_min.

    Example:
        >>> import chainrule as cr
        >>> schedule = cosine(1.0, steps=10)
        >>> [round(schedule(cr.tensor(t, "float64")).item(), 3) for t in (0, 5, 10, 15)]
        [1.0, 0.5, 0.0, 0.0]

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017.
    """
    _positive("steps", steps)

    def schedule(t: Tensor) -> Tensor:
        progress = minimum(t / steps, 1.0)
        return lr_min + (lr - lr_min) * (1 + cos(math.pi * progress)) / 2

    return schedule


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise OptionError(name=name, expected="at least 1 step", got=value, mend="")
