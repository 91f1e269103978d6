"""The networks of images that are measured, written once for both libraries: ``nn`` is either's."""

from __future__ import annotations

from typing import Any


def digits(nn: Any) -> Any:
    """W3: two convolutions and two linear layers on digits of 28 x 28."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 10),
    )  # fmt: skip


def resnet20(nn: Any) -> Any:
    """W4: the residual network of 20 layers for images of 32 x 32.

    Source: He et al., "Deep residual learning for image recognition", 2016; with projections.
    """

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
            self.short = nn.Sequential()
            if inputs != outputs:
                project = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.short = nn.Sequential(project, nn.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            y = nn.functional.relu(self.norm1(self.conv1(x)))
            return nn.functional.relu(self.norm2(self.conv2(y)) + self.short(x))

    class ResNet(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
            width = 16
            for outputs in (16, 32, 64):
                for _ in range(3):
                    layers.append(Block(width, outputs, outputs // width))
                    width = outputs
            self.body, self.head = nn.Sequential(*layers), nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.body(x).mean((2, 3)))

    return ResNet()


def detector(nn: Any) -> Any:
    """W7: four times convolution, norm, leaky ReLU and pooling; 27 numbers for each of 8 x 8."""
    layers: list[Any] = []
    inputs = 3
    for outputs in (16, 32, 64, 128):
        layers += [
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
            nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        ]  # fmt: skip
        inputs = outputs
    return nn.Sequential(*layers, nn.Conv2d(128, 27, 1))
