"""Layers that normalise: entries get mean 0 and variance 1, then a learned scale and shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from chainrule.core.dtype import as_dtype, default_dtype
from chainrule.core.op import located
from chainrule.errors import OptionError, ShapeError
from chainrule.nn import functional_norm as functional
from chainrule.nn.module import Buffer, Module, Parameter, takes_device
from chainrule.tensor.tensor import Tensor

Shape = tuple[int, ...]


def _filled(shape: Shape, value: float, dtype: object) -> Parameter:
    return Parameter(np.full(shape, value, _kind(dtype)))


def _kind(dtype: object) -> np.dtype[np.generic]:
    return as_dtype(dtype) if dtype is not None else default_dtype()


def _lengths(shape: int | Sequence[int]) -> Shape:
    return (shape,) if isinstance(shape, int) else tuple(shape)


# ---------------------------------------------------------------------- over a sample's last axes


class LayerNorm(Module):
    """y = (x - mu) / sqrt(var + eps) * gamma + beta: each sample over its last axes.

    Args:
        normalized_shape: the last axes of the input, or the length of the last one.
        eps: keeps the root away from 0.
        elementwise_affine: learn gamma (``weight``, from 1) and beta (``bias``, from 0).
        bias: learn beta.

    Shapes: x (..., *normalized_shape), and so is y.

    Raises:
        ShapeError: the input's shape does not end in ``normalized_shape``.

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016.

    Example:
        >>> import chainrule as cr
        >>> LayerNorm(4)(cr.ones(2, 3, 4)).shape
        (2, 3, 4)
    """

    @takes_device
    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: object = None,
    ) -> None:
        self.normalized_shape = _lengths(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        affine, shape = elementwise_affine, self.normalized_shape
        self.weight = _filled(shape, 1, dtype) if affine else None
        self.bias = _filled(shape, 0, dtype) if affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class RMSNorm(Module):
    """y = x / sqrt(mean of x^2 + eps) * gamma, over the last axes; nothing is subtracted.

    Args:
        normalized_shape: the last axes of the input, or the length of the last one.
        eps: None takes the smallest number that changes 1 in the input's type.
        elementwise_affine: learn gamma (``weight``, from 1).

    Shapes: x (..., *normalized_shape), and so is y.

    Source: Zhang and Sennrich, "Root mean square layer normalization", 2019.

    Example:
        >>> import chainrule as cr
        >>> RMSNorm(2, eps=0)(cr.tensor([[1.0, -1.0], [5.0, 5.0]])).tolist()
        [[1.0, -1.0], [1.0, 1.0]]
    """

    @takes_device
    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: object = None,
    ) -> None:
        self.normalized_shape = _lengths(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = _filled(self.normalized_shape, 1, dtype) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class GroupNorm(Module):
    """Each sample's channels in groups, each group by its own mean and variance.

    Args:
        num_groups: divides the channels; 1 is layer norm over all, ``num_channels`` instance norm.
        num_channels: channels of the input.
        eps: keeps the root away from 0.
        affine: learn gamma (``weight``, from 1) and beta (``bias``, from 0) for each channel.

    Shapes: x (batch, num_channels, ...), and so is y.

    Raises:
        OptionError: the groups do not divide the channels.

    Source: Wu and He, "Group normalization", 2018.

    Example:
        >>> import chainrule as cr
        >>> GroupNorm(2, 6)(cr.ones(3, 6, 4, 4)).shape
        (3, 6, 4, 4)
    """

    @takes_device
    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: object = None,
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise OptionError(
                name="num_groups",
                expected=f"a number that divides num_channels ({num_channels})",
                got=num_groups,
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.weight = _filled((num_channels,), 1, dtype) if affine else None
        self.bias = _filled((num_channels,), 0, dtype) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


# ------------------------------------------------------------------------ with running statistics


class _RunningNorm(Module):
    """What batch and instance normalisation share: gamma, beta, and the running statistics."""

    axes: ClassVar[Shape]  # how many axes the input may have

    @takes_device
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: object = None,
    ) -> None:
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape, track = (num_features,), track_running_stats
        self.weight = _filled(shape, 1, dtype) if affine else None
        self.bias = _filled(shape, 0, dtype) if affine else None
        self.running_mean = Buffer(np.zeros(shape, _kind(dtype))) if track else None
        self.running_var = Buffer(np.ones(shape, _kind(dtype))) if track else None
        self.num_batches_tracked = Buffer(np.array(0, np.int64)) if track else None

    def reset_running_stats(self) -> None:
        """Forget the running statistics."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def _check(self, x: Tensor) -> None:
        if x.ndim not in self.axes or x.shape[1] != self.num_features:
            wanted = " or ".join(map(str, self.axes))
            raise located(
                ShapeError(
                    op=type(self).__name__,
                    expected=f"an input (batch, {self.num_features}, ...) with {wanted} axes",
                    got=x.shape,
                    mend=f"{type(self).__name__}({x.shape[1]})" if x.ndim in self.axes else "",
                )
            )

    @property
    def _learns(self) -> bool:
        """Frozen means frozen: then the statistics do not drift, and are those that are used."""
        return self.training and not self.frozen

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningNorm):
    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        self._check(x)
        tracked = self.running_mean is not None
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self._learns or not tracked,
            self._share() if self._learns else 0.0,
            self.eps,
        )

    def _share(self) -> float | Tensor:
        """How far the running statistics move; without a momentum they are the plain mean."""
        if self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        if self.momentum is not None:
            return self.momentum
        assert self.running_mean is not None
        return 1.0 / self.num_batches_tracked.to(self.running_mean.dtype)


class BatchNorm1d(_BatchNorm):
    """y = (x - mu) / sqrt(var + eps) * gamma + beta, for each feature over the batch.

    In training mu and var are those of the batch, and the running statistics move towards them;
    in evaluation, and when the module is frozen, the running statistics are used. The batch's
    variance is over n, the running one over n - 1, as in PyTorch.

    Args:
        num_features: features (channels) of the input.
        eps: keeps the root away from 0.
        momentum: running = (1 - momentum) running + momentum batch; None: the mean of all batches.
        affine: learn gamma (``weight``, from 1) and beta (``bias``, from 0).
        track_running_stats: without them, the batch's statistics are used in evaluation too.

    Shapes: x (batch, num_features) or (batch, num_features, length), and so is y.

    Raises:
        ShapeError: another number of features, or a single value per feature in training.

    Source: Ioffe and Szegedy, "Batch normalization", 2015.

    Example:
        >>> import chainrule as cr
        >>> BatchNorm1d(1, eps=0)(cr.tensor([[1.0], [3.0]])).tolist()
        [[-1.0], [1.0]]
    """

    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    """As :class:`BatchNorm1d`, for each channel of images, over the batch and all pixels.

    Shapes: x (batch, num_features, height, width), and so is y.

    Example:
        >>> import chainrule as cr
        >>> BatchNorm2d(3)(cr.ones(2, 3, 4, 4)).shape
        (2, 3, 4, 4)
    """

    axes = (4,)


class _InstanceNorm(_RunningNorm):
    @takes_device
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: object = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        single = x.ndim == self.axes[0] - 1
        x = x.unsqueeze(0) if single else x
        self._check(x)
        y = functional.instance_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self._learns or not self.track_running_stats,
            self.momentum if self._learns and self.momentum is not None else 0.0,
            self.eps,
        )
        return y.squeeze(0) if single else y


class InstanceNorm1d(_InstanceNorm):
    """Each channel of each sample by its own mean and variance: the batch plays no part.

    Args:
        num_features: channels of the input.
        eps: keeps the root away from 0.
        momentum: of the running statistics.
        affine: learn gamma and beta; not by default, as in PyTorch.
        track_running_stats: keep statistics of all samples, and use them in evaluation.

    Shapes: x (batch, num_features, length) or (num_features, length), and so is y.

    Source: Ulyanov, Vedaldi and Lempitsky, "Instance normalization", 2016.

    Example:
        >>> import chainrule as cr
        >>> InstanceNorm1d(1, eps=0)(cr.tensor([[[1.0, 3.0]], [[10.0, 30.0]]])).tolist()
        [[[-1.0, 1.0]], [[-1.0, 1.0]]]
    """

    axes = (3,)


class InstanceNorm2d(_InstanceNorm):
    """As :class:`InstanceNorm1d`, for images: (batch, num_features, height, width).

    Example:
        >>> import chainrule as cr
        >>> InstanceNorm2d(3)(cr.randn(2, 3, 4, 4)).shape
        (2, 3, 4, 4)
    """

    axes = (4,)
