"""``innaprop.tensorflow``: inside ``tf.function``, eager, compiled by XLA, and in bfloat16."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends.stepping import SteppingBackend
from innaprop_conformance.cases import Array, Case, Group, Schedule, few, some
from innaprop_conformance.training.task import Task, Training


def make_optimizer(group: Group, variables: list[Any]) -> Any:
    """Return an optimizer of a group, built for variables."""
    import tensorflow as tf

    from innaprop.tensorflow import INNAprop

    def damping(schedule: Schedule | None, value: float) -> Any:
        # TensorFlow does not multiply the integers that it counts in by floats.
        return (lambda n: schedule(tf.cast(n, tf.float64))) if schedule else value

    h = group.hyperparameters
    optimizer = INNAprop(
        h.gamma,
        damping(group.alpha, h.alpha),
        damping(group.beta, h.beta),
        h.sigma,
        h.eps,
        h.weight_decay,
        decay_momentum=h.decay_momentum,
    )
    # A function that is traced cannot make state for a variable that it meets later.
    optimizer.build(variables)
    return optimizer


class TensorFlowBackend(SteppingBackend):
    """``innaprop.tensorflow.INNAprop`` in a function."""

    distributions = ("tensorflow",)
    modules = ("tensorflow",)
    mode = "compiled"
    features = frozenset({"damping schedules", "missing gradients", "long runs"})
    optimizers: ClassVar[tuple[str, ...]] = ("INNAprop",)
    jit_compile: ClassVar[bool] = False
    eager: ClassVar[bool] = False
    stored_as: ClassVar[str | None] = None
    """Dtype of the variables, where it is not the one that is judged."""

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return some: every case is traced anew."""
        return some()

    def begin(self, case: Case, dtype: str) -> None:
        import tensorflow as tf

        self._dtype = self.stored_as or dtype
        self._variables = [tf.Variable(p, dtype=self._dtype) for p in case.parameters()]
        optimizer = self._optimizer = make_optimizer(case.group, self._variables)

        def apply(gradients: list[Any]) -> None:
            optimizer.apply(gradients, self._variables)

        self._apply = apply if self.eager else tf.function(apply, jit_compile=self.jit_compile)

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        import tensorflow as tf

        (self._optimizer.learning_rate,) = gammas
        self._apply([None if g is None else tf.constant(g, dtype=self._dtype) for g in gradients])

    def parameters(self) -> list[NDArray[np.floating]]:
        return [v.numpy() for v in self._variables]

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.tensorflow import train

        return train(task, progress)


class _FewCases(TensorFlowBackend):
    """Another way to run the same code, or one that has to be compiled for every case."""

    features = TensorFlowBackend.features - {"long runs"}
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        return few()


class TensorFlowEager(_FewCases):
    """``innaprop.tensorflow.INNAprop``, operation by operation."""

    mode = "eager"
    eager = True


class TensorFlowXLA(_FewCases):
    """``innaprop.tensorflow.INNAprop`` in a function that XLA compiles."""

    jit_compile = True


class TensorFlowBFloat16(_FewCases):
    """``innaprop.tensorflow.INNAprop`` with bfloat16 variables and their residuals.

    Both together are to be the float32 trajectory.
    """

    dtypes = ("float32",)
    stored_as = "bfloat16"

    def parameters(self) -> list[NDArray[np.floating]]:
        return [self._optimizer.master_weights(v).numpy() for v in self._variables]
