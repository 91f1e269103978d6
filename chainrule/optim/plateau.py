"""A learning rate that falls when a metric stops improving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from chainrule.errors import OptionError
from chainrule.optim.optimizer import Optimizer

_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


class ReduceOnPlateau:
    """The rate times ``factor`` when a metric did not improve for more than ``patience`` epochs.

    It depends on what was measured, so it is no function of the step: call :meth:`step` with the
    metric after every epoch, outside a compiled step.

    Args:
        optimizer: whose rates fall.
        mode: "min" for a metric that should fall, "max" for one that should rise.
        factor: what the rate is multiplied by.
        patience: how many epochs without improvement are let pass.
        threshold: the least change that counts as improvement.
        threshold_mode: "rel": as a share of the best value; "abs": in the metric's own unit.
        cooldown: how many epochs after a fall are not judged.
        min_lr: no rate falls lower.
        eps: a fall by less is left out.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> optimizer = optim.SGD([cr.tensor(1.0, requires_grad=True)], lr=1.0)
        >>> plateau = optim.ReduceOnPlateau(optimizer, factor=0.5, patience=1)
        >>> for loss in (3.0, 2.0, 2.0, 2.0):
        ...     plateau.step(loss)
        >>> optimizer.lr
        0.5
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise OptionError(
                name="optimizer", expected="an optimizer", got=type(optimizer).__name__
            )
        for name, value, words in (
            ("mode", mode, ("min", "max")),
            ("threshold_mode", threshold_mode, ("rel", "abs")),
        ):
            if value not in words:
                raise OptionError(
                    name=name, expected=" or ".join(map(repr, words)), got=repr(value)
                )
        if not 0 < factor < 1:
            raise OptionError(name="factor", expected="between 0 and 1", got=factor)
        self.optimizer = optimizer
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.min_lr, self.eps = cooldown, min_lr, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def step(self, metrics: Any) -> None:
        """Look at the metric of an epoch."""
        value = float(metrics)
        self.last_epoch += 1
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _better(self, value: float) -> bool:
        sense = 1 if self.mode == "max" else -1
        if self.threshold_mode == "abs":
            return sense * (value - self.best) > self.threshold
        return sense * (value - self.best * (1 + sense * self.threshold)) > 0

    def _reduce(self) -> None:
        for group in self.optimizer.param_groups:
            lower = max(group["lr"] * self.factor, self.min_lr)
            if group["lr"] - lower > self.eps:
                group["lr"] = lower

    def get_last_lr(self) -> list[float]:
        """The rate of each parameter group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far, ready to be saved."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        for name in _STATE:
            setattr(self, name, state[name])
