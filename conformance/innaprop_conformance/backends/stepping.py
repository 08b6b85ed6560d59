"""Backends that make an optimizer and step it."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends.protocol import Backend, BrokenPromiseError
from innaprop_conformance.cases import Array, Case, Event, flat
from innaprop_conformance.cases.dtypes import has_residual, stored_as

Read = Callable[[Any], Any]
"""Reads a value off something: a NumPy array, or what compares by ``==``."""


def itself(given: Any) -> Any:
    """Return what is given."""
    return given


class SteppingBackend(Backend):
    """A backend that makes an optimizer and steps it.

    ``begin``, ``step`` and ``parameters`` are all it takes. Events and ways, for those that
    declare these features, come through ``happen`` and ``case.way``.
    """

    _watched: dict[str, tuple[Any, Read, Any]]

    @abstractmethod
    def begin(self, case: Case, dtype: str) -> None:
        """Make the case's parameters in this dtype, and an optimizer of its groups for them."""

    @abstractmethod
    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        """Make one update: a gradient or None per parameter, a step size per group."""

    @abstractmethod
    def parameters(self) -> Sequence[NDArray[np.floating]]:
        """Return the current parameters, in the order of the case.

        Of 16-bit ones with residuals, the float32 that both together are.
        """

    def observed(self) -> Sequence[NDArray[np.floating]]:
        """Return what is judged: the parameters, or what the case's way says. Default: these."""
        return self.parameters()

    def happen(self, event: Event) -> None:
        """Do what happens before the next update. Default: nothing can.

        Where an update is skipped, ``step`` is called for it, and every gradient is None.
        """
        raise ValueError(f"{type(self).__name__} has no {event.kind!r}")

    def threads(self, number: int) -> AbstractContextManager[None]:
        """Have updates made by a number of threads, inside. Default: none can be set."""
        raise ValueError(f"{type(self).__name__} has no threads to set")

    def watch(self, name: str, given: Any, read: Read = itself) -> None:
        """Have something that was given to the optimizer compared after every update.

        It must stay what it is now, in every bit. Another one of the same name takes its place.

        Args:
            name: What it is called in a message.
            given: What was given.
            read: Returns its value, as a NumPy array or as something that compares by ``==``.
                Default: it is its value.
        """
        self._watched[name] = (given, read, copy.deepcopy(read(given)))

    def forget_watched(self, prefix: str) -> None:
        """Have what was watched under names that begin so no longer compared."""
        self._watched = {n: w for n, w in self._watched.items() if not n.startswith(prefix)}

    def follow(self, case: Case, dtype: str) -> Array:
        """Return what is judged after every update of a case, of shape (steps, elements).

        Raises:
            BrokenPromiseError: Something that was given has been changed, or a run that should be
                equal in every bit is not.
        """
        theta = self._follow(case, dtype)
        for repeat in case.repeats:
            if "thread" in repeat and repeat not in self.features:
                continue
            if repeat == "without events":
                other = self._follow(replace(case, events=()), dtype)
            elif "thread" in repeat:
                with self.threads({"one thread": 1, "three threads": 3}[repeat]):
                    other = self._follow(case, dtype)
            else:
                other = self._follow(case, dtype)
            differ = ~((theta == other) | (np.isnan(theta) & np.isnan(other))).all(axis=1)
            if differ.any():
                update = int(differ.argmax()) + 1
                raise BrokenPromiseError(f"differs from the run {repeat} at update {update}", theta)
        return theta

    def _follow(self, case: Case, dtype: str) -> Array:
        self._watched = {}
        self.begin(case, dtype)
        storage = case.storage(dtype)
        iterates, broken = [], ""
        for updates, gradients in enumerate(case.stream()):
            for event in case.events:
                if event.at == updates:
                    self.happen(event)
            self.step(gradients, case.gammas(updates))
            broken = broken or self._changed(updates + 1)
            observed = self.observed()
            if len(observed) != len(storage):
                raise ValueError(f"there must be {len(storage)} parameters, got {len(observed)}")
            picked = case.picked([_checked(p, d) for p, d in zip(observed, storage, strict=True)])
            iterates.append(flat([p.astype(np.float64) for p in picked]))
        theta = np.array(iterates)
        if broken:
            raise BrokenPromiseError(broken, theta)
        return theta

    def _changed(self, update: int) -> str:
        """Return what an update has changed that is not its own, or nothing."""
        for name, (given, read, before) in self._watched.items():
            if not _equal(read(given), before):
                return f"update {update} has changed {name}"
        return ""


def _equal(one: Any, other: Any) -> bool:
    if not isinstance(one, np.ndarray):
        return bool(one == other)
    return bool(one.dtype == other.dtype) and one.tobytes() == other.tobytes()


def _checked(parameter: NDArray[np.floating], dtype: str) -> NDArray[np.floating]:
    # NumPy has no bfloat16, which float32 holds.
    is_single = has_residual(dtype) or stored_as(dtype) == "bfloat16"
    wanted = "float32" if is_single else stored_as(dtype)
    if str(parameter.dtype) != wanted:
        raise TypeError(f"parameters must be {wanted}, got {parameter.dtype}")
    return parameter
