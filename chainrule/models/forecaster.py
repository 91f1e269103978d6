"""Forecasts of a series, and the forecast that every other one has to beat."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from chainrule import nn
from chainrule.core.dtype import default_dtype
from chainrule.errors import ShapeError
from chainrule.models.language import evaluating
from chainrule.tensor.tensor import Tensor, tensor
from chainrule.tensor.transforms import no_grad

Array = np.ndarray[Any, Any]


class Forecaster(nn.Module):
    """An LSTM reads a window of a series; the next values are its last value plus what it adds.

    x is scaled by the mean and standard deviation of the training series; h = the LSTM's state
    after the window; forecast = (last scaled value + W h + b), scaled back. W and b start at 0, so
    that training starts from the persistence forecast: tomorrow as today.

    Args:
        features: values of the series at each step.
        horizon: how many steps ahead.
        hidden_size: units of each LSTM layer.
        num_layers: LSTM layers.
        dropout: probability of dropping an entry between layers, in training.

    Shapes: input (batch, window, features), output (batch, horizon, features), in the units of the
    series.

    Example:
        >>> import numpy as np
        >>> from chainrule import tensor
        >>> series = np.sin(np.arange(100.0))[:, None]
        >>> model = Forecaster().scale_to(series[:80])
        >>> x, y = windows(series, window=12)
        >>> model(tensor(x, "float32")).shape
        (88, 1, 1)

    Source: Hochreiter and Schmidhuber, "Long short-term memory", 1997.
    """

    def __init__(
        self,
        features: int = 1,
        horizon: int = 1,
        hidden_size: int = 32,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        self.horizon = horizon
        self.lstm = nn.LSTM(features, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.head = nn.Linear(hidden_size, horizon * features)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
        self.mean = nn.Buffer(np.zeros(features, default_dtype()))
        self.std = nn.Buffer(np.ones(features, default_dtype()))

    def scale_to(self, series: Any) -> Forecaster:
        """Take mean and standard deviation from a training series (time, features); returns self.

        From the training part only: the rest is what is to be forecast.
        """
        array = np.asarray(series)
        std = array.std(0)
        self.mean.copy_(array.mean(0).astype(self.mean.dtype))
        self.std.copy_(np.where(std > 0, std, 1).astype(self.std.dtype))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(batch, window, features) to (batch, horizon, features)."""
        scaled = (x - self.mean) / self.std
        outputs, _ = self.lstm(scaled)
        added = self.head(outputs[:, -1]).reshape(x.shape[0], self.horizon, x.shape[2])
        forecast: Tensor = (scaled[:, -1:] + added) * self.std + self.mean
        return forecast


def windows(series: Any, window: int, horizon: int = 1) -> tuple[Array, Array]:
    """Every window of a series (time, features), and the values that follow each.

    Returns:
        Inputs (count, window, features) and targets (count, horizon, features).

    Raises:
        ShapeError: the series is shorter than one window and its horizon.

    Example:
        >>> import numpy as np
        >>> x, y = windows(np.arange(5.0)[:, None], window=2)
        >>> x[:, :, 0].tolist(), y[:, 0, 0].tolist()
        ([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]], [2.0, 3.0, 4.0])
    """
    array = np.asarray(series)
    if array.ndim != 2 or len(array) < window + horizon:
        raise ShapeError(
            op="windows",
            expected=f"a series (time, features) of at least {window + horizon} steps",
            got=array.shape,
            mend="series[:, None] for one feature; or a shorter window",
        )
    parts = np.lib.stride_tricks.sliding_window_view(array, window + horizon, 0)
    parts = parts.transpose(0, 2, 1)
    return parts[:, :window].copy(), parts[:, window:].copy()


def persistence(x: Array, horizon: int = 1) -> Array:
    """The forecast that repeats the last value of each window."""
    return np.repeat(x[:, -1:], horizon, axis=1)


class Skill(NamedTuple):
    """Errors of a forecast and of persistence; a score above 0 is better than persistence.

    Attributes:
        rmse: root of the mean squared error, in the units of the series.
        persistence_rmse: the same of the forecast that repeats the last value.
        score: 1 - (rmse / persistence_rmse)^2.
    """

    rmse: float
    persistence_rmse: float
    score: float

    def __str__(self) -> str:
        return (
            f"RMSE {self.rmse:.4g}, persistence {self.persistence_rmse:.4g}, "
            f"skill {100 * self.score:.1f}%"
        )


def skill(model: nn.Module, x: Array, y: Array) -> Skill:
    """A forecaster's errors on windows and targets, beside those of persistence.

    Source: Murphy, "Skill scores based on the mean square error", 1988.
    """
    with evaluating(model), no_grad():
        forecast = model(tensor(np.asarray(x, default_dtype()))).numpy()
    errors = [float(np.mean((made - y) ** 2)) for made in (forecast, persistence(x, y.shape[1]))]
    score = 1 - errors[0] / errors[1] if errors[1] else 0.0
    return Skill(errors[0] ** 0.5, errors[1] ** 0.5, score)
