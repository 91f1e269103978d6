"""Networks that tell, or are told, on which side of a kink each entry is.

Where ReLU's input is within a rounding of 0, float32 and float64 may take different sides, and the
gradients then differ by far more than roundings. To compare roundings alone, the run in float32
tells its sides, and the run in float64 is told them. Max pooling has such kinks, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class Recorder:
    """Runs as usual, and keeps the sides: where ReLU let through, and what max pooling took."""

    def __init__(self, nn: Any) -> None:
        self._functional = nn.functional
        self.sides: list[Any] = []

    def leaky(self, z: Any, slope: float) -> Any:
        self.sides.append(z > 0)
        return self._functional.leaky_relu(z, slope) if slope else self._functional.relu(z)

    def pool(self, x: Any, size: int) -> Any:
        values, places = self._functional.max_pool2d(x, size, return_indices=True)
        self.sides.append(places)
        return values


class Imposer:
    """Runs on given sides, in PyTorch.

    Attributes:
        flips: at how many entries it would have chosen otherwise.
        entries: how many there were.
    """

    def __init__(self, sides: Sequence[Any]) -> None:
        self.sides, self._next = list(sides), iter(sides)
        self.flips = self.entries = 0

    def leaky(self, z: Any, slope: float) -> Any:
        side = next(self._next)
        self._count(z > 0, side)
        return z * side.to(z.dtype).clamp(min=slope)

    def pool(self, x: Any, size: int) -> Any:
        import torch

        places = next(self._next)
        own = torch.nn.functional.max_pool2d(x, size, return_indices=True)[1]
        self._count(own, places)
        return x.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)

    def _count(self, own: Any, told: Any) -> None:
        self.flips += int((own != told).sum())
        self.entries += told.numel()


class Switch:
    """One of the above, another for every step."""

    def __init__(self, now: Recorder | Imposer) -> None:
        self.now = now

    def leaky(self, z: Any, slope: float) -> Any:
        return self.now.leaky(z, slope)

    def pool(self, x: Any, size: int) -> Any:
        return self.now.pool(x, size)


Kinks = Recorder | Imposer | Switch


class Face:
    """``torch.nn`` or ``chainrule.nn`` whose kinks are in the hands of one of the above.

    Dropout is left out: libraries draw differently.
    """

    def __init__(self, nn: Any, kinks: Kinks) -> None:
        self._nn, self._kinks = nn, kinks
        self.functional = _Functional(nn.functional, kinks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._nn, name)

    def ReLU(self) -> Any:
        return self._layer(lambda z: self._kinks.leaky(z, 0.0))

    def LeakyReLU(self, slope: float) -> Any:
        return self._layer(lambda z: self._kinks.leaky(z, slope))

    def MaxPool2d(self, size: int) -> Any:
        return self._layer(lambda x: self._kinks.pool(x, size))

    def Dropout(self, _: float) -> Any:
        return self._nn.Identity()

    def _layer(self, function: Callable[[Any], Any]) -> Any:
        class Applied(self._nn.Module):  # type: ignore[misc, name-defined]
            def forward(self, x: Any) -> Any:
                return function(x)

        return Applied()


class _Functional:
    """The functions, ReLU as above."""

    def __init__(self, functional: Any, kinks: Kinks) -> None:
        self._functional, self._kinks = functional, kinks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._functional, name)

    def relu(self, z: Any) -> Any:
        return self._kinks.leaky(z, 0.0)
