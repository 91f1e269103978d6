"""``torch.optim.swa_utils``: averages of a model's weights, and the rate to draw them at.

(:class:`chainrule.optim.ExponentialMovingAverage` does it without a copy of the model.)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

from chainrule.errors import OptionError
from chainrule.like_torch.missing import refuse
from chainrule.like_torch.modes import no_grad
from chainrule.like_torch.optim.lr_scheduler import LRScheduler
from chainrule.nn import BatchNorm1d, BatchNorm2d, Buffer, Module
from chainrule.optim import Optimizer
from chainrule.tensor.device import require_cpu
from chainrule.tensor.tensor import Tensor

__all__ = ["SWALR", "AveragedModel", "get_ema_avg_fn", "update_bn"]

Average = Callable[[Tensor, Tensor, Tensor], Tensor]


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """decay average + (1 - decay) weights: an exponential moving average."""

    def average(averaged: Tensor, weights: Tensor, _: Tensor) -> Tensor:
        made: Tensor = averaged * decay + weights * (1 - decay)
        return made

    return average


def _equal_average(averaged: Tensor, weights: Tensor, number: Tensor) -> Tensor:
    made: Tensor = averaged + (weights - averaged) / (number.to(averaged.dtype) + 1)
    return made


class AveragedModel(Module):
    """A copy of a model whose weights are the average of those it is shown.

    Args:
        model: copied, and kept under ``module``.
        device: accepted; only the CPU exists here.
        avg_fn: (average, weights, number so far) to the new average; the plain mean when not given.
        use_buffers: average buffers too, instead of taking the model's newest.

    Source: Izmailov et al., "Averaging weights leads to wider optima and better generalization",
    2018.
    """

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: None = None,
        use_buffers: bool = False,
    ) -> None:
        require_cpu(device)
        if multi_avg_fn is not None:
            raise OptionError(
                name="multi_avg_fn", expected="None", got=multi_avg_fn,
                mend="avg_fn=get_ema_avg_fn(decay)",
            )  # fmt: skip
        self.module = copy.deepcopy(model)
        self.n_averaged = Buffer(0)
        self.avg_fn = avg_fn or _equal_average
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model computes."""
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Take in the weights that a model has now."""
        first = self.n_averaged.item() == 0
        self._update(self.module.parameters(), model.parameters(), first)
        self._update(self.module.buffers(), model.buffers(), first or not self.use_buffers)
        self.n_averaged.add_(1)

    def _update(self, averages: Iterable[Any], newest: Iterable[Any], whole: bool) -> None:
        for mine, theirs in zip(averages, newest, strict=True):
            weights = theirs.detach()
            mine.data.copy_(
                weights if whole else self.avg_fn(mine.detach(), weights, self.n_averaged)
            )


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Measure anew what the batch normalisations of a model run on, over all batches of a loader.

    Averaged weights have other statistics than any of the weights they are the average of.
    """
    require_cpu(device)
    norms = [m for m in model.modules() if isinstance(m, BatchNorm1d | BatchNorm2d)]
    if not norms:
        return
    momenta, training = [norm.momentum for norm in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    model.train()
    for batch in loader:
        model(batch[0] if isinstance(batch, list | tuple) else batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)


class SWALR(LRScheduler):
    """From the rate an optimizer has to ``swa_lr`` within ``anneal_epochs``, and on with it."""

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float,
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise OptionError(
                name="anneal_strategy", expected='"cos" or "linear"', got=repr(anneal_strategy)
            )
        self.swa_lr, self.anneal_epochs = swa_lr, anneal_epochs
        self.anneal_strategy = anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _share(self, t: int) -> float:
        """How far the rate is on its way, 0 to 1."""
        share = max(0.0, min(1.0, t / max(1, self.anneal_epochs)))
        return share if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * share)) / 2

    def rate(self, lr: float, t: int) -> float:
        """One step on from the rate now, which another scheduler may have moved."""
        if self.anneal_epochs == 0:
            t = max(1, t)
        now = float(self.optimizer.param_groups[self._number]["lr"])
        before, after = self._share(t - 1), self._share(t)
        start = self.swa_lr if before == 1 else (now - before * self.swa_lr) / (1 - before)
        return self.swa_lr * after + start * (1 - after)


__getattr__ = refuse(__name__)
