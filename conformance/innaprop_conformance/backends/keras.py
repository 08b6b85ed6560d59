"""``innaprop.keras`` on each Keras backend, compiled as by ``model.fit``, and eager."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends.protocol import PLAIN, WithCompiler
from innaprop_conformance.backends.stepping import SteppingBackend
from innaprop_conformance.backends.torch import torch_threads
from innaprop_conformance.cases import CASES, Array, Case, Event, few, some
from innaprop_conformance.cases.dtypes import (
    FOLLOWED_WITH_NARROW_STATE,
    NARROW_STATE,
    STORAGE,
    has_narrow_state,
    has_residual,
)
from innaprop_conformance.training.task import Task, Training

EVENTS = frozenset(
    {
        "reload", "portable reload", "hand over", "copy", "pickle", "replace", "skip", "count",
        "mixed dtypes", "change alpha", "change beta", "change sigma", "change eps",
        "change weight_decay",
    }
)  # fmt: skip
"""Events that the Keras backends support."""
WAYS = frozenset(
    {
        "defaults", "preset", "loss scaling", "accumulation", "clip by value", "clip by norm",
        "clip by global norm", "moving average", "constraint", "excluded by name",
        "step size schedule", "step size function", "psi",
    }
)  # fmt: skip
"""Ways that Keras supports on every backend."""
TORCH_ONLY = frozenset(
    {"relocate", "strided gradients", "strided parameters", "one thread", "three threads"}
)
"""Features on PyTorch only: its tensors have strides, and its number of threads can be set."""

Apply = Callable[[list[Any]], None]
"""Makes an update with these gradients."""


def in_function(apply: Apply, **options: Any) -> Apply:
    """Return the update wrapped in ``tf.function``."""
    function = importlib.import_module("tensorflow").function(apply, **options)
    return lambda gradients: function(gradients)


def jitted(optimizer: Any, variables: list[Any]) -> Apply:
    """Return an update that calls ``stateless_apply`` under ``jax.jit``."""
    update = importlib.import_module("jax").jit(optimizer.stateless_apply)

    def apply(gradients: list[Any]) -> None:
        own = optimizer.variables
        values, state = update([v.value for v in own], gradients, [v.value for v in variables])
        for variable, value in zip([*variables, *own], [*values, *state], strict=True):
            variable.assign(value)

    return apply


class KerasBackend(SteppingBackend):
    """``innaprop.keras.INNAprop`` with the weights of a model."""

    features = (PLAIN - {"groups"}) | EVENTS | WAYS
    # Keras has one count of iterations for all variables.
    counts = "run"
    dtypes: ClassVar[tuple[str, ...]] = (*STORAGE, *NARROW_STATE)
    optimizers: ClassVar[tuple[str, ...]] = ("INNAprop", "AdamW")
    mutable_tensors: ClassVar[bool] = False
    """Whether an update could modify the gradients that it is given."""

    _model: Any
    _variables: list[Any]
    _optimizer: Any
    _outer: Any

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a part of the cases, since compiling each takes long, or updates are slow."""
        return {**some(), "large,million": CASES["large,million"]}

    @classmethod
    def lacks(cls, case: Case, dtype: str) -> str:
        """Return why it does not run a case in a dtype; with residuals it runs only a few."""
        if has_narrow_state(dtype):
            if case.name not in FOLLOWED_WITH_NARROW_STATE:
                return "takes too long"
        elif has_residual(dtype) and "float16" not in case.dtypes:
            return "takes too long"
        if has_residual(dtype) and case.way in ("moving average", "constraint"):
            return "averages and constraints see the rounded weights"
        if len(case.shapes) > 100 and dtype != "float32":
            return "takes too long"
        return super().lacks(case, dtype)

    def begin(self, case: Case, dtype: str) -> None:
        import keras

        from innaprop_conformance.backends import keras_events

        self._case, self._storage = case, case.storage(dtype)
        self._given_gammas = [group.hyperparameters.gamma for group in case.groups]
        # Keras stores the learning rate in floatx.
        keras.config.set_floatx("float64" if "float64" in self._storage else "float32")
        self._model = keras_events.model(self)
        self._variables = list(self._model.trainable_variables)
        self.adopt(self._model, keras_events.optimizer(self))
        self._steps = keras_events.steps(case)
        keras_events.watch_options(self)
        if case.counted:
            keras_events.begin_counted(self)

    def adopt(self, model: Any, optimizer: Any) -> None:
        """Continue the run with another model, and an optimizer that is built for it."""
        import keras

        self._model, self._optimizer = model, optimizer
        self._variables = list(model.trainable_variables)
        self._outer = optimizer
        if self._case.way == "loss scaling":
            self._outer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024.0)
            self._outer.build(self._variables)
        self._apply = self._make_apply()

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        # Set only on changes: setting it always would hide values that were loaded wrongly.
        if gammas != self._given_gammas and not self._case.way.startswith("step size"):
            self._optimizer.learning_rate = gammas[0]
            self._given_gammas = gammas
        self._steps(self, gradients)

    def happen(self, event: Event) -> None:
        from innaprop_conformance.backends import keras_events

        keras_events.HAPPEN[event.kind](self, event)

    def parameters(self) -> list[NDArray[np.floating]]:
        from innaprop_conformance.backends import keras_events

        return [
            keras_events.array(self._optimizer.master_weights(v) if has_residual(dtype) else v)
            for v, dtype in zip(self._variables, self._storage, strict=True)
        ]

    def observed(self) -> list[NDArray[np.floating]]:
        from innaprop_conformance.backends import keras_events

        return keras_events.observed(self)

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.keras import train

        return train(task, optimizer, progress)

    def _make_apply(self) -> Apply:
        return lambda gradients: self._outer.apply(gradients, self._variables)


class _Few(KerasBackend):
    """Another mode of a backend, in which each update or each case takes long."""

    features = PLAIN - {"groups", "long runs"}
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float32+state16")
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few cases; the main backend runs more."""
        return few()


class _Eager(_Few):
    """Without compilation."""

    mode = "eager"

    def _make_apply(self) -> Apply:
        return KerasBackend._make_apply(self)


class KerasOnTensorFlow(KerasBackend):
    """``innaprop.keras.INNAprop`` on TensorFlow, inside ``tf.function``."""

    mode = "compiled"
    distributions = ("keras", "tensorflow")
    modules = ("keras", "tensorflow")
    features = KerasBackend.features | {"sparse gradients"}
    environment = MappingProxyType({"KERAS_BACKEND": "tensorflow"})

    def _make_apply(self) -> Apply:
        return in_function(super()._make_apply())


class KerasOnTensorFlowXLA(_Few, KerasOnTensorFlow):
    """``innaprop.keras.INNAprop`` on TensorFlow, inside ``tf.function(jit_compile=True)``."""

    # The XLA kernel is another one, with constants in the dtype of the variables.
    dtypes = ("float32", "float64", "float32+state16")

    def _make_apply(self) -> Apply:
        return in_function(KerasBackend._make_apply(self), jit_compile=True)


class KerasOnTensorFlowEagerly(_Eager, KerasOnTensorFlow):
    """``innaprop.keras.INNAprop`` on TensorFlow, eagerly."""


class KerasOnJAX(KerasBackend):
    """``innaprop.keras.INNAprop`` on JAX, through ``stateless_apply`` under ``jax.jit``."""

    mode = "compiled"
    distributions = ("keras", "jax")
    modules = ("keras", "jax")
    features = KerasBackend.features | {"sparse gradients"}
    environment = MappingProxyType({"KERAS_BACKEND": "jax"})

    def begin(self, case: Case, dtype: str) -> None:
        jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", "float64" in case.storage(dtype))
        super().begin(case, dtype)

    def _make_apply(self) -> Apply:
        return jitted(self._outer, self._variables)


class KerasOnJAXEagerly(_Eager, KerasOnJAX):
    """``innaprop.keras.INNAprop`` on JAX, eagerly."""


class KerasOnTorch(KerasBackend):
    """``innaprop.keras.INNAprop`` on PyTorch."""

    distributions = ("keras", "torch")
    modules = ("keras", "torch")
    features = KerasBackend.features | TORCH_ONLY
    mutable_tensors = True
    environment = MappingProxyType({"KERAS_BACKEND": "torch"})

    def threads(self, number: int) -> AbstractContextManager[None]:
        return torch_threads(number)


class KerasOnTorchCompiled(WithCompiler, _Few, KerasOnTorch):
    """``innaprop.keras.INNAprop`` on PyTorch, inside ``torch.compile``."""

    mode = "compiled"
    # A step with a missing gradient would be compiled again.
    features = _Few.features - {"missing gradients"}
    compilers = ("c++", "g++", "clang++")

    def _make_apply(self) -> Apply:
        compiler = importlib.import_module("torch")
        compiler.compiler.reset()
        compiled: Apply = compiler.compile(super()._make_apply())
        return compiled
