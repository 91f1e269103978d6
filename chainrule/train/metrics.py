"""Measures of a model: how often it is right, and means over many batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from chainrule.nn import Module
from chainrule.tensor.tensor import Tensor, tensor


def accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """The share of samples whose largest score is at their label.

    Args:
        scores: one score or probability per class, shape (batch, classes).
        labels: class numbers, shape (batch,).

    Example:
        >>> import chainrule as cr
        >>> scores = cr.tensor([[0.1, 0.9], [0.8, 0.2]])
        >>> accuracy(scores, cr.tensor([1, 1])).item()
        0.5
    """
    right: Tensor = scores.argmax(-1) == labels
    return right.float().mean()


class Means:
    """Means over samples of what is measured batch by batch.

    sum of (batch size x mean of the batch) / sum of batch sizes, in float64: a smaller last batch
    counts by its samples.

    Example:
        >>> means = Means()
        >>> means.add({"loss": 1.0}, samples=30)
        >>> means.add({"loss": 4.0}, samples=10)
        >>> means.take()
        {'loss': 1.75}
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._samples = 0

    def add(self, measures: Mapping[str, Any], samples: int) -> None:
        """Take in the means of one batch."""
        for name, value in measures.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * samples
        self._samples += samples

    def take(self) -> dict[str, float]:
        """The means so far; then start again from nothing."""
        means = {name: total / self._samples for name, total in self._sums.items()}
        self._sums, self._samples = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, ready for JSON."""
        return {"sums": dict(self._sums), "samples": self._samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from saved sums."""
        self._sums, self._samples = dict(state["sums"]), state["samples"]


def _tensor(array: Any) -> Tensor:
    made: Tensor = array if isinstance(array, Tensor) else tensor(array)
    return made


def measure(
    model: Module,
    score: Callable[..., Mapping[str, Any]],
    batches: Iterable[tuple[Any, ...]],
) -> dict[str, float]:
    """The means over all batches of what ``score`` returns, with the model in evaluation mode.

    Args:
        model: put into evaluation mode meanwhile; its former mode comes back.
        score: called with the tensors of a batch; returns named means over it. Compile it where
            it is called often.
        batches: batches of arrays or tensors, samples along the first axis.
    """
    training = model.training
    model.eval()
    try:
        means = Means()
        for batch in batches:
            means.add(score(*map(_tensor, batch)), samples=len(batch[0]))
        return means.take()
    finally:
        model.train(training)
