"""LeNet-5, the first convolutional network that read cheques."""

from __future__ import annotations

from chainrule import nn
from chainrule.tensor.tensor import Tensor


class LeNet(nn.Module):
    """Two convolutions with pooling, then three fully connected layers.

    As it is taught today: ReLU and max-pooling (the paper has a scaled tanh and learned averages).

    Args:
        num_classes: number of scores.
        in_channels: 1 for grey images, 3 for colour.

    Shapes: input (batch, in_channels, 28, 28) or (..., 32, 32), output (batch, num_classes).

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
    recognition", 1998.

    Example:
        >>> import chainrule as cr
        >>> LeNet()(cr.ones(2, 1, 28, 28)).shape
        (2, 10)
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.pool = nn.AdaptiveAvgPool2d(5)  # 28 x 28 images have 5 x 5 here already
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images to scores."""
        scores: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return scores
