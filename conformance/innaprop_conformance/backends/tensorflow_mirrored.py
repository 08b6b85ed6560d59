"""``innaprop.tensorflow`` on two replicas of ``tf.distribute.MirroredStrategy``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends.stepping import SteppingBackend
from innaprop_conformance.backends.tensorflow import make_optimizer
from innaprop_conformance.cases import Array, Case, few


class TensorFlowMirrored(SteppingBackend):
    """Each of the two replicas, on half a CPU, has gradients whose sum is the case's."""

    distributions = ("tensorflow",)
    modules = ("tensorflow",)
    mode = "distributed"
    features = frozenset({"damping schedules"})

    def __init__(self) -> None:
        import tensorflow as tf

        # Only a TensorFlow that has not started yet lets its CPU be divided.
        (cpu,) = tf.config.list_physical_devices("CPU")
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
        self._strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few: every step waits for two replicas."""
        return few()

    def begin(self, case: Case, dtype: str) -> None:
        import tensorflow as tf

        self._dtype = dtype
        with self._strategy.scope():
            self._variables = [tf.Variable(p, dtype=dtype) for p in case.parameters()]
            optimizer = self._optimizer = make_optimizer(case.group, self._variables)

        def replica(gradients: list[Any]) -> None:
            index = tf.distribute.get_replica_context().replica_id_in_sync_group
            # Exact in binary, and of sum one.
            share = tf.gather(tf.constant([0.75, 0.25], dtype), index)
            optimizer.apply([share * g for g in gradients], self._variables)

        @tf.function  # type: ignore[untyped-decorator]
        def apply(gradients: list[Any]) -> None:
            self._strategy.run(replica, args=(gradients,))

        self._apply = apply

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        import tensorflow as tf

        (self._optimizer.learning_rate,) = gammas
        self._apply([tf.constant(g, dtype=self._dtype) for g in gradients])

    def parameters(self) -> list[NDArray[np.floating]]:
        values = [[part.numpy() for part in v.values] for v in self._variables]
        for first, second in values:
            if not np.array_equal(first, second, equal_nan=True):
                raise ValueError("the replicas have come to different parameters")
        return [first for first, _ in values]
