"""Learning rates as functions of the step, computed inside the graph.

A schedule is given as ``lr``: ``optim.Adam(parameters, lr=optim.cosine(1e-3, steps=1000))``.
``t`` counts finished steps from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from chainrule.errors import OptionError
from chainrule.tensor.functions import cos, log, maximum, minimum, where
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


def linear(lr: float, steps: int, start: float = 1 / 3, end: float = 1.0) -> Schedule:
    """lr (start + (end - start) t / steps), then lr end.

    Example:
        >>> import chainrule as cr
        >>> schedule = linear(1.0, steps=4, start=0.0)
        >>> [schedule(cr.tensor(t, "float64")).item() for t in (0, 1, 4, 9)]
        [0.0, 0.25, 1.0, 1.0]
    """
    _positive("steps", steps)
    return lambda t: lr * (start + (end - start) * minimum(t / steps, 1.0))


def exponential(lr: float, gamma: float) -> Schedule:
    """lr gamma^t."""
    return lambda t: lr * gamma**t


def polynomial(lr: float, steps: int, power: float = 1.0, lr_min: float = 0.0) -> Schedule:
    """lr_min + (lr - lr_min) (1 - t / steps)^power, then lr_min.

    Example:
        >>> import chainrule as cr
        >>> schedule = polynomial(1.0, steps=10, power=2.0)
        >>> [round(schedule(cr.tensor(t, "float64")).item(), 3) for t in (0, 5, 10, 15)]
        [1.0, 0.25, 0.0, 0.0]
    """
    _positive("steps", steps)
    return lambda t: lr_min + (lr - lr_min) * (1 - minimum(t / steps, 1.0)) ** power


def multi_step(lr: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """lr gamma^(how many of the milestones are reached).

    Example:
        >>> import chainrule as cr
        >>> schedule = multi_step(1.0, [3, 5], gamma=0.5)
        >>> [schedule(cr.tensor(t, "float64")).item() for t in (2, 3, 4, 5)]
        [1.0, 0.5, 0.5, 0.25]
    """

    def schedule(t: Tensor) -> Tensor:
        rate = t * 0 + lr
        for milestone in milestones:
            rate = where(t < milestone, rate, rate * gamma)
        return rate

    return schedule


def warm_restarts(lr: float, first: int, factor: int = 1, lr_min: float = 0.0) -> Schedule:
    """A cosine that starts again: its first turn lasts ``first`` steps, each next ``factor`` more.

    lr_min + (lr - lr_min) (1 + cos(pi s / n)) / 2 at step s of a turn of n steps.

    Example:
        >>> import chainrule as cr
        >>> schedule = warm_restarts(1.0, first=2, factor=2)
        >>> [round(schedule(cr.tensor(t, "float64")).item(), 3) for t in (0, 1, 2, 4, 6)]
        [1.0, 0.5, 1.0, 0.5, 1.0]

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """
    _positive("first", first)
    _positive("factor", factor)

    def schedule(t: Tensor) -> Tensor:
        if factor == 1:
            begin, length = (t / first).floor() * first, t * 0 + first
        else:
            # Turn k begins at first (factor^k - 1) / (factor - 1). The half step keeps rounding
            # of the logarithm away from the whole numbers.
            grown = (t + 0.5) * (factor - 1) / first + 1
            length = first * factor ** (log(grown) / math.log(factor)).floor()
            begin = (length - first) / (factor - 1)
        return lr_min + (lr - lr_min) * (1 + cos(math.pi * (t - begin) / length)) / 2

    return schedule


def one_cycle(
    lr_max: float,
    steps: int,
    rising: float = 0.3,
    start_divisor: float = 25.0,
    end_divisor: float = 1e4,
    shape: str = "cos",
) -> Schedule:
    """Up from lr_max / start_divisor to lr_max, then down to the start / end_divisor.

    Args:
        lr_max: the top, reached after ``rising * steps - 1`` steps.
        steps: how many steps the cycle has.
        rising: the share of them that goes up.
        start_divisor: how much lower it starts.
        end_divisor: how much lower than the start it ends.
        shape: "cos" or "linear" between start, top and end.

    Source: Smith and Topin, "Super-convergence", 2018.
    """
    _positive("steps", steps)
    if shape not in ("cos", "linear"):
        raise OptionError(name="shape", expected='"cos" or "linear"', got=repr(shape))
    start, top = lr_max / start_divisor, rising * steps - 1
    first, second = (start, lr_max), (lr_max, start / end_divisor)

    def schedule(t: Tensor) -> Tensor:
        up, down = t / top, (t - top) / (steps - 1 - top)
        return where(t <= top, _between(first, up, shape), _between(second, down, shape))

    return schedule


def _between(ends: tuple[float, float], share: Tensor, shape: str) -> Tensor:
    """From one end to the other, at a share of the way."""
    start, end = ends
    share = minimum(maximum(share, 0.0), 1.0)
    if shape == "linear":
        return start + (end - start) * share
    return end + (start - end) / 2 * (1 + cos(math.pi * share))


def sequential(schedules: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """One schedule after the other; each counts from its own beginning.

    Args:
        schedules: at least one.
        milestones: the steps at which the second, third ... begin.

    Example:
        >>> import chainrule as cr
        >>> schedule = sequential([constant(0.5), exponential(1.0, 0.5)], [3])
        >>> [schedule(cr.tensor(t, "float64")).item() for t in (0, 2, 3, 4)]
        [0.5, 0.5, 1.0, 0.5]
    """
    if len(milestones) != len(schedules) - 1 or list(milestones) != sorted(milestones):
        raise OptionError(
            name="milestones", got=list(milestones),
            expected=f"{len(schedules) - 1} rising steps, one less than schedules",
        )  # fmt: skip

    def schedule(t: Tensor) -> Tensor:
        rate = schedules[0](t)
        for begin, following in zip(milestones, schedules[1:], strict=True):
            # Before its beginning it is asked at step 0: no power of a negative number.
            rate = where(t < begin, rate, following(maximum(t - begin, 0.0)))
        return rate

    return schedule


def warm_up(steps: int, then: Schedule, start: float = 0.0) -> Schedule:
    """From ``start`` times the first rate of a schedule up to it, within ``steps``; then it begins.

    Example:
        >>> import chainrule as cr
        >>> schedule = warm_up(4, then=cosine(1.0, steps=100))
        >>> [schedule(cr.tensor(t, "float64")).item() for t in (0, 1, 2, 4)]
        [0.0, 0.25, 0.5, 1.0]

    Source: Goyal et al., "Accurate, large minibatch SGD", 2017.
    """
    _positive("steps", steps)
    return sequential([lambda t: then(t * 0) * (start + (1 - start) * t / steps), then], [steps])


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise OptionError(name=name, expected="at least 1 step", got=value, mend="")
