"""The optimizers, from simple to elaborate; each is a chain of transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from chainrule.errors import OptionError
from chainrule.optim.optimizer import Optimizer, Options, Parameters
from chainrule.optim.schedules import Schedule
from chainrule.optim.transforms import Ascent, Momentum, ScaleByAdam, Transform, WeightDecay


class SGD(Optimizer):
    """Stochastic gradient descent: p <- p - lr u.

    u is the gradient, plus ``weight_decay`` p, through momentum (``Momentum``) where it is not 0.

    Args:
        params: parameters, or dicts with ``"params"`` and hyper-parameters of their own.
        lr: learning rate eta, or a schedule (:mod:`chainrule.optim.schedules`).
        momentum: the share of the last update that is kept; 0 for none.
        dampening: 1 - dampening is the share of the gradient that is taken.
        weight_decay: L2 penalty.
        nesterov: look ahead by one momentum step.
        maximize: climb instead of descending.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor(1.0, requires_grad=True)
        >>> optim.SGD([w], lr=0.1).step(w * w)
        >>> round(w.item(), 6)
        0.8
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Schedule = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            raise OptionError(
                name="nesterov", expected="used with momentum > 0 and dampening 0",
                got=f"momentum={momentum}, dampening={dampening}", mend="momentum=0.9",
            )  # fmt: skip
        check_options(lr=lr, momentum=momentum, weight_decay=weight_decay)

        options = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay
        }  # fmt: skip
        super().__init__(params, chain_of(Momentum(nesterov), maximize=maximize), options)


class Adam(Optimizer):
    """p <- p - lr m-hat / (sqrt(v-hat) + eps); see ``ScaleByAdam``.

    Args:
        params: parameters, or dicts with ``"params"`` and hyper-parameters of their own.
        lr: learning rate, or a schedule.
        betas: how much of the running means of the gradient and of its square is kept.
        eps: added to the denominator.
        weight_decay: L2 penalty, added to the gradient (for decay apart from it: ``AdamW``).
        amsgrad: divide by the largest mean square so far, not by the present one.
        maximize: climb instead of descending.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor(1.0, requires_grad=True)
        >>> optim.Adam([w], lr=0.1).step(w * w)
        >>> round(w.item(), 6)  # the first step is lr long
        0.9

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        check_options(lr=lr, eps=eps, weight_decay=weight_decay, beta1=betas[0], beta2=betas[1])
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        chain = chain_of(ScaleByAdam(amsgrad), maximize=maximize)
        super().__init__(params, chain, options)


class AdamW(Optimizer):
    """Adam, with the decay applied to the parameter itself: p <- p - lr (u + weight_decay p).

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor(1.0, requires_grad=True)
        >>> optim.AdamW([w], lr=0.1, weight_decay=0.5).step(w * w)
        >>> round(w.item(), 6)  # 1 - 0.1 (1 + 0.5)
        0.85

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Schedule = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        check_options(lr=lr, eps=eps, weight_decay=weight_decay, beta1=betas[0], beta2=betas[1])
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        chain = chain_of(ScaleByAdam(amsgrad), decoupled=True, maximize=maximize)
        super().__init__(params, chain, options)


def chain_of(
    *links: Transform, decoupled: bool = False, maximize: bool = False
) -> Callable[[Options], list[Transform]]:
    """The chain of a group: its links, and the decay before or (``decoupled``) after them.

    Momentum and decay that are 0 are left out, with their state.
    """
    return partial(_chain, links, decoupled, maximize)  # which, unlike a closure, can be pickled


def _chain(
    links: Sequence[Transform], decoupled: bool, maximize: bool, options: Options
) -> list[Transform]:
    ascent = [Ascent()] if maximize else []
    decay = [WeightDecay()] if options["weight_decay"] else []
    links = [link for link in links if "momentum" not in link.reads or options["momentum"]]
    return [*ascent, *links, *decay] if decoupled else [*ascent, *decay, *links]


def check_options(**values: object) -> None:
    """Refuse what can't train: negative numbers, betas of 1 and more."""
    for name, value in values.items():
        if callable(value):
            continue
        number = float(value)  # type: ignore[arg-type]
        if name.startswith("beta") and not 0 <= number < 1:
            raise OptionError(name=name, expected="in 0 <= beta < 1", got=value, mend="")
        if not number >= 0:
            raise OptionError(name=name, expected="0 or more", got=value, mend="")
