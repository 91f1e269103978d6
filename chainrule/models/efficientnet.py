"""EfficientNet-lite0: a small convolutional network for ImageNet, with the checkpoint's names.

Each block widens the channels (1x1), looks at each channel by itself (depthwise), and narrows again
(1x1); where shape allows, the input is added back. The attribute names begin with an underscore
because those of the published weights do, so that they fit without a mapping.

Sources: Tan and Le, "EfficientNet", ICML 2019; Sandler et al., "MobileNetV2", CVPR 2018 (the
block); the lite variant leaves out squeeze-and-excitation and uses ReLU6.
"""

from __future__ import annotations

from typing import NamedTuple

from chainrule import nn
from chainrule.tensor.tensor import Tensor


class Stage(NamedTuple):
    """Blocks of one width; only the first of them has the stride."""

    blocks: int
    kernel: int
    stride: int
    widening: int
    channels: int


LITE0 = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280


class SameConv2d(nn.Conv2d):
    """Convolution without bias whose output has ceil(length / stride) entries, as in TensorFlow.

    An odd zero of the padding stands after the image, and how many there are depends on its size.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        ends: list[int] = []
        for length, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            needed = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            ends += [needed // 2, needed - needed // 2]
        padded: Tensor = nn.functional.pad(x, ends)
        return super().forward(padded)


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with TensorFlow's epsilon; a new batch counts for 1 percent."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Widen, look, narrow; and the input added back where the shapes are equal."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, widening: int) -> None:
        wide = inputs * widening
        self._adds = stride == 1 and inputs == outputs
        if widening > 1:
            self._expand_conv = SameConv2d(inputs, wide, 1)
            self._bn0 = norm(wide)
        self._widens = widening > 1
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self._bn1 = norm(wide)
        self._project_conv = SameConv2d(wide, outputs, 1)
        self._bn2 = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        a = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self._widens else x
        a = nn.functional.relu6(self._bn1(self._depthwise_conv(a)))
        narrow: Tensor = self._bn2(self._project_conv(a))
        return narrow + x if self._adds else narrow


class EfficientNet(nn.Module):
    """The stem, the blocks, the head, and a linear layer over the means of the channels.

    Args:
        stages: the table of blocks; :data:`LITE0` when not given.
        classes: number of outputs.
        dropout: probability of leaving out a feature in training.

    Shapes: images (batch, 3, height, width), each pixel (value - 127) / 128, to scores
    (batch, classes); lite0 was trained on 224 x 224.

    Example:
        >>> import chainrule as cr
        >>> small = (Stage(1, 3, 1, 1, 8), Stage(1, 3, 2, 2, 12))
        >>> EfficientNet(small, classes=5)(cr.zeros(1, 3, 16, 16)).shape
        (1, 5)
    """

    def __init__(
        self, stages: tuple[Stage, ...] = LITE0, classes: int = 1000, dropout: float = 0.2
    ) -> None:
        self._conv_stem = SameConv2d(3, STEM, 3, 2)
        self._bn0 = norm(STEM)
        self._blocks = nn.ModuleList()
        channels = STEM
        for stage in stages:
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                self._blocks.append(
                    Block(channels, stage.channels, stage.kernel, stride, stage.widening)
                )
                channels = stage.channels
        self._conv_head = SameConv2d(channels, HEAD, 1)
        self._bn1 = norm(HEAD)
        self._dropout = nn.Dropout(dropout)
        self._fc = nn.Linear(HEAD, classes)

    def features(self, x: Tensor) -> Tensor:
        """Images to one row of 1280 features each: what transfer learning keeps."""
        x = nn.functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return nn.functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Images to scores."""
        scores: Tensor = self._fc(self._dropout(self.features(x)))
        return scores
