"""``innaprop.keras`` on each Keras backend, stepping as ``model.fit`` does there."""

import importlib
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends import SteppingBackend
from innaprop_conformance.cases import Array
from innaprop_conformance.training.task import Task, Training
from innaprop_core import Hyperparameters


class _KerasBackend(SteppingBackend):
    optimizers = ("INNAprop", "AdamW")

    def begin(self, hyperparameters: Hyperparameters, parameters: list[Array], dtype: str) -> None:
        import keras

        from innaprop.keras import INNAprop

        # Keras holds the learning rate in floatx.
        keras.config.set_floatx(dtype)
        h = hyperparameters
        self._dtype = dtype
        self._variables = [keras.Variable(p.astype(dtype), dtype=dtype) for p in parameters]
        self._optimizer = INNAprop(h.gamma, h.alpha, h.beta, h.sigma, h.eps, h.weight_decay)
        self._optimizer.build(self._variables)
        self._apply = self._make_apply()

    def step(self, gradients: list[Array], gamma: float) -> None:
        self._optimizer.learning_rate = gamma
        self._apply([self._tensor(g.astype(self._dtype)) for g in gradients])

    def parameters(self) -> list[NDArray[np.floating]]:
        import keras

        return [keras.ops.convert_to_numpy(v) for v in self._variables]

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.keras import train

        return train(task, optimizer, progress)

    def _make_apply(self) -> Callable[[list[Any]], None]:
        return lambda gradients: self._optimizer.apply(gradients, self._variables)

    def _tensor(self, value: NDArray[np.floating]) -> Any:
        import keras

        return keras.ops.convert_to_tensor(value)


class KerasOnTensorFlow(_KerasBackend):
    """``innaprop.keras.INNAprop`` on TensorFlow, inside ``tf.function``."""

    distributions = ("keras", "tensorflow")
    modules = ("keras", "tensorflow")
    environment = MappingProxyType({"KERAS_BACKEND": "tensorflow"})

    def _make_apply(self) -> Callable[[list[Any]], None]:
        apply = importlib.import_module("tensorflow").function(super()._make_apply())
        return lambda gradients: apply(gradients)


class KerasOnJAX(_KerasBackend):
    """``innaprop.keras.INNAprop`` on JAX, through ``stateless_apply`` under ``jax.jit``."""

    distributions = ("keras", "jax")
    modules = ("keras", "jax")
    environment = MappingProxyType({"KERAS_BACKEND": "jax"})

    def begin(self, hyperparameters: Hyperparameters, parameters: list[Array], dtype: str) -> None:
        jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", dtype == "float64")
        super().begin(hyperparameters, parameters, dtype)

    def _make_apply(self) -> Callable[[list[Any]], None]:
        jitted = importlib.import_module("jax").jit(self._optimizer.stateless_apply)

        def apply(gradients: list[Any]) -> None:
            state = self._optimizer.variables
            values, new_state = jitted(
                [v.value for v in state], gradients, [v.value for v in self._variables]
            )
            for variable, value in zip(
                [*self._variables, *state], [*values, *new_state], strict=True
            ):
                variable.assign(value)

        return apply


class KerasOnTorch(_KerasBackend):
    """``innaprop.keras.INNAprop`` on PyTorch."""

    distributions = ("keras", "torch")
    modules = ("keras", "torch")
    environment = MappingProxyType({"KERAS_BACKEND": "torch"})
