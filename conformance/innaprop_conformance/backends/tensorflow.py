"""``innaprop.tensorflow``, inside ``tf.function``."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends import SteppingBackend
from innaprop_conformance.cases import Array
from innaprop_conformance.training.task import Task, Training
from innaprop_core import Hyperparameters


class TensorFlowBackend(SteppingBackend):
    """``innaprop.tensorflow.INNAprop``."""

    distributions = ("tensorflow",)
    modules = ("tensorflow",)
    optimizers = ("INNAprop",)

    def begin(self, hyperparameters: Hyperparameters, parameters: list[Array], dtype: str) -> None:
        import tensorflow as tf

        from innaprop.tensorflow import INNAprop

        h = hyperparameters
        self._dtype = dtype
        self._variables = [tf.Variable(p, dtype=dtype) for p in parameters]
        optimizer = self._optimizer = INNAprop(
            h.gamma, h.alpha, h.beta, h.sigma, h.eps, h.weight_decay
        )

        @tf.function  # type: ignore[untyped-decorator]
        def apply(gradients: list[Any]) -> None:
            optimizer.apply_gradients(zip(gradients, self._variables, strict=True))

        self._apply = apply

    def step(self, gradients: list[Array], gamma: float) -> None:
        import tensorflow as tf

        self._optimizer.learning_rate = gamma
        self._apply([tf.constant(g, dtype=self._dtype) for g in gradients])

    def parameters(self) -> list[NDArray[np.floating]]:
        return [v.numpy() for v in self._variables]

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.tensorflow import train

        return train(task, progress)
