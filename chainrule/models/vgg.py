"""VGG: 3 x 3 convolutions and pooling, again and again. Names of parameters as in torchvision."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule import nn
from chainrule.nn import init
from chainrule.tensor.tensor import Tensor

# Channels of each convolution; "M" is max-pooling.
Layers = Sequence[int | str]

LAYERS: dict[int, Layers] = {
    11: [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    13: [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    16: [64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"],
    19: [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"],
}


class VGG(nn.Module):
    """Convolutions, then three fully connected layers.

    Args:
        layers: channels of each 3 x 3 convolution, "M" for max-pooling.
        batch_norm: batch normalisation after each convolution.
        num_classes: number of scores.
        dropout: share of hidden entries dropped in training.
        hidden: width of the fully connected layers.

    Shapes: input (batch, 3, height, width), 224 x 224 in the paper; output (batch, num_classes).

    Source: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
    recognition", 2014.

    Example:
        >>> import chainrule as cr
        >>> VGG([8, "M", 16, "M"], num_classes=10, hidden=32)(cr.ones(1, 3, 32, 32)).shape
        (1, 10)
    """

    def __init__(
        self,
        layers: Layers,
        batch_norm: bool = False,
        num_classes: int = 1000,
        dropout: float = 0.5,
        hidden: int = 4096,
    ) -> None:
        self.features, channels = _features(layers, batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        """Images to scores."""
        scores: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return scores


def _features(layers: Layers, batch_norm: bool) -> tuple[nn.Sequential, int]:
    made: list[nn.Module] = []
    channels = 3
    for layer in layers:
        if isinstance(layer, str):
            made.append(nn.MaxPool2d(2, 2))
            continue
        made.append(nn.Conv2d(channels, layer, 3, padding=1))
        if batch_norm:
            made.append(nn.BatchNorm2d(layer))
        made.append(nn.ReLU())
        channels = layer
    return nn.Sequential(*made), channels


def _start(module: nn.Module) -> None:
    """torchvision's initial values: He's for the convolutions, N(0, 0.01) for the rest."""
    if isinstance(module, nn.Conv2d):
        init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        init.normal_(module.weight, 0, 0.01)
    else:
        return
    if module.bias is not None:
        init.zeros_(module.bias)


def vgg11(batch_norm: bool = False, num_classes: int = 1000, dropout: float = 0.5) -> VGG:
    """8 convolutions and 3 fully connected layers (with ``batch_norm``: torchvision's vgg11_bn)."""
    return VGG(LAYERS[11], batch_norm, num_classes, dropout)


def vgg13(batch_norm: bool = False, num_classes: int = 1000, dropout: float = 0.5) -> VGG:
    """10 convolutions and 3 fully connected layers."""
    return VGG(LAYERS[13], batch_norm, num_classes, dropout)


def vgg16(batch_norm: bool = False, num_classes: int = 1000, dropout: float = 0.5) -> VGG:
    """13 convolutions and 3 fully connected layers."""
    return VGG(LAYERS[16], batch_norm, num_classes, dropout)


def vgg19(batch_norm: bool = False, num_classes: int = 1000, dropout: float = 0.5) -> VGG:
    """16 convolutions and 3 fully connected layers."""
    return VGG(LAYERS[19], batch_norm, num_classes, dropout)
