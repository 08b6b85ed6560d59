"""``innaprop.tensorflow``: in ``tf.function``, eager, and compiled by XLA."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends.protocol import PLAIN
from innaprop_conformance.backends.stepping import SteppingBackend
from innaprop_conformance.cases import CASES, Array, Case, Event, few, some
from innaprop_conformance.cases.dtypes import (
    FOLLOWED_WITH_NARROW_STATE,
    NARROW_STATE,
    STORAGE,
    has_narrow_state,
    has_residual,
    stored_as,
)
from innaprop_conformance.training.task import Task, Training

EVENTS = frozenset(
    {
        "reload", "portable reload", "hand over", "copy", "pickle", "add", "replace", "skip",
        "count", "mixed dtypes", "change alpha", "change beta", "change sigma", "change eps",
        "change weight_decay",
    }
)  # fmt: skip
"""Events that the TensorFlow backends support."""
WAYS = frozenset(
    {
        "defaults", "preset", "closure", "loss scaling", "accumulation", "clip by value",
        "clip by norm", "clip by global norm", "step size schedule", "step size function",
        "constraint", "sparse gradients", "psi",
    }
)  # fmt: skip
"""Ways that TensorFlow supports."""


class TensorFlowBackend(SteppingBackend):
    """``innaprop.tensorflow.INNAprop`` in ``tf.function``."""

    distributions = ("tensorflow",)
    modules = ("tensorflow",)
    mode = "compiled"
    features = (PLAIN - {"groups", "decay groups"}) | EVENTS | WAYS
    dtypes: ClassVar[tuple[str, ...]] = (*STORAGE, *NARROW_STATE)
    optimizers: ClassVar[tuple[str, ...]] = ("INNAprop",)
    jit_compile: ClassVar[bool] = False
    eager: ClassVar[bool] = False
    """Whether there is no ``tf.function``. The state is then made at the first update, and the
    learning rate is a ``tf.Variable`` of the caller."""

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a part of the cases, since each is traced again."""
        return some() | {"large,million": CASES["large,million"]}

    @classmethod
    def lacks(cls, case: Case, dtype: str) -> str:
        """Return why it does not run a case in a dtype: tracing all in every dtype takes too long.

        In 16 bits it runs a few cases and the one about constraints. In float64,
        only the eager backend runs events and ways.
        """
        if has_residual(dtype) and case.way == "constraint":
            return "constraints see the rounded weights"
        if has_narrow_state(dtype):
            is_left_out = case.name not in FOLLOWED_WITH_NARROW_STATE
        elif _is_narrow(dtype):
            is_left_out = case.name not in few() and case.way != "constraint"
        else:
            families = {"events", "ways", "many parameters"}
            is_left_out = dtype == "float64" and case.family in families and not cls.eager
        return "takes too long" if is_left_out else super().lacks(case, dtype)

    def begin(self, case: Case, dtype: str) -> None:
        from innaprop_conformance.backends import tensorflow_events

        self._case, self._storage = case, case.storage(dtype)
        # AutoGraph is the default. Without it, tracing is faster.
        self._autograph = not _is_narrow(dtype)
        self._given_gammas = [group.hyperparameters.gamma for group in case.groups]
        self._joins = {event.parameter for event in case.events if event.kind == "add"}
        self._variables: list[Any] = []
        self.updated = ExitStack()  # Closed after the next update.
        for i, (values, of_one) in enumerate(zip(case.parameters(), self._storage, strict=True)):
            given = tensorflow_events.array_of(values, of_one)
            self.watch(f"initial parameter {i}", given)
            self._variables.append(tensorflow_events.variable(given, f"p{i}", case))
        self._optimizer = tensorflow_events.make(self)
        self.build()
        if case.counted:
            tensorflow_events.begin_counted(self)
        self.trace()

    def build(self) -> None:
        """Make the state of all variables now, if the first update would be too late.

        A traced function cannot make it. And with missing gradients, updates would not make it in
        the order of the variables, which saved states need.
        """
        if not self.eager or (self._case.gaps and self._case.events):
            self._optimizer.build(self.joined())

    def joined(self) -> list[Any]:
        """Return the variables that have already joined the optimizer."""
        return [v for i, v in enumerate(self._variables) if i not in self._joins]

    def trace(self) -> None:
        """Make a new function for the current variables and optimizer."""
        import tensorflow as tf

        from innaprop_conformance.backends import tensorflow_events

        apply = tensorflow_events.update(self._case, self._optimizer, self.joined())
        if not self.eager:
            apply = tf.function(apply, autograph=self._autograph, jit_compile=self.jit_compile)
        self._apply = apply

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        from innaprop_conformance.backends import tensorflow_events

        # Set only on changes: setting it always would hide values that were loaded wrongly.
        if gammas != self._given_gammas and not self._case.way.startswith("step size"):
            self._given_gammas = gammas
            self.set_rate(gammas[0])
        if self.eager:
            rate = self._optimizer.learning_rate
            self.watch("the learning rate", rate, tensorflow_events.array)
        self._apply(tensorflow_events.given(self, gradients))
        self.updated.close()

    def set_rate(self, gamma: float) -> None:
        """Set the learning rate: the caller's variable if it is eager, else the optimizer's."""
        if self.eager:
            self._optimizer.learning_rate.assign(gamma)
        else:
            self._optimizer.learning_rate = gamma

    def happen(self, event: Event) -> None:
        from innaprop_conformance.backends import tensorflow_events

        tensorflow_events.HAPPEN[event.kind](self, event)

    def parameters(self) -> Sequence[NDArray[np.floating]]:
        from innaprop_conformance.backends import tensorflow_events

        return [
            tensorflow_events.array(self._optimizer.master_weights(v) if has_residual(d) else v)
            for v, d in zip(self._variables, self._storage, strict=True)
        ]

    def observed(self) -> Sequence[NDArray[np.floating]]:
        if self._case.way != "psi":
            return self.parameters()
        return [self._optimizer.psi(v).numpy() for v in self._variables]

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.tensorflow import train

        return train(task, progress)


class TensorFlowEager(TensorFlowBackend):
    """``innaprop.tensorflow.INNAprop``, eager."""

    mode = "eager"
    eager = True
    dtypes = ("float32", "float64", "bfloat16+residual", *NARROW_STATE)
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few cases, and all events and ways, which eager mode may handle differently."""
        events = {name: c for name, c in CASES.items() if c.family in ("events", "ways")}
        return few() | events


class TensorFlowXLA(TensorFlowBackend):
    """``innaprop.tensorflow.INNAprop`` in ``tf.function(jit_compile=True)``."""

    jit_compile = True
    dtypes = ("float32", "float64", "bfloat16+residual", *NARROW_STATE)
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few cases, and the hardest for compiled functions, since each is compiled."""
        chosen = (
            "event,reload",
            "event,add",
            "event,change,alpha",
            "event,change,weight_decay",
            "event,change,and-reload",
            "way,loss-scaling",
            "way,step-size-function",
            "way,sparse-gradients",
        )
        return few() | {name: CASES[name] for name in chosen}


def _is_narrow(dtype: str) -> bool:
    return stored_as(dtype) in ("bfloat16", "float16")
