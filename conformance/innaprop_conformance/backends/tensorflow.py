"""``innaprop.tensorflow``: inside ``tf.function``, eager, and compiled by XLA."""

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
"""What can happen to an optimizer in TensorFlow."""
WAYS = frozenset(
    {
        "defaults", "preset", "closure", "loss scaling", "accumulation", "clip by value",
        "clip by norm", "clip by global norm", "step size schedule", "step size function",
        "sparse gradients", "psi",
    }
)  # fmt: skip
"""Ways that there are in TensorFlow."""


class TensorFlowBackend(SteppingBackend):
    """``innaprop.tensorflow.INNAprop`` in a function."""

    distributions = ("tensorflow",)
    modules = ("tensorflow",)
    mode = "compiled"
    features = (PLAIN - {"groups", "decay groups"}) | EVENTS | WAYS
    dtypes: ClassVar[tuple[str, ...]] = (*STORAGE, *NARROW_STATE)
    optimizers: ClassVar[tuple[str, ...]] = ("INNAprop",)
    jit_compile: ClassVar[bool] = False
    eager: ClassVar[bool] = False
    """Whether operations run one by one: then state is made when variables are met, and the
    learning rate is a ``tf.Variable`` of the caller."""

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return some: every case is traced anew."""
        return some() | {"large,million": CASES["large,million"]}

    @classmethod
    def lacks(cls, case: Case, dtype: str) -> str:
        """Return why it does not follow a case in a dtype: to trace all in each takes too long.

        16 bits follow what is about them, float16 a part of that. In float64 events and ways are
        followed operation by operation, without tracing.
        """
        if has_narrow_state(dtype):
            is_left_out = case.name not in FOLLOWED_WITH_NARROW_STATE
        elif _is_narrow(dtype):
            is_about = case.family == "precision" or dtype in case.dtypes
            is_left_out = not is_about or ("float16" in dtype and case.name not in few())
        else:
            families = {"events", "ways", "many parameters"}
            is_left_out = dtype == "float64" and case.family in families and not cls.eager
        return "takes too long" if is_left_out else super().lacks(case, dtype)

    def begin(self, case: Case, dtype: str) -> None:
        from innaprop_conformance.backends import tensorflow_events

        self._case, self._storage = case, case.storage(dtype)
        # With AutoGraph, which is the default, and without, which is faster to trace.
        self._autograph = not _is_narrow(dtype)
        self._given_gammas = [group.hyperparameters.gamma for group in case.groups]
        self._joins = {event.parameter for event in case.events if event.kind == "add"}
        self._variables: list[Any] = []
        self.updated = ExitStack()  # Of what is to be done after the next update.
        for i, (values, of_one) in enumerate(zip(case.parameters(), self._storage, strict=True)):
            given = tensorflow_events.array_of(values, of_one)
            self.watch(f"initial parameter {i}", given)
            self._variables.append(tensorflow_events.variable(given, f"p{i}"))
        self._optimizer = tensorflow_events.make(self)
        self.build()
        if case.counted:
            tensorflow_events.begin_counted(self)
        self.trace()

    def build(self) -> None:
        """Make the state of all variables beforehand, where updates would be too late for it.

        A traced function cannot make it, and saved state is in the order of the variables.
        """
        if not self.eager or (self._case.gaps and self._case.events):
            self._optimizer.build(self.joined())

    def joined(self) -> list[Any]:
        """Return the variables that have not to join yet."""
        return [v for i, v in enumerate(self._variables) if i not in self._joins]

    def trace(self) -> None:
        """Take up the variables and the optimizer that there are now, in a new function."""
        import tensorflow as tf

        from innaprop_conformance.backends import tensorflow_events

        apply = tensorflow_events.update(self._case, self._optimizer, self.joined())
        if not self.eager:
            apply = tf.function(apply, autograph=self._autograph, jit_compile=self.jit_compile)
        self._apply = apply

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        from innaprop_conformance.backends import tensorflow_events

        # Only where they change: what was loaded must not be mended by the caller.
        if gammas != self._given_gammas and not self._case.way.startswith("step size"):
            self._given_gammas = gammas
            self.set_rate(gammas[0])
        if self.eager:
            rate = self._optimizer.learning_rate
            self.watch("the learning rate", rate, tensorflow_events.array)
        self._apply(tensorflow_events.given(self, gradients))
        self.updated.close()

    def set_rate(self, gamma: float) -> None:
        """Set the learning rate: its own variable where it is eager, else the optimizer's."""
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
    """``innaprop.tensorflow.INNAprop``, operation by operation."""

    mode = "eager"
    eager = True
    dtypes = ("float32", "float64", "bfloat16+residual", *NARROW_STATE)
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few, and those of events and ways, in which it differs."""
        events = {name: c for name, c in CASES.items() if c.family in ("events", "ways")}
        return few() | events


class TensorFlowXLA(TensorFlowBackend):
    """``innaprop.tensorflow.INNAprop`` in a function that XLA compiles."""

    jit_compile = True
    dtypes = ("float32", "float64", "bfloat16+residual", *NARROW_STATE)
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few, and what asks most of compiled functions: each is compiled anew."""
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
