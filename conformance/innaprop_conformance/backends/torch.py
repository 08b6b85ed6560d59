"""``innaprop.torch``."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends import Backend
from innaprop_conformance.cases import Array
from innaprop_conformance.training.task import Task, Training
from innaprop_core import Hyperparameters


class TorchBackend(Backend):
    """``innaprop.torch.INNAprop``."""

    distributions = ("torch",)
    modules = ("torch",)
    optimizers = ("INNAprop", "AdamW")

    def begin(self, hyperparameters: Hyperparameters, parameters: list[Array], dtype: str) -> None:
        import torch

        from innaprop.torch import INNAprop

        h = hyperparameters
        self._dtype = getattr(torch, dtype)
        self._parameters = [
            torch.nn.Parameter(torch.tensor(p, dtype=self._dtype)) for p in parameters
        ]
        self._optimizer = INNAprop(
            self._parameters, h.gamma, h.alpha, h.beta, h.sigma, h.eps, h.weight_decay
        )

    def step(self, gradients: list[Array], gamma: float) -> None:
        import torch

        for p, g in zip(self._parameters, gradients, strict=True):
            p.grad = torch.tensor(g, dtype=self._dtype)
        self._optimizer.param_groups[0]["lr"] = gamma
        self._optimizer.step()

    def parameters(self) -> list[NDArray[np.floating]]:
        return [p.numpy(force=True) for p in self._parameters]

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.torch import train

        return train(task, optimizer, progress)
