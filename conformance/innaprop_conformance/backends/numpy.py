"""The core's own reference optimizer on NumPy arrays."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends import SteppingBackend
from innaprop_conformance.cases import Array, Case
from innaprop_conformance.training.task import Task, Training
from innaprop_core import INNAprop


class NumPyBackend(SteppingBackend):
    """``innaprop_core.INNAprop``."""

    distributions = ("numpy",)
    modules = ("numpy",)
    features = frozenset({"long runs"})
    optimizers = ("INNAprop",)

    def begin(self, case: Case, dtype: str) -> None:
        parameters = [p.astype(dtype) for p in case.parameters()]
        self._optimizer = INNAprop(parameters, case.group.hyperparameters)
        self._dtype = dtype

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        (gamma,) = gammas
        present = [g.astype(self._dtype) for g in gradients if g is not None]
        self._optimizer.step(present, gamma=gamma)

    def parameters(self) -> list[NDArray[np.floating]]:
        return self._optimizer.parameters

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.numpy import train

        return train(task, progress)
