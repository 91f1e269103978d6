"""Optimizers that fit the length of the step to each entry; formulas: :mod:`.scaling`.

In all of them: ``params`` are parameters, or dicts with ``"params"`` and hyper-parameters of their
own; ``lr`` is the learning rate, or a schedule; ``weight_decay`` is an L2 penalty (where ``Lion``
and ``decoupled_weight_decay`` shrink the parameter itself); ``maximize`` climbs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from chainrule.errors import OptionError
from chainrule.optim.optimizer import Optimizer, Parameters
from chainrule.optim.optimizers import chain_of, check_options
from chainrule.optim.scaling import (
    Accumulate,
    ScaleByAdadelta,
    ScaleByAdagrad,
    ScaleByMaximum,
    ScaleByNAdam,
    ScaleByRAdam,
    ScaleByRMS,
    SignOfMean,
    Velocity,
)
from chainrule.optim.schedules import Schedule
from chainrule.optim.transforms import Transform


class Lion(Optimizer):
    """Steps of one length: p <- p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p).

    The learning rate is 3 to 10 times smaller than Adam's, the decay as much larger.

    Args:
        params: parameters, or groups of them.
        lr: learning rate, or a schedule.
        betas: the share of the mean m in the update, and how much of it is kept.
        weight_decay: shrinks the parameter itself, as in ``AdamW``.
        maximize: climb.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor([1.0, -3.0], requires_grad=True)
        >>> optim.Lion([w], lr=0.25).step((w * w).sum())
        >>> w.tolist()
        [0.75, -2.75]

    Source: Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Schedule = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        check_options(lr=lr, weight_decay=weight_decay, beta1=betas[0], beta2=betas[1])
        options = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        chain = chain_of(SignOfMean(), decoupled=True, maximize=maximize)
        super().__init__(params, chain, options)


class Adagrad(Optimizer):
    """p <- p - lr g / (sqrt(sum of all g^2) + eps); see ``ScaleByAdagrad``.

    Args:
        params: parameters, or groups of them.
        lr: learning rate, or a schedule.
        lr_decay: the rate is divided by 1 + (t - 1) lr_decay.
        weight_decay: L2 penalty.
        initial_accumulator_value: the sum before the first step.
        eps: added to the denominator.
        maximize: climb.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor([1.0, -3.0], requires_grad=True)
        >>> optim.Adagrad([w], lr=0.25).step((w * w).sum())
        >>> w.tolist()
        [0.75, -2.75]

    Source: Duchi et al., "Adaptive subgradient methods for online learning", JMLR 2011.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Schedule = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        check_options(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)
        check_options(initial_accumulator_value=initial_accumulator_value)
        options = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        scale = ScaleByAdagrad(initial_accumulator_value)
        super().__init__(params, chain_of(scale, maximize=maximize), options)


class RMSprop(Optimizer):
    """p <- p - lr g / (sqrt(v) + eps), v the running mean of g^2; see ``ScaleByRMS``.

    Args:
        params: parameters, or groups of them.
        lr: learning rate, or a schedule.
        alpha: how much of the running mean is kept.
        eps: added to the denominator.
        weight_decay: L2 penalty.
        momentum: how much of the last update is kept; 0 for none.
        centered: divide by the standard deviation of the gradient instead.
        maximize: climb.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor(1.0, requires_grad=True)
        >>> optim.RMSprop([w], lr=0.05, alpha=0.75).step(w * w)
        >>> round(w.item(), 6)
        0.9

    Source: Tieleman and Hinton, "Neural networks for machine learning", Lecture 6.5, 2012.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Schedule = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        check_options(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
        options = {
            "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay,
            "momentum": momentum,
        }  # fmt: skip
        chain = chain_of(ScaleByRMS(centered), Velocity(), maximize=maximize)
        super().__init__(params, chain, options)


class Adadelta(Optimizer):
    """p <- p - lr sqrt(d + eps) / sqrt(v + eps) g; see ``ScaleByAdadelta``.

    Args:
        params: parameters, or groups of them.
        lr: learning rate, or a schedule.
        rho: how much of the running means is kept.
        eps: added to both.
        weight_decay: L2 penalty.
        maximize: climb.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor(1.0, requires_grad=True)
        >>> optim.Adadelta([w]).step(w * w)
        >>> round(w.item(), 6)
        0.996838

    Source: Zeiler, "ADADELTA: an adaptive learning rate method", 2012.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Schedule = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        check_options(lr=lr, eps=eps, weight_decay=weight_decay)
        if not 0 <= rho <= 1:
            raise OptionError(name="rho", expected="in 0 <= rho <= 1", got=rho)
        options = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, chain_of(ScaleByAdadelta(), maximize=maximize), options)


class Adamax(Optimizer):
    """p <- p - lr m-hat / n, n a decaying maximum of abs(g); see ``ScaleByMaximum``.

    Args:
        params: parameters, or groups of them.
        lr: learning rate, or a schedule.
        betas: how much of the running mean m and of the maximum n is kept.
        eps: added to abs(g).
        weight_decay: L2 penalty.
        maximize: climb.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor(1.0, requires_grad=True)
        >>> optim.Adamax([w], lr=0.25).step(w * w)
        >>> round(w.item(), 6)
        0.75

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Schedule = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        check_options(lr=lr, eps=eps, weight_decay=weight_decay, beta1=betas[0], beta2=betas[1])
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, chain_of(ScaleByMaximum(), maximize=maximize), options)


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead; see ``ScaleByNAdam``.

    Args:
        params: parameters, or groups of them.
        lr: learning rate, or a schedule.
        betas: how much of the running means of the gradient and of its square is kept.
        eps: added to the denominator.
        weight_decay: L2 penalty.
        momentum_decay: how fast the momentum grows from beta1 / 2 to beta1.
        decoupled_weight_decay: shrink the parameter itself instead, as in ``AdamW``.
        maximize: climb.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor(1.0, requires_grad=True)
        >>> optim.NAdam([w], lr=0.1).step(w * w)
        >>> round(w.item(), 4)
        0.8944

    Source: Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Schedule = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        check_options(lr=lr, eps=eps, weight_decay=weight_decay, beta1=betas[0], beta2=betas[1])
        check_options(momentum_decay=momentum_decay)
        options = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
        }  # fmt: skip
        chain = chain_of(ScaleByNAdam(), decoupled=decoupled_weight_decay, maximize=maximize)
        super().__init__(params, chain, options)


class RAdam(Optimizer):
    """Adam that begins as SGD with momentum; see ``ScaleByRAdam``.

    Args:
        params: parameters, or groups of them.
        lr: learning rate, or a schedule.
        betas: how much of the running means of the gradient and of its square is kept.
        eps: added to the denominator.
        weight_decay: L2 penalty.
        decoupled_weight_decay: shrink the parameter itself instead, as in ``AdamW``.
        maximize: climb.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor(1.0, requires_grad=True)
        >>> optim.RAdam([w], lr=0.25).step(w * w)  # the first steps are lr m-hat
        >>> round(w.item(), 6)
        0.5

    Source: Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        check_options(lr=lr, eps=eps, weight_decay=weight_decay, beta1=betas[0], beta2=betas[1])
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        chain = chain_of(ScaleByRAdam(), decoupled=decoupled_weight_decay, maximize=maximize)
        super().__init__(params, chain, options)


def accumulate(optimizer: Optimizer, every: int) -> Optimizer:
    """Let an optimizer update only at every so many steps, with the mean of their gradients.

    As if the batch were ``every`` times as large. Schedules go on counting steps.

    Args:
        optimizer: fresh from its making; it is changed, and returned.
        every: how many steps make an update.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor(0.0, requires_grad=True)
        >>> optimizer = optim.accumulate(optim.SGD([w], lr=1.0), every=2)
        >>> optimizer.step(w * 3)
        >>> w.item()
        0.0
        >>> optimizer.step(w * 5)
        >>> w.item()
        -4.0
    """
    if every < 1:
        raise OptionError(name="every", expected="at least 1 step", got=every)
    if optimizer.moments():
        raise OptionError(
            name="accumulate",
            expected="called before the first step",
            got="an optimizer with state",
        )
    optimizer.wrap_chains(partial(_accumulated, every))
    return optimizer


def _accumulated(every: int, chain: Sequence[Transform]) -> list[Transform]:
    return [Accumulate(tuple(chain), every)]
