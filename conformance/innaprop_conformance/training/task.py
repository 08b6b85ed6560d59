"""The task: data, initial weights, batches and hyperparameters, the same in every framework."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from innaprop_core import Hyperparameters

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Training:
    """The results of a training run."""

    losses: list[float]
    """Mean cross-entropy of each step's batch before the update, in nats."""
    accuracy: float
    """Fraction of the test images classified correctly, in [0, 1]."""


@dataclass(frozen=True)
class Task:
    """64 pixels -> ``hidden`` ReLU units -> 10 classes, on 1,797 images of 8 x 8.

    Args:
        steps: Number of updates. Default 400.
        batch_size: Images per update. Default 64.
        hidden: Hidden units. Default 32.
        seed: Seeds the split, the initial weights and the batches. Default 0.
        hyperparameters: Default: the paper's, with weight decay 0.01 and gamma 1e-3.
    """

    steps: int = 400
    batch_size: int = 64
    hidden: int = 32
    seed: int = 0
    hyperparameters: Hyperparameters = Hyperparameters()

    @cached_property
    def _split(self) -> tuple[Float32, Float32, Int64, Int64]:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        x_train, x_test, y_train, y_test = train_test_split(
            (images / 16).astype(np.float32),
            labels.astype(np.int64),
            test_size=0.2,
            stratify=labels,
            random_state=self.seed,
        )
        return x_train, x_test, y_train, y_test

    @property
    def test(self) -> tuple[Float32, Int64]:
        """Test images, of shape (360, 64), and their labels."""
        _, x, _, y = self._split
        return x, y

    def batches(self) -> Iterator[tuple[Float32, Int64]]:
        """Yield the images, of shape (batch_size, 64), and labels of every step."""
        x, _, y, _ = self._split
        rng = np.random.default_rng([self.seed, 1])
        for _ in range(self.steps):
            chosen = rng.choice(len(x), self.batch_size, replace=False)
            yield x[chosen], y[chosen]

    def weights(self) -> list[Float32]:
        """Return the initial kernel and bias of both layers, kernels of shape (in, out)."""
        rng = np.random.default_rng([self.seed, 0])
        sizes = [(64, self.hidden), (self.hidden, 10)]
        weights = []
        for inputs, outputs in sizes:
            kernel = rng.normal(scale=np.sqrt(2 / inputs), size=(inputs, outputs))
            weights += [kernel.astype(np.float32), np.zeros(outputs, np.float32)]
        return weights
