"""VGG, ResNet and DenseNet for small images, of any width and depth."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

VGG11 = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)
"""Simonyan and Zisserman's A, for 32 by 32 pixels; 0 halves the image."""
RESNET18 = (64, 128, 256, 512)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def vgg(channels: int, classes: int, widths: Sequence[int] = VGG11) -> nn.Sequential:
    """Return a VGG with batch normalisation: a convolution a width, a halving a zero."""
    layers: list[nn.Module] = []
    for width in widths:
        if width:
            layers += [_convolution(channels, width), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(inputs, outputs, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            _convolution(outputs, outputs),
            nn.BatchNorm2d(outputs),
        )
        self.way = nn.Sequential()
        if stride > 1 or inputs != outputs:
            around = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.way = nn.Sequential(around, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        return torch.relu(self.body(x) + self.way(x))


def resnet(
    channels: int, classes: int, widths: Sequence[int] = RESNET18, blocks: int = 2
) -> nn.Sequential:
    """Return a ResNet for small images: no pooling in front, a halving at every new width."""
    first = widths[0]
    layers: list[nn.Module] = [_convolution(channels, first), nn.BatchNorm2d(first), nn.ReLU()]
    channels = first
    for width in widths:
        for _ in range(blocks):
            stride = 2 if width != channels else 1
            layers.append(Residual(channels, width, stride))
            channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )


class Dense(nn.Module):
    """A convolution whose output stands beside its input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), _convolution(inputs, growth))

    def forward(self, x: Tensor) -> Tensor:
        """Return input and output."""
        return torch.cat([x, self.body(x)], 1)


def densenet(
    channels: int, classes: int, growth: int = 8, blocks: Sequence[int] = (3, 3)
) -> nn.Sequential:
    """Return a DenseNet: blocks of dense layers, halvings between."""
    layers: list[nn.Module] = [_convolution(channels, 2 * growth)]
    channels = 2 * growth
    for i, count in enumerate(blocks):
        if i:
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
        for _ in range(count):
            layers.append(Dense(channels, growth))
            channels += growth
    return nn.Sequential(
        *layers,
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, classes),
    )
