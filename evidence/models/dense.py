"""Layers that see all of an image at once."""

from torch import nn


def mlp(inputs: int, classes: int, width: int, *, smooth: bool = False) -> nn.Sequential:
    """Return a network of two hidden layers; ``smooth`` takes tanh, which has a curvature."""
    bend = nn.Tanh if smooth else nn.ReLU
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, width),
        bend(),
        nn.Linear(width, width),
        bend(),
        nn.Linear(width, classes),
    )
