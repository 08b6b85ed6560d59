"""The interface of a training loop in one framework, whose state can be saved and loaded."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from innaprop_core import Hyperparameters, residual

Array = NDArray[np.floating]


class TrainingLoop(ABC):
    """A training loop as a user of the framework writes it, for parameters p0, p1 and so on."""

    modules: ClassVar[tuple[str, ...]]
    """Modules that it needs."""
    environment: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Environment variables of its process."""
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64", "bfloat16")
    """Dtypes of parameters that it supports."""

    @abstractmethod
    def begin(self, hyperparameters: Hyperparameters, values: Sequence[Array], dtype: str) -> None:
        """Make parameters with these values in this dtype, and an optimizer for them."""

    @abstractmethod
    def step(self, gradients: Sequence[Array], gamma: float) -> None:
        """Make one update with these gradients and this step size."""

    @abstractmethod
    def values(self) -> list[Array]:
        """Return the parameters; the float32 master weights of bfloat16 ones."""

    @abstractmethod
    def put(self, values: Sequence[Array]) -> None:
        """Assign values to the parameters, as when a user loads a model's weights."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Call ``innaprop.save_state``."""

    @abstractmethod
    def load(self, path: Path) -> None:
        """Call ``innaprop.load_state``."""

    @classmethod
    def missing(cls) -> list[str]:
        """Return the modules that it needs and that are missing here."""
        return [name for name in (*cls.modules, "safetensors") if find_spec(name) is None]

    @staticmethod
    def names(parameters: Sequence[Any]) -> dict[str, Any]:
        """Return parameters by name."""
        return {f"p{i}": parameter for i, parameter in enumerate(parameters)}


_LOOPS = {
    "numpy": "numpy:NumPyTrainingLoop",
    "torch": "torch:TorchTrainingLoop",
    "keras-tensorflow": "keras:KerasOnTensorFlowTrainingLoop",
    "keras-jax": "keras:KerasOnJAXTrainingLoop",
    "keras-torch": "keras:KerasOnTorchTrainingLoop",
    "tensorflow": "tensorflow:TensorFlowTrainingLoop",
    "optax": "optax:OptaxTrainingLoop",
}
LOOPS = tuple(_LOOPS)
"""Names of all training loops."""


def load_loop(name: str) -> type[TrainingLoop]:
    """Return the class of a training loop by its name, without importing the framework."""
    module, _, cls = _LOOPS[name].partition(":")
    loop: type[TrainingLoop] = getattr(
        importlib.import_module(f"innaprop_conformance.handoff.{module}"), cls
    )
    return loop


def weights(values: Sequence[Array], dtype: str) -> list[Array]:
    """Return the parameters for their master weights; bfloat16 ones as float32."""
    if dtype != "bfloat16":
        return [np.asarray(value, dtype) for value in values]
    bits = (np.asarray(value, np.float32).view(np.int32) for value in values)
    return [np.asarray(residual.split(b, np.where)[0], np.int32).view(np.float32) for b in bits]
