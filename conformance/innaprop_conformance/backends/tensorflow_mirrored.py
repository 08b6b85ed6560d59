"""``innaprop.tensorflow`` on two replicas of ``tf.distribute.MirroredStrategy``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends.tensorflow import TensorFlowBackend
from innaprop_conformance.cases import CASES, Case, Event, few


class TensorFlowMirrored(TensorFlowBackend):
    """``innaprop.tensorflow.INNAprop`` on two replicas, whose gradients sum up to the case's."""

    mode = "distributed"
    features = TensorFlowBackend.features - {"closure", "loss scaling", "copy", "pickle"}
    dtypes = ("float32", "float64", "float32+state16")
    optimizers = ()

    def __init__(self) -> None:
        import tensorflow as tf

        # Logical devices can be configured only before TensorFlow is initialized.
        (cpu,) = tf.config.list_physical_devices("CPU")
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
        self._strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few cases, since every step synchronizes two replicas."""
        chosen = ("event,reload", "event,portable-reload", "event,add", "way,sparse-gradients")
        return few() | {name: CASES[name] for name in chosen}

    def begin(self, case: Case, dtype: str) -> None:
        with self._strategy.scope():
            super().begin(case, dtype)

    def happen(self, event: Event) -> None:
        with self._strategy.scope():
            super().happen(event)

    def trace(self) -> None:
        import tensorflow as tf

        from innaprop_conformance.backends import tensorflow_events

        apply = tensorflow_events.update(self._case, self._optimizer, self.joined())

        def replica(gradients: list[Any]) -> None:
            index = tf.distribute.get_replica_context().replica_id_in_sync_group
            share = tf.gather(tf.constant(tensorflow_events.SHARES), index)

            def part(given: Any) -> Any:
                is_value = given is not None and given.dtype.is_floating
                return tf.cast(share, given.dtype) * given if is_value else given

            apply(tf.nest.map_structure(part, gradients))

        @tf.function  # type: ignore[untyped-decorator]
        def apply_on_each(gradients: list[Any]) -> None:
            self._strategy.run(replica, args=(gradients,))

        self._apply = apply_on_each

    def parameters(self) -> Sequence[NDArray[np.floating]]:
        values = [[part.numpy() for part in v.values] for v in self._variables]
        for first, second in values:
            if not np.array_equal(first, second, equal_nan=True):
                raise ValueError("the replicas have come to different parameters")
        return [first for first, _ in values]
