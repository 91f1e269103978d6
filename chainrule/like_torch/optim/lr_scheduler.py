"""Learning rates that a program moves by hand: ``scheduler.step()`` after every epoch.

A rate is a function of the number of ``step()`` calls, t, and of the optimizer's first rate, lr. (A
schedule given as ``lr`` to the optimizer, :mod:`chainrule.optim.schedules`, needs no calls.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from chainrule.errors import OptionError
from chainrule.like_torch.missing import refuse
from chainrule.optim import Optimizer

__path__: list[str] = []


class LRScheduler:
    """Base of the schedulers: the rate of each parameter group at epoch t is ``rate(lr, t)``."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise OptionError(
                name="optimizer", expected="an optimizer", got=type(optimizer).__name__
            )
        self.optimizer = optimizer
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def rate(self, lr: float, t: int) -> float:
        """The learning rate at epoch t."""
        raise NotImplementedError(f"{type(self).__name__} has no rate()")

    def step(self) -> None:
        """Go to the next epoch."""
        self.last_epoch += 1
        groups = zip(self.optimizer.param_groups, self.base_lrs, strict=True)
        self._last_lr = []
        for number, (group, lr) in enumerate(groups):
            self._number = number
            group["lr"] = self.rate(lr, self.last_epoch)
            self._last_lr.append(group["lr"])

    def get_last_lr(self) -> list[float]:
        """The rate of each parameter group now."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """The position, ready to be saved."""
        return {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, int | float | str | list)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position."""
        vars(self).update(state)


class StepLR(LRScheduler):
    """lr gamma^(t // step_size)."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int) -> float:
        """lr gamma^(t // step_size)."""
        return lr * self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """lr gamma^(number of milestones passed)."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self.milestones, self.gamma = list(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int) -> float:
        """lr gamma^(number of milestones passed)."""
        return lr * self.gamma ** sum(milestone <= t for milestone in self.milestones)


class ExponentialLR(LRScheduler):
    """lr gamma^t."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int) -> float:
        """lr gamma^t."""
        return lr * self.gamma**t


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr - eta_min) (1 + cos(pi t / T_max)) / 2. Source: SGDR, ICLR 2017."""

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int) -> float:
        """eta_min + (lr - eta_min) (1 + cos(pi t / T_max)) / 2."""
        return self.eta_min + (lr - self.eta_min) * (1 + math.cos(math.pi * t / self.T_max)) / 2


class LambdaLR(LRScheduler):
    """lr times a function of t; one function, or one for each parameter group."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = tuple([lr_lambda] * groups if callable(lr_lambda) else lr_lambda)
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int) -> float:
        """lr f(t)."""
        return lr * self.lr_lambdas[self._number](t)


class ReduceLROnPlateau:
    """The rate times ``factor`` when a metric did not improve for more than ``patience`` epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        min_lr: float = 0.0,
    ) -> None:
        if mode not in ("min", "max"):
            raise OptionError(name="mode", expected='"min" or "max"', got=repr(mode))
        self.optimizer = optimizer
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.min_lr = threshold, min_lr
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0

    def step(self, metrics: Any) -> None:
        """Look at the metric of an epoch."""
        value = float(metrics)
        if self.mode == "min":
            better = value < self.best * (1 - self.threshold)
        else:
            better = value > self.best * (1 + self.threshold)
        if better:
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.num_bad_epochs > self.patience:
            for group in self.optimizer.param_groups:
                group["lr"] = max(group["lr"] * self.factor, self.min_lr)
            self.num_bad_epochs = 0

    def get_last_lr(self) -> list[float]:
        """The rate of each parameter group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    state_dict = LRScheduler.state_dict
    load_state_dict = LRScheduler.load_state_dict


__getattr__ = refuse(__name__)
