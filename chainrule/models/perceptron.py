"""Rosenblatt's perceptron: a neuron with a step, and the rule it learns by.

z = w . x + b,  a = f(z) = 1 if z >= 0 else 0,  and after a sample (x, y):  w += eta (y - a) x,
b += eta (y - a). It is not back-propagation: the derivative of the step is 0 wherever it exists,
so no gradient says which way to go; the rule moves the line towards the sample it got wrong.

Sources: F. Rosenblatt, "The perceptron", Psychological Review 65, 1958; A. Novikoff, "On
convergence proofs on perceptrons", 1962; S. Gallant, "Perceptron-based learning algorithms", IEEE
Transactions on Neural Networks 1, 1990 (keeping the best weights seen).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.errors import MissingPackageError, OptionError, ShapeError, language
from chainrule.tensor.compile import compile
from chainrule.tensor.tensor import Tensor, tensor

Array = np.ndarray[Any, Any]


class Perceptron(nn.Module):
    """One or several neurons with a step function, each on the same inputs.

    Args:
        inputs: number of features.
        outputs: number of neurons; each decides one yes-or-no question.
        weight: w to start from, shape (outputs, inputs); 0 where not given.
        bias: b to start from, shape (outputs,); 0 where not given; ``False`` for none (see
            :func:`with_ones` for the bias as a weight).
        eta: the learning rate. From zero weights it only scales w and b, and changes no decision.

    Shapes: x (..., inputs) to 0 or 1 of shape (..., outputs).

    Example: two inputs, price and quality; z = .5 x 3 + .8 x 1 - 1 = 1.3, so accept.
        >>> import chainrule as cr
        >>> perceptron = Perceptron(2, weight=[[0.5, 0.8]], bias=[-1.0])
        >>> x = cr.tensor([3.0, 1.0])
        >>> round(perceptron.linear(x).item(), 4), perceptron(x).item()
        (1.3, 1.0)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int = 1,
        *,
        weight: Any = None,
        bias: Any = None,
        eta: float = 1.0,
    ) -> None:
        self.linear = nn.Linear(inputs, outputs, bias=bias is not False)
        self.step = nn.Step()
        self.eta = eta
        self._write(
            0.0 if weight is None else weight, 0.0 if bias is None or bias is True else bias
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        decided: Tensor = self.step(self.linear(x))
        return decided

    def correct(self, x: Tensor, y: Tensor) -> Tensor:
        """The learning rule on one sample.

        Args:
            x: the features, shape (inputs,).
            y: 0 or 1 for each output, shape (outputs,).

        Returns:
            The error y - f(z), shape (outputs,): all 0 where the sample was right.
        """
        error: Tensor = y - self(x)
        change = self.eta * error
        self.linear.weight.add_(change.unsqueeze(1) * x)
        if self.linear.bias is not None:
            self.linear.bias.add_(change)
        return error

    def fit(self, x: Any, y: Any, epochs: int = 100) -> History:
        """Apply the rule to the samples in turn, until an epoch passes without a mistake.

        If a line separates the classes, that happens after at most (R / gamma)^2 corrections from
        zero weights, R being the length of the longest (1, x) and gamma the distance of the nearest
        one from a separating plane through 0 (Novikoff). If none does, it never happens; then the
        weights often come back to where they were, and the rule is seen to run in a circle. The
        epochs left go through the samples in random order, only to look for the best weights
        (Gallant's pocket algorithm); the perceptron keeps those of the circle.

        Args:
            x: samples, shape (samples, inputs).
            y: 0 or 1, shape (samples,) or (samples, outputs).
            epochs: how often to go through the samples at most.

        Raises:
            ShapeError: x and y do not fit the perceptron or each other.
            OptionError: labels other than 0 and 1.
        """
        dtype = self.linear.weight.dtype
        samples, targets = self._checked(np.asarray(x, dtype), np.asarray(y, dtype))
        history = History(samples, targets, has_bias=self.linear.bias is not None)
        epoch = self._epochs(history)
        seen = {_bytes(self._weights()): 0}
        order = np.arange(len(samples))
        for history.epochs in range(1, epochs + 1):
            history.converged = not epoch(order, history.updates)
            if history.converged:
                break
            start = seen.setdefault(_bytes(self._weights()), len(history.updates))
            if start < len(history.updates):
                history.circle = history.updates[start:]
                last = self._weights()
                generator = np.random.Generator(np.random.Philox(0))
                for _ in range(history.epochs, epochs):
                    epoch(generator.permutation(order), [])
                self._write(*last)
                break
        return history

    def _epochs(self, history: History) -> Callable[[Array, list[Update]], bool]:
        """A function that goes through the samples once, and says whether one was wrong."""
        correct, predict = compile(self.correct), compile(self)
        everything = tensor(history.samples)
        history.see(self._weights(), predict(everything).numpy())

        def epoch(order: Array, updates: list[Update]) -> bool:
            before = len(updates)
            for row in order.tolist():
                error = correct(history.samples[row], history.targets[row]).numpy()
                if error.any():
                    updates.append(Update(history.epochs, row, error, *self._weights()))
                    history.see(self._weights(), predict(everything).numpy())
            return len(updates) > before

        return epoch

    def _write(self, weight: Any, bias: Any) -> None:
        self.linear.weight.copy_(weight)
        if self.linear.bias is not None:
            self.linear.bias.copy_(bias)

    def _weights(self) -> tuple[Array, Array]:
        bias = self.linear.bias
        return self.linear.weight.numpy(), np.zeros(0) if bias is None else bias.numpy()

    def _checked(self, x: Array, y: Array) -> tuple[Array, Array]:
        outputs, inputs = self.linear.weight.shape
        y = y.reshape(-1, 1) if y.ndim == 1 else y
        if x.ndim != 2 or x.shape[1] != inputs or y.shape != (len(x), outputs):
            raise ShapeError(
                op="Perceptron.fit",
                expected=f"x of shape (samples, {inputs}) and y of shape (samples, {outputs})",
                got=f"{x.shape} and {y.shape}",
                mend=f"make it Perceptron({x.shape[-1] if x.ndim else 1}, {y.shape[-1]}), "
                "or reshape the data",
            )
        wrong = y[(y != 0) & (y != 1)]
        if wrong.size:
            raise OptionError(
                name="a label",
                expected="0 or 1",
                got=wrong[0],
                mend="write the second class as 0, not -1",
            )
        return x, y


def with_ones(x: Any) -> Array:
    """The samples with x0 = 1 in front: the bias is then the weight w0.

    ``Perceptron(n + 1, bias=False)`` on these learns what ``Perceptron(n)`` learns on ``x``.

    Example:
        >>> with_ones([[3.0, 1.0]]).tolist()
        [[1.0, 3.0, 1.0]]
    """
    samples = np.asarray(x)
    return np.concatenate([np.ones_like(samples[:, :1]), samples], axis=1)


def _bytes(weights: Sequence[Array]) -> bytes:
    # + 0.0 makes -0.0 the 0.0 it equals.
    return b"".join((array + 0.0).tobytes() for array in weights)


# ------------------------------------------------------------------------------ how it went


@dataclass(frozen=True, eq=False)
class Update:
    """One correction: where, the error y - f(z) of each output, and the weights after it."""

    epoch: int
    row: int
    error: Array
    weight: Array
    bias: Array


@dataclass(eq=False)
class History:
    """What happened in :meth:`Perceptron.fit`.

    Attributes:
        updates: every correction, in order.
        epochs: epochs gone through.
        converged: the last of them passed without a mistake.
        circle: the corrections after which the weights were what they had been before them.
        best_accuracy: the largest share of samples right in all outputs, at any moment; the search
            after a circle counts.
        best_weights: weight and bias at that moment.
    """

    samples: Array
    targets: Array
    has_bias: bool
    updates: list[Update] = field(default_factory=list)
    epochs: int = 0
    converged: bool = False
    circle: list[Update] = field(default_factory=list)
    best_accuracy: float = -1.0
    best_weights: tuple[Array, Array] | None = None

    def see(self, weights: tuple[Array, Array], predictions: Array) -> None:
        """Keep these weights if they are the best so far."""
        accuracy = float((predictions == self.targets).all(axis=1).mean())
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.best_weights = accuracy, weights

    def mistakes(self, epoch: int) -> int:
        """Corrections made in an epoch."""
        return sum(update.epoch == epoch for update in self.updates)

    def meeting_point(self) -> tuple[int, Array] | None:
        """Why no line can separate the classes: an output, and a point that both of them share.

        The corrections of a circle add up to nothing: the sum of (y - f(z)) (1, x) over it is 0.
        So the samples of class 1 in it, each taken as often as it was corrected, have the same mean
        as those of class 0. A line with all of class 1 on one side has this mean on that side too,
        and likewise for class 0: there is no such line.
        """
        if not self.circle or not self.has_bias:
            return None
        errors = np.array([update.error for update in self.circle])
        output = int(np.argmax(np.abs(errors).sum(axis=0)))
        rows = [update.row for update in self.circle if update.error[output] > 0]
        return output, self.samples[rows].mean(axis=0)

    def report(self) -> str:
        """How it went, in two or three sentences; in Chinese where that is the language."""
        chinese = language() == "zh"
        facts = {
            "updates": len(self.updates),
            "epochs": self.epochs,
            "last": self.mistakes(self.epochs),
            "right": round(self.best_accuracy * len(self.samples)),
            "samples": len(self.samples),
        }
        if self.converged:
            return _CONVERGED[chinese].format(**facts)
        lines = [_NOT_CONVERGED[chinese].format(**facts)]
        if self.circle:
            lines.append(_CIRCLE[chinese].format(length=len(self.circle)))
        meeting = self.meeting_point()
        if meeting:
            output, point = meeting
            coordinates = ", ".join(f"{value:g}" for value in point)
            lines.append(_WHY[chinese].format(point=f"({coordinates})", output=output + 1))
        if not self.circle:
            lines.append(_OPEN[chinese])
        lines.append(_BEST[chinese].format(**facts))
        return "\n".join(lines)


# Each in English and in Chinese.
_CONVERGED = (
    "Converged: epoch {epochs} passed without a mistake, after {updates} corrections.",
    "已收敛:第 {epochs} 轮没有出错,共修正 {updates} 次。",
)
_NOT_CONVERGED = (
    "Did not converge: {last} mistakes in epoch {epochs}, {updates} corrections so far.",
    "没有收敛:第 {epochs} 轮仍出错 {last} 次,至此修正 {updates} 次。",
)
_CIRCLE = (
    "It never will: after {length} corrections the weights were the same as before them.",
    "也不会收敛:经过 {length} 次修正,权重又回到了原来的值。",
)
_WHY = (
    "Why: with each sample counted as often as it was corrected, both classes of output {output} "
    "have the mean {point}.\nNo straight line can have this point on both of its sides.",
    "原因:按修正次数给样本计数,输出 {output} 的两类样本有相同的均值 {point}。\n"
    "没有一条直线能让这一点同时位于它的两侧。",
)
_OPEN = (
    "Either no line separates the classes, or it needs more epochs: a finite run can't tell.",
    "要么没有直线能分开两类,要么需要更多轮次:有限的运行无法区分。",
)
_BEST = (
    "The best weights found had {right} of {samples} samples right.",
    "找到的最好的权重判对了 {samples} 个样本中的 {right} 个。",
)


# ------------------------------------------------------------------------------ the picture


def plot_boundary(
    perceptron: Perceptron,
    x: Any,
    y: Any,
    path: str | os.PathLike[str],
    names: Sequence[str] = ("x1", "x2"),
) -> None:
    """Draw the samples of two features and the line w . x + b = 0 of each output, as a PNG.

    The arrow is w: it points to the side where the output is 1.

    Args:
        perceptron: with two inputs.
        x: samples, shape (samples, 2).
        y: 0 or 1, shape (samples,) or (samples, outputs); the colours are those of output 1.
        path: the file to write.
        names: what the axes are called.

    Raises:
        ShapeError: the perceptron has not two inputs.
        MissingPackageError: matplotlib is not installed.
    """
    samples = np.asarray(x)
    if samples.ndim != 2 or samples.shape[1] != 2 or perceptron.linear.in_features != 2:
        raise ShapeError(
            op="plot_boundary",
            expected="a perceptron and samples with 2 features",
            got=f"{perceptron.linear.in_features} features and samples of shape {samples.shape}",
            mend="choose two features",
        )
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(
            name="plot_boundary", package="matplotlib", extra="plot"
        ) from error
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot(xlabel=names[0], ylabel=names[1])
    first = np.asarray(y).reshape(len(samples), -1)[:, 0]
    for label, marker in ((0, "o"), (1, "s")):
        chosen = samples[first == label]
        axes.scatter(chosen[:, 0], chosen[:, 1], marker=marker, label=f"y = {label}")
    low, high = samples.min(axis=0) - 1, samples.max(axis=0) + 1
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    weights, bias = perceptron._weights()
    for w, b in zip(weights, bias if bias.size else np.zeros(len(weights)), strict=True):
        length = float(w @ w)
        if length:  # w = 0 decides the same everywhere: there is no line
            foot = -b * w / length
            axes.axline(foot, foot + np.array([-w[1], w[0]]), color="black")
            axes.annotate("", foot + w / length**0.5 / 2, foot, arrowprops={"arrowstyle": "->"})
    axes.legend()
    figure.savefig(path, format="png")
