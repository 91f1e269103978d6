"""Learning rates that a program moves by hand: ``scheduler.step()`` after every epoch.

A rate is a function of the number of ``step()`` calls, t, and of the optimizer's first rate, lr. (A
schedule given as ``lr`` to the optimizer, :mod:`chainrule.optim.schedules`, needs no calls.)
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from typing import Any

from chainrule.errors import OptionError
from chainrule.like_torch.missing import refuse
from chainrule.optim import Optimizer, ReduceOnPlateau, schedules
from chainrule.optim.schedules import Schedule
from chainrule.tensor.tensor import tensor

__path__: list[str] = []


class LRScheduler:
    """Base of the schedulers: the rate of each parameter group at epoch t is ``rate(lr, t)``."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise OptionError(
                name="optimizer", expected="an optimizer", got=type(optimizer).__name__
            )
        self.optimizer = optimizer
        # Kept with the group: a second scheduler starts from it too, not from the first one's rate.
        self.base_lrs = [
            group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups
        ]
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


_LRScheduler = LRScheduler  # its name before PyTorch 2.0


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


class ConstantLR(LRScheduler):
    """lr factor before epoch ``total_iters``, then lr."""

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int) -> float:
        """lr factor, then lr."""
        return lr * self.factor if t < self.total_iters else lr


class LinearLR(LRScheduler):
    """From lr start_factor to lr end_factor within ``total_iters`` epochs."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int) -> float:
        """See :func:`chainrule.optim.linear`."""
        return _at(t, schedules.linear(lr, self.total_iters, self.start_factor, self.end_factor))


class PolynomialLR(LRScheduler):
    """lr (1 - t / total_iters)^power, then 0."""

    def __init__(
        self,
        optimizer: Optimizer,
        total_iters: int = 5,
        power: float = 1.0,
        last_epoch: int = -1,
    ) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int) -> float:
        """See :func:`chainrule.optim.polynomial`."""
        return _at(t, schedules.polynomial(lr, self.total_iters, self.power))


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosines of T_0, T_0 T_mult, T_0 T_mult^2 ... epochs. Source: SGDR, ICLR 2017."""

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int) -> float:
        """See :func:`chainrule.optim.warm_restarts`."""
        return _at(t, schedules.warm_restarts(lr, self.T_0, self.T_mult, self.eta_min))


class OneCycleLR(LRScheduler):
    """Up to ``max_lr`` and down again, a step per batch; momentum goes down and up meanwhile."""

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise OptionError(
                    name="total_steps", expected="given, or epochs and steps_per_epoch", got=None
                )
            total_steps = epochs * steps_per_epoch
        if three_phase:
            raise OptionError(name="three_phase", expected="False", got=True)
        groups = len(optimizer.param_groups)
        self.max_lrs = [max_lr] * groups if isinstance(max_lr, int | float) else list(max_lr)
        self.total_steps, self.pct_start, self.anneal_strategy = (
            total_steps, pct_start, anneal_strategy,
        )  # fmt: skip
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        self.cycle_momentum = cycle_momentum
        self.base_momentum, self.max_momentum = base_momentum, max_momentum
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int) -> float:
        """See :func:`chainrule.optim.one_cycle`."""
        return self._cycle(t, self.max_lrs[self._number], self.div_factor, self.final_div_factor)

    def _cycle(self, t: int, top: float, start_divisor: float, end_divisor: float) -> float:
        return _at(
            t,
            schedules.one_cycle(
                top, self.total_steps, self.pct_start, start_divisor, end_divisor,
                self.anneal_strategy,
            ),
        )  # fmt: skip

    def step(self) -> None:
        """Go to the next step; after the last one the rate stays (PyTorch's goes up a little)."""
        if self.last_epoch + 1 > self.total_steps:
            raise OptionError(
                name="the step", expected=f"at most total_steps={self.total_steps}",
                got=self.last_epoch + 1, mend="total_steps = epochs * len(loader)",
            )  # fmt: skip
        super().step()
        if not self.cycle_momentum:
            return
        highest, lowest = self.max_momentum, self.base_momentum
        momentum = self._cycle(self.last_epoch, lowest, lowest / highest, 1.0)
        for group in self.optimizer.param_groups:
            if "betas" in group or "beta1" in group:
                group["beta1"] = momentum
            elif "momentum" in group:
                group["momentum"] = momentum


class SequentialLR(LRScheduler):
    """One scheduler after the other; each counts from its own milestone."""

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        if len(milestones) != len(schedulers) - 1:
            raise OptionError(
                name="milestones", expected=f"{len(schedulers) - 1}, one less than schedulers",
                got=len(milestones),
            )  # fmt: skip
        self.schedulers, self.milestones = tuple(schedulers), list(milestones)
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int) -> float:
        """The rate of the scheduler whose turn it is."""
        turn = bisect.bisect_right(self.milestones, t)
        chosen = self.schedulers[turn]
        chosen._number = self._number
        return chosen.rate(lr, t - ([0, *self.milestones])[turn])


class ReduceLROnPlateau(ReduceOnPlateau):
    """See :class:`chainrule.optim.ReduceOnPlateau`."""


def _at(t: int, schedule: Schedule) -> float:
    """A schedule's rate at an epoch."""
    return float(schedule(tensor(t, dtype="float64")))


__getattr__ = refuse(__name__)
