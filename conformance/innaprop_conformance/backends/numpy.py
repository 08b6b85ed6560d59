"""The core's own reference optimizer on NumPy arrays."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends import SteppingBackend
from innaprop_conformance.cases import Array
from innaprop_conformance.training.task import Task, Training
from innaprop_core import Hyperparameters, INNAprop


class NumPyBackend(SteppingBackend):
    """``innaprop_core.INNAprop``."""

    distributions = ("numpy",)
    modules = ("numpy",)
    optimizers = ("INNAprop",)

    def begin(self, hyperparameters: Hyperparameters, parameters: list[Array], dtype: str) -> None:
        self._optimizer = INNAprop([p.astype(dtype) for p in parameters], hyperparameters)
        self._dtype = dtype

    def step(self, gradients: list[Array], gamma: float) -> None:
        self._optimizer.step([g.astype(self._dtype) for g in gradients], gamma=gamma)

    def parameters(self) -> list[NDArray[np.floating]]:
        return self._optimizer.parameters

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.numpy import train

        return train(task, progress)
