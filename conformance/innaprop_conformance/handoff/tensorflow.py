"""TensorFlow."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import innaprop
from innaprop_conformance.handoff.loop import Array, TrainingLoop
from innaprop_conformance.options import keras_options
from innaprop_core import Hyperparameters


class TensorFlowTrainingLoop(TrainingLoop):
    """``innaprop.tensorflow.INNAprop``, inside ``tf.function``."""

    modules = ("tensorflow",)

    def begin(self, hyperparameters: Hyperparameters, values: Sequence[Array], dtype: str) -> None:
        """Make parameters and optimizer."""
        import tensorflow as tf

        from innaprop.tensorflow import INNAprop

        self._dtype = dtype
        self._variables = [
            tf.Variable(v, dtype=dtype, name=name) for name, v in self.names(values).items()
        ]
        optimizer = INNAprop(hyperparameters.gamma, **keras_options(hyperparameters))
        optimizer.build(self._variables)
        self._use(optimizer)

    def _use(self, optimizer: Any) -> None:
        import tensorflow as tf

        self._optimizer = optimizer
        self._apply = tf.function(lambda gradients: optimizer.apply(gradients, self._variables))

    def step(self, gradients: Sequence[Array], gamma: float) -> None:
        """Make one update."""
        import tensorflow as tf

        self._optimizer.learning_rate = gamma
        self._apply([tf.constant(g, self._dtype) for g in gradients])

    def values(self) -> list[Array]:
        """Return the parameters, joined with their residuals."""
        return [self._optimizer.master_weights(v).numpy() for v in self._variables]

    def put(self, values: Sequence[Array]) -> None:
        """Set the parameters."""
        import tensorflow as tf

        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(tf.cast(value, self._dtype))

    def save(self, path: Path) -> None:
        """Save the state."""
        innaprop.save_state(path, self._optimizer)

    def load(self, path: Path) -> None:
        """Load a state."""
        # sigma and others are constants in traced functions, so a copy must take their new values.
        self._use(copy.deepcopy(self._optimizer))
        innaprop.load_state(path, self._optimizer)
