"""Backends: one implementation of INNAprop each, behind one protocol.

A backend is a class, found through the entry-point group ``innaprop.backends`` under its
name, or as ``MODULE:CLASS``. Importing its module must not import its framework: the suite lists
backends that are not installed, and gives each that is a process of its own.
"""

import importlib.util
import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.cases import CASES, Array, Case, flat
from innaprop_conformance.training.task import Task, Training

GROUP = "innaprop.backends"
EVERYTHING = frozenset(
    {"groups", "decay groups", "damping schedules", "missing gradients", "long runs"}
)
"""Every feature that a case may ask for."""


class Backend(ABC):
    """An implementation of INNAprop that can be told what to follow.

    ``follow`` is what a backend has to do; ``SteppingBackend`` does it for those that can make
    one update after another. It is asked for the cases whose features it declares. ``train`` is
    for those that can also train the demonstration's network.
    """

    distributions: ClassVar[tuple[str, ...]]
    """Distributions whose versions the report names."""
    modules: ClassVar[tuple[str, ...]]
    """Modules without which the backend cannot run."""
    mode: ClassVar[str] = "eager"
    """How it runs: "eager", "compiled", "fused" or "distributed"."""
    features: ClassVar[frozenset[str]] = frozenset()
    """What it can do of that for which a case may ask: see ``Case.features``."""
    counts: ClassVar[str] = "parameter"
    """What Algorithm 1's k counts in it: the updates of each "parameter", or of the whole
    "run", of which a parameter without gradient misses some."""
    environment: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Environment variables of the backend's process."""
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    """Dtypes of parameters that it offers."""
    load_error: ClassVar[str | None] = None
    """Why the class that was registered could not be loaded; this one stands for it then."""
    optimizers: ClassVar[tuple[str, ...]] = ()
    """What ``train`` knows: "INNAprop", and "AdamW" where the framework has one."""

    @abstractmethod
    def follow(self, case: Case, dtype: str) -> Array:
        """Return the parameters after every update of a case, of shape (steps, elements)."""

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        """Train the task's network with one of ``optimizers``; tell each finished step."""
        raise ValueError(f"optimizer must be one of {self.optimizers}, got {optimizer!r}")

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return the cases that it follows if it can: all, unless each takes it very long."""
        return CASES

    @classmethod
    def lacks(cls, case: Case, dtype: str) -> str:
        """Return why it does not follow a case in a dtype, or nothing if it does."""
        if dtype not in case.dtypes:
            return f"not in {dtype}"
        if missing := sorted(case.features - cls.features):
            return f"without {', '.join(missing)}"
        return "" if case.name in cls.cases() else "takes too long"

    @classmethod
    def asked(cls, cases: Mapping[str, Case], dtype: str) -> dict[str, Case]:
        """Return which of some cases it follows in a dtype."""
        return {name: case for name, case in cases.items() if not cls.lacks(case, dtype)}

    @classmethod
    def not_applicable(cls, cases: Mapping[str, Case], dtype: str) -> dict[str, str]:
        """Return the families of which it follows none of some cases in a dtype, and why."""
        followed = {case.family for case in cls.asked(cases, dtype).values()}
        reasons: dict[str, dict[str, None]] = {}
        for case in cases.values():
            if case.family not in followed:
                reasons.setdefault(case.family, {})[cls.lacks(case, dtype)] = None
        return {family: "; ".join(why) for family, why in reasons.items()}

    @classmethod
    def missing(cls) -> list[str]:
        """Return what the backend needs and is not there: modules, mostly."""
        return [name for name in cls.modules if not _is_installed(name)]

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Return the versions of the backend's distributions."""
        return {name: _version(name) for name in cls.distributions}


class SteppingBackend(Backend):
    """A backend that makes an optimizer and steps it."""

    @abstractmethod
    def begin(self, case: Case, dtype: str) -> None:
        """Make the case's parameters in this dtype, and an optimizer of its groups for them."""

    @abstractmethod
    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        """Make one update: a gradient or None per parameter, a step size per group."""

    @abstractmethod
    def parameters(self) -> list[NDArray[np.floating]]:
        """Return the current parameters, in the order of the case."""

    def follow(self, case: Case, dtype: str) -> Array:
        """Return the parameters after every update of a case, of shape (steps, elements)."""
        self.begin(case, dtype)
        iterates = []
        for updates, gradients in enumerate(case.stream()):
            self.step(gradients, case.gammas(updates))
            picked = case.picked([self._checked(p, dtype) for p in self.parameters()])
            iterates.append(flat([p.astype(np.float64) for p in picked]))
        return np.array(iterates)

    @staticmethod
    def _checked(parameter: NDArray[np.floating], dtype: str) -> NDArray[np.floating]:
        # NumPy has no bfloat16, which float32 holds.
        if str(parameter.dtype) != ("float32" if dtype == "bfloat16" else dtype):
            raise TypeError(f"parameters must be {dtype}, got {parameter.dtype}")
        return parameter


class WithCompiler(Backend):
    """What is compiled when it is first used, and cannot run without a compiler."""

    compilers: ClassVar[tuple[str, ...]] = ("cc", "gcc", "clang")

    @classmethod
    def missing(cls) -> list[str]:
        """Return what the backend needs and is not there: a compiler too."""
        found = any(shutil.which(name) for name in cls.compilers)
        return super().missing() + ([] if found else [f"a compiler ({cls.compilers[0]})"])


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # The parent of a dotted name.
        return False


def load_backends(more: Iterable[str] = ()) -> dict[str, type[Backend]]:
    """Return every registered backend by name, in alphabetical order, and some others.

    One whose class cannot be loaded is there too, and says why in ``load_error``.

    Args:
        more: Names; of those that are "MODULE:CLASS" the class is loaded, others are passed over.
    """
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    points += [EntryPoint(name, name, GROUP) for name in more if ":" in name]
    backends = {}
    for point in points:
        try:
            backends[point.name] = _load(point)
        except Exception as error:
            reason = f"{point.value} cannot be loaded: {type(error).__name__}: {error}"
            backends[point.name] = type(
                point.name,
                (Backend,),
                {"distributions": (), "modules": (), "load_error": reason},
            )
    return backends


def load_backend(name: str) -> type[Backend]:
    """Return one backend, without loading any other.

    Args:
        name: Under which it is registered, or "MODULE:CLASS"; MODULE may be in the working
            directory.

    Raises:
        TypeError: The class is no subclass of ``Backend``.
        Exception: It cannot be loaded.
    """
    if ":" in name:
        return _load(EntryPoint(name, name, GROUP))
    (point,) = entry_points(group=GROUP, name=name)
    return _load(point)


def _load(point: EntryPoint) -> type[Backend]:
    # As `python -m` does; the command that is installed does not.
    if point.name == point.value and (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    backend = point.load()
    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        raise TypeError(f"{point.value} must be a subclass of {Backend.__module__}.Backend")
    return backend
