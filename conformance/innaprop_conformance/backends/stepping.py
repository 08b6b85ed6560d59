"""Backends for optimizers that make one update at a time."""

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
"""Returns the value of an object: a NumPy array, or something that compares by ``==``."""


def itself(given: Any) -> Any:
    """Return the argument."""
    return given


class SteppingBackend(Backend):
    """A backend that makes an optimizer and calls it for every update.

    A subclass has to implement ``begin``, ``step`` and ``parameters``. If it declares events or
    ways as features, it also implements ``happen``, or takes ``case.way`` into account.
    """

    _watched: dict[str, tuple[Any, Read, Any]]

    @abstractmethod
    def begin(self, case: Case, dtype: str) -> None:
        """Make the case's parameters in this dtype, and an optimizer with its groups."""

    @abstractmethod
    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        """Make one update.

        Args:
            gradients: One per parameter, of its shape, float64; None if it has none.
            gammas: Step size of each group.
        """

    @abstractmethod
    def parameters(self) -> Sequence[NDArray[np.floating]]:
        """Return the current parameters, in the order of the case.

        They are float32 for bfloat16 parameters, and for 16-bit parameters with residuals, whose
        master weights are returned.
        """

    def observed(self) -> Sequence[NDArray[np.floating]]:
        """Return what is judged in the case's way. Default: the parameters."""
        return self.parameters()

    def happen(self, event: Event) -> None:
        """Make an event happen, before the next update. Default: not supported.

        ``step`` is also called for a skipped update; all gradients are None then.

        Raises:
            ValueError: The event is not supported.
        """
        raise ValueError(f"{type(self).__name__} does not support the event {event.kind!r}")

    def threads(self, number: int) -> AbstractContextManager[None]:
        """Return a context in which updates use this number of threads. Default: not supported.

        Raises:
            ValueError: The number of threads cannot be set.
        """
        raise ValueError(f"{type(self).__name__} does not support setting the number of threads")

    def watch(self, name: str, given: Any, read: Read = itself) -> None:
        """Check after every update that an object given to the optimizer has not changed.

        Its value must remain bitwise equal. A second object of the same name replaces the first.

        Args:
            name: Name of the object in messages.
            given: The object.
            read: Returns its value, as a NumPy array or as something that compares by ``==``.
                Default: the object itself.
        """
        self._watched[name] = (given, read, copy.deepcopy(read(given)))

    def forget_watched(self, prefix: str) -> None:
        """Stop watching objects whose names start with a prefix."""
        self._watched = {n: w for n, w in self._watched.items() if not n.startswith(prefix)}

    def follow(self, case: Case, dtype: str) -> Array:
        """Run a case; return what is judged after every update, of shape (steps, elements).

        Raises:
            BrokenPromiseError: An object given to the optimizer was changed, or a repeated run
                differs where it must be bitwise equal.
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
                raise BrokenPromiseError(
                    f"differs from the repeated run ({repeat}) at update {update}", theta
                )
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
        """Return a message about a watched object that an update has changed, or ""."""
        for name, (given, read, before) in self._watched.items():
            if not _equal(read(given), before):
                return f"update {update} has changed {name}"
        return ""


def _equal(one: Any, other: Any) -> bool:
    if not isinstance(one, np.ndarray):
        return bool(one == other)
    return bool(one.dtype == other.dtype) and one.tobytes() == other.tobytes()


def _checked(parameter: NDArray[np.floating], dtype: str) -> NDArray[np.floating]:
    # NumPy has no bfloat16, so these come as float32.
    is_single = has_residual(dtype) or stored_as(dtype) == "bfloat16"
    wanted = "float32" if is_single else stored_as(dtype)
    if str(parameter.dtype) != wanted:
        raise TypeError(f"parameters must be {wanted}, got {parameter.dtype}")
    return parameter
