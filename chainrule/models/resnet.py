"""Residual networks. Names of parameters as in torchvision, so that its checkpoints fit."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule import nn
from chainrule.errors import OptionError
from chainrule.nn import init
from chainrule.tensor.tensor import Tensor


def _conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _conv1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """relu(x + F(x)), F two 3 x 3 convolutions: the gradient of x is that of F's path, plus 1.

    Args:
        inputs: channels of x.
        width: channels of the result.
        stride: of the first convolution.
        downsample: what makes x fit where the size or the channels change.
    """

    expansion = 1

    def __init__(
        self, inputs: int, width: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        self.conv1 = _conv3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = _conv3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, width, height / stride, width / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        skipped = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.relu(out + skipped)
        return y


class Bottleneck(nn.Module):
    """relu(x + F(x)), F a 1 x 1 convolution to few channels, a 3 x 3 one, and a 1 x 1 one back.

    The stride stands in the 3 x 3 convolution, as in torchvision ("ResNet v1.5").
    """

    expansion = 4

    def __init__(
        self, inputs: int, width: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        self.conv1 = _conv1(inputs, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv1(width, width * self.expansion)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, 4 width, height / stride, width / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        skipped = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.relu(out + skipped)
        return y


Block = type[BasicBlock] | type[Bottleneck]


def _stage(block: Block, inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of one width; the first makes the image smaller, and fits its x with a 1 x 1 conv."""
    outputs = width * block.expansion
    downsample = None
    if stride != 1 or inputs != outputs:
        downsample = nn.Sequential(_conv1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
    first = block(inputs, width, stride, downsample)
    return nn.Sequential(first, *[block(outputs, width) for _ in range(blocks - 1)])


def _start(module: nn.Module) -> None:
    """He's initial values for the convolutions, as in torchvision."""
    if isinstance(module, nn.Conv2d):
        init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class ResNet(nn.Module):
    """A 7 x 7 convolution, pooling, four stages of residual blocks, a mean, and a linear layer.

    Args:
        block: :class:`BasicBlock` or :class:`Bottleneck`.
        layers: number of blocks in each of the four stages.
        num_classes: number of scores.
        width: channels of the first stage; each later one doubles them.

    Shapes: input (batch, 3, height, width), 224 x 224 in the paper; output (batch, num_classes).

    Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015.

    Example:
        >>> import chainrule as cr
        >>> ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5, width=4)(cr.ones(2, 3, 32, 32)).shape
        (2, 5)
    """

    def __init__(
        self, block: Block, layers: Sequence[int], num_classes: int = 1000, width: int = 64
    ) -> None:
        if len(layers) != 4:
            raise OptionError(name="layers", expected="four numbers of blocks", got=list(layers))
        step = block.expansion
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(block, width, width, layers[0], 1)
        self.layer2 = _stage(block, width * step, width * 2, layers[1], 2)
        self.layer3 = _stage(block, width * 2 * step, width * 4, layers[2], 2)
        self.layer4 = _stage(block, width * 4 * step, width * 8, layers[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(width * 8 * step, num_classes)
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        """Images to scores."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        scores: Tensor = self.fc(self.avgpool(x).flatten(1))
        return scores


def resnet18(num_classes: int = 1000) -> ResNet:
    """2 + 2 + 2 + 2 basic blocks, 11.7 million parameters."""
    return ResNet(BasicBlock, [2, 2, 2, 2], num_classes)


def resnet34(num_classes: int = 1000) -> ResNet:
    """3 + 4 + 6 + 3 basic blocks, 21.8 million parameters."""
    return ResNet(BasicBlock, [3, 4, 6, 3], num_classes)


def resnet50(num_classes: int = 1000) -> ResNet:
    """3 + 4 + 6 + 3 bottleneck blocks, 25.6 million parameters."""
    return ResNet(Bottleneck, [3, 4, 6, 3], num_classes)


# ------------------------------------------------------------------------------ small images


class CifarResNet(nn.Module):
    """The paper's networks for images of 32 x 32: three stages of 16, 32 and 64 channels.

    Where a stage begins, a 1 x 1 convolution makes x fit (the paper's option B).

    Args:
        depth: 6 n + 2, n blocks in each stage: 20, 32, 44, 56, 110.
        num_classes: number of scores.
        width: channels of the first stage.

    Shapes: input (batch, 3, height, width), output (batch, num_classes).

    Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015, 4.2.

    Example:
        >>> import chainrule as cr
        >>> CifarResNet(8, width=4)(cr.ones(2, 3, 32, 32)).shape
        (2, 10)
    """

    def __init__(self, depth: int = 20, num_classes: int = 10, width: int = 16) -> None:
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise OptionError(name="depth", expected="6 n + 2: 8, 14, 20, 32 ...", got=depth)
        self.conv1 = _conv3(3, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = _stage(BasicBlock, width, width, blocks, 1)
        self.layer2 = _stage(BasicBlock, width, width * 2, blocks, 2)
        self.layer3 = _stage(BasicBlock, width * 2, width * 4, blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(width * 4, num_classes)
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        """Images to scores."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        scores: Tensor = self.fc(self.avgpool(x).flatten(1))
        return scores


def resnet20(num_classes: int = 10) -> CifarResNet:
    """The network of 20 layers for images of 32 x 32, 0.27 million parameters."""
    return CifarResNet(20, num_classes)
