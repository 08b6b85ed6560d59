"""Keras, on each of its backends."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import innaprop
from innaprop_conformance.backends.keras import Apply, in_function, jitted
from innaprop_conformance.handoff.loop import Array, TrainingLoop
from innaprop_conformance.options import keras_options
from innaprop_core import Hyperparameters


class _KerasTrainingLoop(TrainingLoop):
    def begin(self, hyperparameters: Hyperparameters, values: Sequence[Array], dtype: str) -> None:
        """Make parameters and optimizer."""
        import keras

        from innaprop.keras import INNAprop

        # Keras stores the learning rate in floatx.
        keras.config.set_floatx("float64" if dtype == "float64" else "float32")
        self._dtype = dtype
        self._variables = [keras.Variable(v, dtype=dtype) for v in values]
        self._optimizer = INNAprop(hyperparameters.gamma, **keras_options(hyperparameters))
        self._optimizer.build(self._variables)
        self._apply = self._make_apply()

    def step(self, gradients: Sequence[Array], gamma: float) -> None:
        """Make one update."""
        import keras

        self._optimizer.learning_rate = gamma
        self._apply([keras.ops.convert_to_tensor(g, self._dtype) for g in gradients])

    def values(self) -> list[Array]:
        """Return the parameters, joined with their residuals."""
        import keras

        weights = map(self._optimizer.master_weights, self._variables)
        return [keras.ops.convert_to_numpy(w) for w in weights]

    def put(self, values: Sequence[Array]) -> None:
        """Set the parameters."""
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def save(self, path: Path) -> None:
        """Save the state."""
        innaprop.save_state(path, self._optimizer, self.names(self._variables))

    def load(self, path: Path) -> None:
        """Load a state."""
        innaprop.load_state(path, self._optimizer, self.names(self._variables))

    def _make_apply(self) -> Apply:
        return lambda gradients: self._optimizer.apply(gradients, self._variables)


class KerasOnTensorFlowTrainingLoop(_KerasTrainingLoop):
    """``innaprop.keras.INNAprop`` on TensorFlow, inside ``tf.function``."""

    modules = ("keras", "tensorflow")
    environment = MappingProxyType({"KERAS_BACKEND": "tensorflow"})

    def _make_apply(self) -> Apply:
        return in_function(super()._make_apply())


class KerasOnJAXTrainingLoop(_KerasTrainingLoop):
    """``innaprop.keras.INNAprop`` on JAX, jitted."""

    modules = ("keras", "jax")
    environment = MappingProxyType({"KERAS_BACKEND": "jax"})

    def begin(self, hyperparameters: Hyperparameters, values: Sequence[Array], dtype: str) -> None:
        """Make parameters and optimizer."""
        jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", dtype == "float64")
        super().begin(hyperparameters, values, dtype)

    def _make_apply(self) -> Apply:
        return jitted(self._optimizer, self._variables)


class KerasOnTorchTrainingLoop(_KerasTrainingLoop):
    """``innaprop.keras.INNAprop`` on PyTorch."""

    modules = ("keras", "torch")
    environment = MappingProxyType({"KERAS_BACKEND": "torch"})
