"""An average of the weights over the steps, which often does better than the last weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule.core.dtype import float64, int64
from chainrule.errors import OptionError, StateDictError
from chainrule.optim.transforms import cast
from chainrule.tensor.functions import where
from chainrule.tensor.variable import VariableTensor, variable


class ExponentialMovingAverage:
    """a <- decay a + (1 - decay) p after every step; the first time, a is p.

    Args:
        parameters: what is averaged: ``model.parameters()``.
        decay: how much of the average is kept, in 0 <= decay < 1.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor(1.0, requires_grad=True)
        >>> average = optim.ExponentialMovingAverage([w], decay=0.5)
        >>> for value in (1.0, 3.0):
        ...     _ = w.copy_(value)
        ...     average.update()
        >>> with average.applied():
        ...     w.item()
        2.0
        >>> w.item()
        3.0

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
    """

    def __init__(self, parameters: Iterable[VariableTensor], decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise OptionError(name="decay", expected="in 0 <= decay < 1", got=decay)
        self.parameters = list(parameters)
        self.averages = [variable(p.numpy(), name="average") for p in self.parameters]
        self.decay = variable(decay, float64, "decay")
        self.updates = variable(0, int64, "updates")

    def update(self) -> None:
        """Take in the weights as they are now: after ``optimizer.step()``, compiled or not."""
        kept = where(self.updates == 0, 0.0, self.decay)
        for average, p in zip(self.averages, self.parameters, strict=True):
            average.copy_(cast(kept, p) * average + cast(1 - kept, p) * p)
        self.updates.copy_(self.updates + 1)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters have their averages; afterwards, their own values again."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Exchange the parameters and their averages."""
        for average, p in zip(self.averages, self.parameters, strict=True):
            before = p.detach()
            p.copy_(average)
            average.copy_(before)

    def state_dict(self) -> dict[str, Any]:
        """The averages and how many steps they saw, ready to be saved."""
        return {
            "updates": self.updates.item(),
            "averages": [average.numpy() for average in self.averages],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; nothing changes unless everything fits."""
        arrays = [np.asarray(array) for array in state["averages"]]
        shapes, own = [a.shape for a in arrays], [average.shape for average in self.averages]
        if shapes != own:
            raise StateDictError(
                module=type(self).__name__,
                lines=f"    averages of shapes {shapes}, not {own}",
                mend="average the same parameters",
            )
        for average, array in zip(self.averages, arrays, strict=True):
            average.copy_(array)
        self.updates.copy_(state["updates"])
