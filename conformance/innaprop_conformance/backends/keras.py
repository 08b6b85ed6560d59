"""``innaprop.keras`` on each Keras backend, compiled as ``model.fit`` does it there, and eager."""

import importlib
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends.protocol import PLAIN, WithCompiler
from innaprop_conformance.backends.stepping import SteppingBackend
from innaprop_conformance.cases import Array, Case, few, some
from innaprop_conformance.training.task import Task, Training

Apply = Callable[[list[Any]], None]
"""Makes an update with gradients."""


def in_function(apply: Apply, **options: Any) -> Apply:
    """Return an update inside ``tf.function``."""
    function = importlib.import_module("tensorflow").function(apply, **options)
    return lambda gradients: function(gradients)


def jitted(optimizer: Any, variables: list[Any]) -> Apply:
    """Return an update through ``stateless_apply`` under ``jax.jit``."""
    update = importlib.import_module("jax").jit(optimizer.stateless_apply)

    def apply(gradients: list[Any]) -> None:
        own = optimizer.variables
        values, state = update([v.value for v in own], gradients, [v.value for v in variables])
        for variable, value in zip([*variables, *own], [*values, *state], strict=True):
            variable.assign(value)

    return apply


class _KerasBackend(SteppingBackend):
    features = PLAIN - {"groups"}
    # Keras counts iterations for all variables.
    counts = "run"
    optimizers: ClassVar[tuple[str, ...]] = ("INNAprop", "AdamW")
    stored_as: ClassVar[str | None] = None
    """Dtype of the variables, if it is not the one that is asked for."""

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return some: every case is traced or compiled anew, or every update takes long."""
        return some()

    def begin(self, case: Case, dtype: str) -> None:
        import keras

        from innaprop.keras import INNAprop

        # Keras holds the learning rate in floatx.
        keras.config.set_floatx(dtype)
        self._dtype = self.stored_as or dtype
        self._variables = [keras.Variable(p, dtype=self._dtype) for p in case.parameters()]
        # Groups differ in nothing but in whether their weights decay.
        group = max(case.groups, key=lambda group: group.hyperparameters.weight_decay)
        h = group.hyperparameters
        self._optimizer = INNAprop(
            h.gamma,
            group.alpha or h.alpha,
            group.beta or h.beta,
            h.sigma,
            h.eps,
            h.weight_decay,
            decay_momentum=h.decay_momentum,
        )
        self._optimizer.exclude_from_weight_decay(
            [
                variable
                for variable, owner in zip(self._variables, case.owners, strict=True)
                if owner.hyperparameters.weight_decay != h.weight_decay
            ]
        )
        self._optimizer.build(self._variables)
        self._apply = self._make_apply()

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        import keras

        self._optimizer.learning_rate = gammas[0]
        self._apply(
            [None if g is None else keras.ops.convert_to_tensor(g, self._dtype) for g in gradients]
        )

    def parameters(self) -> list[NDArray[np.floating]]:
        import keras

        return [keras.ops.convert_to_numpy(v) for v in self._variables]

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.keras import train

        return train(task, optimizer, progress)

    def _make_apply(self) -> Apply:
        return lambda gradients: self._optimizer.apply(gradients, self._variables)


class _Few(_KerasBackend):
    """Another mode or storage of a backend, of which every update or every case takes long."""

    features = _KerasBackend.features - {"long runs"}
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few: the backend itself follows more."""
        return few()


class _BFloat16(_Few):
    """Variables in bfloat16: together with their residuals they are to be float32's trajectory."""

    dtypes = ("float32",)
    stored_as = "bfloat16"

    def parameters(self) -> list[NDArray[np.floating]]:
        import keras

        return [
            keras.ops.convert_to_numpy(self._optimizer.master_weights(v)) for v in self._variables
        ]


class _Eager(_Few):
    """Operation by operation, where the framework would compile; which follows float64 too."""

    mode = "eager"
    dtypes = ("float32",)

    def _make_apply(self) -> Apply:
        return _KerasBackend._make_apply(self)


class KerasOnTensorFlow(_KerasBackend):
    """``innaprop.keras.INNAprop`` on TensorFlow, inside ``tf.function``."""

    mode = "compiled"
    distributions = ("keras", "tensorflow")
    modules = ("keras", "tensorflow")
    environment = MappingProxyType({"KERAS_BACKEND": "tensorflow"})

    def _make_apply(self) -> Apply:
        return in_function(super()._make_apply())


class KerasOnTensorFlowXLA(_Few, KerasOnTensorFlow):
    """``innaprop.keras.INNAprop`` on TensorFlow, inside ``tf.function(jit_compile=True)``."""

    def _make_apply(self) -> Apply:
        return in_function(_KerasBackend._make_apply(self), jit_compile=True)


class KerasOnTensorFlowEagerly(_Eager, KerasOnTensorFlow):
    """``innaprop.keras.INNAprop`` on TensorFlow, eagerly."""


class KerasOnTensorFlowInBFloat16(_BFloat16, KerasOnTensorFlow):
    """``innaprop.keras.INNAprop`` on TensorFlow, with bfloat16 variables."""


class KerasOnJAX(_KerasBackend):
    """``innaprop.keras.INNAprop`` on JAX, through ``stateless_apply`` under ``jax.jit``."""

    mode = "compiled"
    distributions = ("keras", "jax")
    modules = ("keras", "jax")
    environment = MappingProxyType({"KERAS_BACKEND": "jax"})

    def begin(self, case: Case, dtype: str) -> None:
        jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", dtype == "float64")
        super().begin(case, dtype)

    def _make_apply(self) -> Apply:
        return jitted(self._optimizer, self._variables)


class KerasOnJAXEagerly(_Eager, KerasOnJAX):
    """``innaprop.keras.INNAprop`` on JAX, eagerly."""


class KerasOnJAXInBFloat16(_BFloat16, KerasOnJAX):
    """``innaprop.keras.INNAprop`` on JAX, with bfloat16 variables."""


class KerasOnTorch(_KerasBackend):
    """``innaprop.keras.INNAprop`` on PyTorch."""

    distributions = ("keras", "torch")
    modules = ("keras", "torch")
    environment = MappingProxyType({"KERAS_BACKEND": "torch"})


class KerasOnTorchCompiled(WithCompiler, _Few, KerasOnTorch):
    """``innaprop.keras.INNAprop`` on PyTorch, inside ``torch.compile``."""

    mode = "compiled"
    # A step without one of its gradients is compiled anew.
    features = _Few.features - {"missing gradients"}
    compilers = ("c++", "g++", "clang++")
    dtypes = ("float32",)

    def _make_apply(self) -> Apply:
        compiler = importlib.import_module("torch")
        compiler.compiler.reset()
        compiled: Apply = compiler.compile(super()._make_apply())
        return compiled


class KerasOnTorchInBFloat16(_BFloat16, KerasOnTorch):
    """``innaprop.keras.INNAprop`` on PyTorch, with bfloat16 variables."""
