"""What a backend is: the protocol between the suite and one implementation of INNAprop."""

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
"""Features of cases that are nothing but updates."""
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
    """A run did what it must not do, whatever its numbers are.

    Args:
        reason: What, and when.
        theta: The numbers nevertheless, of shape (steps, elements).
    """

    def __init__(self, reason: str, theta: Array) -> None:
        super().__init__(reason)
        self.theta = theta


class Backend(ABC):
    """An implementation of INNAprop that can be told what to follow.

    ``follow`` is what a backend has to do; ``SteppingBackend`` does it for those that can make one
    update after another. It is asked for the cases whose features it declares. ``train`` is for
    those that can also train the demonstration's network.
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
    """Dtypes of parameters that it offers, of ``cases.dtypes.STORAGE``."""
    load_error: ClassVar[str | None] = None
    """Why the class that was registered could not be loaded; this one stands for it then."""
    optimizers: ClassVar[tuple[str, ...]] = ()
    """What ``train`` knows: "INNAprop", and "AdamW" where the framework has one."""

    @abstractmethod
    def follow(self, case: Case, dtype: str) -> Array:
        """Return what is judged after every update of a case, of shape (steps, elements).

        Raises:
            BrokenPromiseError: The parameters are there, but something else is wrong.
        """

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
        return {family: _listed(list(why)) for family, why in reasons.items()}

    @classmethod
    def missing(cls) -> list[str]:
        """Return what the backend needs and is not there: modules, mostly."""
        return [name for name in cls.modules if not _is_installed(name)]

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Return the versions of the backend's distributions."""
        return {name: _version(name) for name in cls.distributions}


def followed(backend: Backend, case: Case, dtype: str) -> tuple[Array, str | None]:
    """Have a backend follow a case; return its trajectory, and which promise it broke, or None."""
    try:
        return backend.follow(case, dtype), None
    except BrokenPromiseError as broken:
        return broken.theta, str(broken)


class WithCompiler(Backend):
    """What is compiled when it is first used, and cannot run without a compiler."""

    compilers: ClassVar[tuple[str, ...]] = ("cc", "gcc", "clang")

    @classmethod
    def missing(cls) -> list[str]:
        """Return what the backend needs and is not there: a compiler too."""
        found = any(shutil.which(name) for name in cls.compilers)
        return super().missing() + ([] if found else [f"a compiler ({cls.compilers[0]})"])


def _listed(reasons: list[str]) -> str:
    """Return reasons as a text: the first ones, and how many more there are."""
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
    except ModuleNotFoundError:  # The parent of a dotted name.
        return False
