"""One run to follow, as data: JSON can hold it, and its name makes its values."""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from innaprop_conformance.cases.schedules import ARITHMETIC, Schedule
from innaprop_conformance.cases.values import Array, Gradients, Shape, rounded
from innaprop_core import Hyperparameters

_NORMAL = Gradients()


@dataclass(frozen=True)
class Group:
    """Parameters that share their hyperparameters.

    Args:
        hyperparameters: As in Algorithm 1; gamma, alpha and beta where they have no schedule.
        shapes: Shapes of the parameters.
        gamma: Schedule of the step size. Default None, constant.
        alpha: Schedule of the viscous damping, "constant" or "linear". Default None, constant.
        beta: Likewise of the Newtonian damping.

    Raises:
        ValueError: A schedule of alpha or beta is of a kind that tensors cannot pass through.
    """

    hyperparameters: Hyperparameters
    shapes: tuple[Shape, ...]
    gamma: Schedule | None = None
    alpha: Schedule | None = None
    beta: Schedule | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            schedule = getattr(self, name)
            if schedule and schedule.kind not in ARITHMETIC:
                raise ValueError(
                    f"{name} must have a schedule of kind {' or '.join(ARITHMETIC)}, "
                    f"got {schedule.kind!r}"
                )

    def at(self, name: str, updates: int) -> float:
        """Return gamma, alpha or beta of the update that ``updates`` others came before."""
        schedule = getattr(self, name)
        value = getattr(self.hyperparameters, name) if schedule is None else schedule(updates)
        return float(value)


@dataclass(frozen=True)
class Gap:
    """A parameter that has no gradient for some updates, and stays as it is.

    Args:
        parameter: Its place among the case's parameters.
        start: Updates made before the first one that it misses.
        stop: Updates made before the first one that has its gradient again.
    """

    parameter: int
    start: int
    stop: int


@dataclass(frozen=True)
class Case:
    """One run to follow.

    Values are numbers that every dtype in ``dtypes`` and bfloat16 hold, made from name, version
    and seed: every dtype and every process starts alike. Whoever changes what a name stands
    for, values included, raises the version.

    Args:
        name: Stable name, unique; a file can be called so.
        family: What the case is about.
        groups: The parameters and their hyperparameters.
        steps: Number of updates.
        gradients: How gradients are made. Default: normal, of magnitudes 1e-8 to 1e4.
        gaps: Which parameters miss their gradient when. Default: none.
        dtypes: Dtypes to follow it in. Default float32 and float64.
        judged: Number of elements of each parameter that are judged, taken evenly; the backend
            updates all of them. Default None, all.
        version: Of what the name stands for. Default 1.
        seed: Another one makes other values. Default 0.
    """

    name: str
    family: str
    groups: tuple[Group, ...]
    steps: int
    gradients: Gradients = _NORMAL
    gaps: tuple[Gap, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "float64")
    judged: int | None = None
    version: int = 1
    seed: int = 0

    @property
    def group(self) -> Group:
        """The only group.

        Raises:
            ValueError: There are more.
        """
        (group,) = self.groups
        return group

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of all parameters, in the order of the groups."""
        return tuple(shape for group in self.groups for shape in group.shapes)

    @property
    def features(self) -> frozenset[str]:
        """What a backend must be able to do to follow it.

        Of "groups" (of different settings), "decay groups" (that differ in whether weights
        decay, and in nothing else), "damping schedules", "missing gradients" and "long runs"
        (more than 1,000 updates).
        """
        settings = {_settings(group) for group in self.groups}
        decays = {group.hyperparameters.weight_decay for group in self.groups}
        needed = {
            "groups": len(settings) > 1 or len(decays - {0}) > 1,
            "decay groups": differ_in_decay_only(self.groups),
            "damping schedules": any(g.alpha or g.beta for g in self.groups),
            "missing gradients": bool(self.gaps),
            "long runs": self.steps > 1000,
        }
        return frozenset(name for name, is_needed in needed.items() if is_needed)

    @property
    def owners(self) -> list[Group]:
        """The group of each parameter."""
        return [group for group in self.groups for _ in group.shapes]

    def parameters(self) -> list[Array]:
        """Return the initial parameters: normal, of standard deviation 1/2; float64."""
        rng = self._rng(0)
        return [self._rounded(rng.normal(scale=0.5, size=shape)) for shape in self.shapes]

    def stream(self) -> Iterator[list[Array | None]]:
        """Yield the gradients of every update, None where one is missing; float64."""
        stream = self.gradients.stream(self._rng(1), self.shapes, self.steps)
        for updates, gradients in enumerate(stream):
            missing = {g.parameter for g in self.gaps if g.start <= updates < g.stop}
            yield [
                None if i in missing else self._rounded(gradient)
                for i, gradient in enumerate(gradients)
            ]

    def gammas(self, updates: int) -> list[float]:
        """Return every group's step size of the update that ``updates`` others came before."""
        return [group.at("gamma", updates) for group in self.groups]

    def picked(self, arrays: Sequence[Any]) -> list[Any]:
        """Return the judged elements of each parameter's array, in one axis; None stays None."""
        return [None if array is None else _evenly(array, self.judged) for array in arrays]

    def _rounded(self, values: Array) -> Array:
        values = rounded(values, "bfloat16")
        return rounded(values, "float16") if "float16" in self.dtypes else values

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng(
            [zlib.crc32(self.name.encode()), self.version, self.seed, stream]
        )

    def to_json(self) -> str:
        """Return the case as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Case":
        """Return the case that ``to_json`` has written.

        Raises:
            TypeError: An entry is missing, or not known.
            ValueError: It is no JSON, or a value is not allowed.
        """
        document = json.loads(text)
        document["groups"] = tuple(_group(group) for group in document["groups"])
        document["gradients"] = Gradients(**document["gradients"])
        document["gaps"] = tuple(Gap(**gap) for gap in document["gaps"])
        document["dtypes"] = tuple(document["dtypes"])
        return cls(**document)


def differ_in_decay_only(groups: Sequence[Group]) -> bool:
    """Return whether groups differ in whether weights decay, and in nothing else."""
    decays = {group.hyperparameters.weight_decay for group in groups}
    return len({_settings(g) for g in groups}) == 1 and len(decays) == 2 and 0 in decays


def flat(arrays: Sequence[Array]) -> Array:
    """Return all elements of some arrays, one after another."""
    return np.concatenate([np.ravel(array) for array in arrays])


def _evenly(array: Any, number: int | None) -> Any:
    elements = np.ravel(array)
    if number is None or elements.size <= number:
        return elements
    return elements[np.linspace(0, elements.size - 1, number).astype(int)]


def _settings(group: Group) -> tuple[Any, ...]:
    """Return all that is set for a group but its weight decay, if it has one."""
    values = asdict(group.hyperparameters)
    values.pop("weight_decay")
    return (*values.values(), group.gamma, group.alpha, group.beta)


def _group(document: dict[str, Any]) -> Group:
    schedules = {
        name: None if document[name] is None else Schedule(**document[name])
        for name in ("gamma", "alpha", "beta")
    }
    hyperparameters = Hyperparameters(**document["hyperparameters"])
    shapes = tuple(tuple(shape) for shape in document["shapes"])
    return Group(**{**document, **schedules, "hyperparameters": hyperparameters, "shapes": shapes})
