"""The protocol between the suite and an implementation of INNAprop."""

import importlib.util
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import ClassVar

from innaprop_conformance.cases import CASES, Array, Case
from innaprop_conformance.cases.events import KINDS, REPEATS, WAYS
from innaprop_conformance.training.task import Task, Training

PLAIN = frozenset(
    {
        "groups",
        "decay groups",
        "damping schedules",
        "missing gradients",
        "many parameters",
        "large parameters",
        "long runs",
        "very long runs",
    }
)
"""Features of cases without events and ways, in a single dtype."""
FEATURES = PLAIN | {
    *KINDS.keys() - {"change"},
    *(f"change {name}" for name in ("alpha", "beta", "sigma", "eps", "weight_decay")),
    *WAYS,
    *(repeat for repeat in REPEATS if "thread" in repeat),
    "count",
    "mixed dtypes",
}
"""All features: see ``Case.features``."""


class BrokenPromiseError(Exception):
    """A run broke a promise, such as not to modify its inputs; its numbers may still be right.

    Args:
        reason: What happened, and at which update.
        theta: What is judged after every update, of shape (steps, elements).
    """

    def __init__(self, reason: str, theta: Array) -> None:
        super().__init__(reason)
        self.theta = theta


class Backend(ABC):
    """An implementation of INNAprop that can run cases.

    A subclass has to implement ``follow``; ``SteppingBackend`` implements it for optimizers that
    make one update at a time. The suite calls it for the cases whose features it declares.
    ``train`` is optional: it trains the demo's network.
    """

    distributions: ClassVar[tuple[str, ...]]
    """Distributions whose versions are reported."""
    modules: ClassVar[tuple[str, ...]]
    """Modules that the backend needs."""
    mode: ClassVar[str] = "eager"
    """How it runs: "eager", "compiled", "fused" or "distributed"."""
    features: ClassVar[frozenset[str]] = frozenset()
    """The features of cases that it supports: see ``Case.features``."""
    counts: ClassVar[str] = "parameter"
    """What its k of Algorithm 1 counts: the updates of each "parameter", or those of the whole
    "run", including those in which a parameter has no gradient."""
    environment: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Environment variables of the backend's process."""
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")
    """Dtypes of parameters that it supports, of ``cases.dtypes.STORAGE`` and ``NARROW_STATE``."""
    load_error: ClassVar[str | None] = None
    """Why a registered class could not be loaded; set on the class that takes its place."""
    optimizers: ClassVar[tuple[str, ...]] = ()
    """Optimizers that ``train`` accepts: "INNAprop", and "AdamW" if the framework has one."""

    @abstractmethod
    def follow(self, case: Case, dtype: str) -> Array:
        """Run a case; return what is judged after every update, of shape (steps, elements).

        Raises:
            BrokenPromiseError: The trajectory is complete, but something else is wrong.
        """

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        """Train the task's network with one of ``optimizers``.

        Args:
            task: What to train.
            optimizer: One of ``optimizers``.
            progress: Called after every step with the number of steps done.

        Raises:
            ValueError: The optimizer is not supported.
        """
        raise ValueError(f"optimizer must be one of {self.optimizers}, got {optimizer!r}")

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return the cases to choose from: all, unless they would take too long."""
        return CASES

    @classmethod
    def lacks(cls, case: Case, dtype: str) -> str:
        """Return why it does not run a case in a dtype, or "" if it does."""
        if not case.takes(dtype):
            return f"not in {dtype}"
        if missing := sorted(case.features - cls.features):
            return f"without {', '.join(missing)}"
        for of_group in (group.dtype for group in case.groups if group.dtype):
            if of_group not in cls.dtypes:
                return f"not in {of_group}"
        return "" if case.name in cls.cases() else "takes too long"

    @classmethod
    def asked(cls, cases: Mapping[str, Case], dtype: str) -> dict[str, Case]:
        """Return those of the given cases that it runs in a dtype."""
        return {name: case for name, case in cases.items() if not cls.lacks(case, dtype)}

    @classmethod
    def not_applicable(cls, cases: Mapping[str, Case], dtype: str) -> dict[str, str]:
        """Return by family, of those of which it runs none of the cases in a dtype, the reason."""
        followed = {case.family for case in cls.asked(cases, dtype).values()}
        reasons: dict[str, dict[str, None]] = {}
        for case in cases.values():
            if case.family not in followed:
                reasons.setdefault(case.family, {})[cls.lacks(case, dtype)] = None
        return {family: _listed(list(why)) for family, why in reasons.items()}

    @classmethod
    def missing(cls) -> list[str]:
        """Return what the backend needs and is missing here, such as modules."""
        return [name for name in cls.modules if not _is_installed(name)]

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Return the versions of the backend's distributions."""
        return {name: _version(name) for name in cls.distributions}


def followed(backend: Backend, case: Case, dtype: str) -> tuple[Array, str | None]:
    """Run a case in a backend; return its trajectory, and the promise that it broke, or None."""
    try:
        return backend.follow(case, dtype), None
    except BrokenPromiseError as broken:
        return broken.theta, str(broken)


class WithCompiler(Backend):
    """A backend that is compiled when first used, and so needs a compiler."""

    compilers: ClassVar[tuple[str, ...]] = ("cc", "gcc", "clang")

    @classmethod
    def missing(cls) -> list[str]:
        """Return what the backend needs and is missing here, including a compiler."""
        found = any(shutil.which(name) for name in cls.compilers)
        return super().missing() + ([] if found else [f"a compiler ({cls.compilers[0]})"])


def _listed(reasons: list[str]) -> str:
    """Join reasons into a text; of more than four, it has the first three and a count."""
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 4 else ""
    return "; ".join(reasons[:3] if more else reasons) + more


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # The parent of a dotted name is missing.
        return False
