"""The core's reference optimizer on NumPy arrays."""

import copy
import pickle
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

import innaprop
from innaprop_conformance.backends.protocol import PLAIN
from innaprop_conformance.backends.states import OTHERS, file_of_state, write_counted
from innaprop_conformance.backends.stepping import SteppingBackend
from innaprop_conformance.cases import Array, Case, Event
from innaprop_conformance.training.task import Task, Training
from innaprop_core import BEST_ACCURACY, Hyperparameters, INNAprop


class NumPyBackend(SteppingBackend):
    """``innaprop_core.INNAprop``."""

    distributions = ("numpy",)
    modules = ("numpy",)
    features = (
        PLAIN - {"groups", "decay groups", "damping schedules", "missing gradients"}
    ) | {
        "count", "mixed dtypes", "portable reload", "hand over", "copy", "pickle", "replace",
        "relocate", "defaults", "preset", "psi", "strided gradients", "strided parameters",
    }  # fmt: skip
    optimizers = ("INNAprop",)

    def begin(self, case: Case, dtype: str) -> None:
        self._case, self._storage = case, case.storage(dtype)
        given = [self._array(p, d) for p, d in zip(case.parameters(), self._storage, strict=True)]
        for i, array in enumerate(given):
            self.watch(f"initial parameter {i}", array)
        values = asdict(case.groups[0].hyperparameters)
        if case.way == "defaults":
            self._optimizer = INNAprop(given)
        else:
            values |= dict(BEST_ACCURACY) if case.way == "preset" else {}
            self._optimizer = INNAprop(given, Hyperparameters(**values))
        if case.counted:
            with file_of_state() as path:
                write_counted(path, case, self._names)
                innaprop.load_state(path, self._optimizer, self._names)

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        present = [
            self._array(g, d)
            for g, d in zip(gradients, self._storage, strict=True)
            if g is not None
        ]
        for i, array in enumerate(present):
            self.watch(f"gradient {i}", array)
        gamma = None if self._case.way == "defaults" else gammas[0]
        with np.errstate(invalid="ignore"):  # Some gradients are NaN or infinite.
            self._optimizer.step(present, gamma=gamma)

    def parameters(self) -> Sequence[NDArray[np.floating]]:
        return self._optimizer.parameters

    def observed(self) -> Sequence[NDArray[np.floating]]:
        return self._optimizer.psi if self._case.way == "psi" else self.parameters()

    def happen(self, event: Event) -> None:
        old = self._optimizer
        values: list[Any] = [p.copy() for p in old.parameters]
        if event.kind == "replace":
            assert event.parameter is not None
            new = self._case.replacement(event).astype(self._storage[event.parameter])
            values[event.parameter] = new
        if event.kind in ("replace", "relocate"):
            old.parameters = values
        elif event.kind == "portable reload":
            with file_of_state() as path:
                innaprop.save_state(path, old, self._names)
                self._optimizer = INNAprop(values, Hyperparameters(**asdict(OTHERS)))
                innaprop.load_state(path, self._optimizer, self._names)
        elif event.kind == "hand over":
            self._optimizer = INNAprop(values, old.hyperparameters)
            m, v = old.m, old.v
            for i, array in enumerate([*m, *v]):
                self.watch(f"array {i} of the state", array)
            self._optimizer.set_state(k=old.k, m=m, v=v)
        else:
            copied = {"copy": copy.deepcopy, "pickle": lambda o: pickle.loads(pickle.dumps(o))}
            self._optimizer = copied[event.kind](old)
            old.step([np.ones_like(p) for p in old.parameters])

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.numpy import train

        return train(task, progress)

    @property
    def _names(self) -> list[str]:
        return [f"p{i}" for i in range(len(self._storage))]

    def _array(self, values: Array, dtype: str) -> NDArray[np.floating]:
        array = values.astype(dtype)
        if self._case.way not in ("strided gradients", "strided parameters"):
            return array
        return array.T.copy().T if array.ndim > 1 else np.repeat(array, 2)[::2].reshape(array.shape)
