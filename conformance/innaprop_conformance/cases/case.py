"""One run to follow, as data: JSON can hold it, and its name makes its values."""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from innaprop_conformance.cases.dtypes import (
    NARROW_STATE,
    STATE_16,
    STORAGE,
    has_narrow_state,
    has_residual,
    judged_as,
    stored_as,
)
from innaprop_conformance.cases.events import REPEATS, WAYS, Event
from innaprop_conformance.cases.hyperparameters import Hyperparameters
from innaprop_conformance.cases.schedules import ARITHMETIC, Schedule
from innaprop_conformance.cases.values import STARTS, Array, Gradients, Shape, initial, rounded

_NORMAL = Gradients()
_LARGE = 500_000
"""Elements of a tensor that is large."""
_WIDE_ALONE = {"replace", "complex", "clip by norm", "clip by global norm"}
"""Features that make numbers which 16 bits do not hold."""
_RESOLVED = (-7.0, 3.0)
"""Decades of the gradients that a state of 16 bits resolves."""
_WIDE_STATE_ALONE = {"complex", "mixed dtypes", "defaults"}
"""Features that need a state of more bits, or leave no choice."""
_HELD = {
    "bfloat16": STORAGE,
    "float32": ("float32", "float64"),
    "float64": ("float64",),
}
"""By the dtype whose bits values use, the dtypes that hold them."""


@dataclass(frozen=True)
class Group:
    """Parameters that share their hyperparameters.

    Args:
        hyperparameters: As in Algorithm 1; gamma, alpha and beta where they have no schedule.
        shapes: Shapes of the parameters.
        gamma: Schedule of the step size. Default None, constant.
        alpha: Schedule of the viscous damping, "constant" or "linear". Default None, constant.
        beta: Likewise of the Newtonian damping.
        dtype: What these parameters are stored in, whatever the others are. Default None, what
            the case is followed in.

    Raises:
        ValueError: A schedule of alpha or beta is of a kind that tensors cannot pass through.
    """

    hyperparameters: Hyperparameters
    shapes: tuple[Shape, ...]
    gamma: Schedule | None = None
    alpha: Schedule | None = None
    beta: Schedule | None = None
    dtype: str | None = None

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

    Values are made from name, version and seed, so that every process starts alike, and are
    numbers that every dtype in ``dtypes`` holds. Whoever changes what a name stands for, values
    included, raises the version.

    Args:
        name: Stable name, unique; a file can be called so.
        family: What the case is about.
        groups: The parameters and their hyperparameters.
        steps: Number of updates.
        gradients: How gradients are made. Default: normal, of magnitudes 1e-8 to 1e4.
        gaps: Which parameters miss their gradient when. Default: none.
        dtypes: Dtypes to follow it in. Default float32 and float64.
        values: Dtype whose bits the values may use: "bfloat16" (then 16-bit parameters with
            residuals can follow too), "float32" or "float64". Default "bfloat16".
        start: Kind of the initial parameters, of ``values.STARTS``. Default "normal".
        period: Values of parameters with more elements than this repeat after so many; of what
            should be equal then, the smallest and the largest are judged. Default None.
        counted: Updates that count as made before the first one, with all state zero. Default 0.
        events: What happens between updates. Default: nothing.
        way: Way to make the run, of ``events.WAYS``. Default "", the plain one.
        amount: The number that belongs to the way. Default 0.
        repeats: With what the run must agree in every bit, of ``events.REPEATS``. Default: none.
        version: Of what the name stands for. Default 1.
        seed: Another one makes other values. Default 0.

    Raises:
        ValueError: A dtype does not hold the values, or start, way or repeats are not known.
    """

    name: str
    family: str
    groups: tuple[Group, ...]
    steps: int
    gradients: Gradients = _NORMAL
    gaps: tuple[Gap, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "float64")
    values: str = "bfloat16"
    start: str = "normal"
    period: int | None = None
    counted: int = 0
    events: tuple[Event, ...] = ()
    way: str = ""
    amount: float = 0.0
    repeats: tuple[str, ...] = ()
    version: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.values not in _HELD:
            raise ValueError(f"values must be of {', '.join(_HELD)}, got {self.values!r}")
        for dtype in self._stored:
            if dtype not in _HELD[self.values]:
                raise ValueError(f"{dtype} must hold values of {self.values}, and does not")
        if self.start not in STARTS:
            raise ValueError(f"start must be one of {', '.join(STARTS)}, got {self.start!r}")
        if self.way and self.way not in WAYS:
            raise ValueError(f"way must be one of {', '.join(WAYS)}, got {self.way!r}")
        if unknown := set(self.repeats) - REPEATS.keys():
            raise ValueError(f"repeats must be of {', '.join(REPEATS)}, got {unknown}")

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

        - "groups" (of different settings), "decay groups" (that differ in whether weights decay,
          and in nothing else), "mixed dtypes";
        - "damping schedules", "missing gradients";
        - "many parameters" (more than 100), "large parameters", "long runs" (more than 1,000
          updates), "very long runs" (more than 32,768), "count" (of updates made before);
        - the name of the way, if there is one, and of every event; "change NAME" for each
          option that changes.
        """
        settings = {_settings(group) for group in self.groups}
        decays = {group.hyperparameters.weight_decay for group in self.groups}
        needed = {
            "groups": len(settings) > 1 or len(decays - {0}) > 1,
            "decay groups": differ_in_decay_only(self.groups),
            "mixed dtypes": any(group.dtype for group in self.groups),
            "damping schedules": any(g.alpha or g.beta for g in self.groups),
            "missing gradients": bool(self.gaps),
            "many parameters": len(self.shapes) > 100,
            "large parameters": any(np.prod(shape) > _LARGE for shape in self.shapes),
            "long runs": self.steps > 1000,
            "very long runs": self.steps > 32_768,
            "count": self.counted > 0,
        }
        happens = {event.kind for event in self.events if event.kind != "change"}
        changes = {f"change {name}" for event in self.events for name, _ in event.values}
        return frozenset(
            {name for name, is_needed in needed.items() if is_needed}
            | happens
            | changes
            | ({self.way} if self.way else set())
        )

    @property
    def owners(self) -> list[Group]:
        """The group of each parameter."""
        return [group for group in self.groups for _ in group.shapes]

    @property
    def absences(self) -> tuple[Gap, ...]:
        """The gaps, and those of parameters that are added later or whose update is skipped."""
        added = [
            Gap(e.parameter, 0, e.at)
            for e in self.events
            if e.parameter is not None and e.kind == "add"
        ]
        skipped = [
            Gap(i, e.at, e.at + 1)
            for e in self.events
            if e.kind == "skip"
            for i in range(len(self.shapes))
        ]
        return (*self.gaps, *added, *skipped)

    def takes(self, dtype: str) -> bool:
        """Return whether parameters that are stored in a dtype can follow it.

        Args:
            dtype: Of ``STORAGE`` or ``NARROW_STATE``.
        """
        if has_narrow_state(dtype):
            low, high = self.gradients.low, self.gradients.high
            fits = _RESOLVED[0] <= low <= high <= _RESOLVED[1]
            # Of copies the extremes are judged, which no rounding in the mean bounds.
            fits = fits and self.period is None and not self.features & _WIDE_STATE_ALONE
            return fits and self.takes(dtype.removesuffix(STATE_16))
        if not has_residual(dtype):
            return dtype in self.dtypes
        if stored_as(dtype) == "float16" and "float16" not in self.dtypes:
            return False
        fits = "float32" in self.dtypes and self.values == "bfloat16"
        return fits and not self.features & _WIDE_ALONE

    def storage(self, dtype: str) -> list[str]:
        """Return what each parameter is stored in where the case is followed in a dtype."""
        return [group.dtype or dtype for group in self.owners]

    def judged_dtypes(self) -> tuple[str, ...]:
        """Return the dtypes, as ``judged_as`` names them, in which there may be a verdict."""
        offered = (*STORAGE, *NARROW_STATE)
        return tuple(dict.fromkeys(judged_as(d) for d in offered if self.takes(d)))

    def parameters(self) -> list[Array]:
        """Return the initial parameters; float64."""
        rng = self._rng(0)
        return [
            self._repeated(self._rounded(initial(rng, self._pattern(shape), self.start)), shape)
            for shape in self.shapes
        ]

    def replacement(self, event: Event) -> Array:
        """Return the values that a parameter is replaced by; float64."""
        assert event.parameter is not None
        shape = self.shapes[event.parameter]
        return self._rounded(initial(self._rng(2 + event.at), shape, "normal"))

    def stream(self) -> Iterator[list[Array | None]]:
        """Yield the gradients of every update, None where one is missing; float64."""
        shapes = tuple(map(self._pattern, self.shapes))
        stream = self.gradients.stream(self._rng(1), shapes, self.steps)
        for updates, gradients in enumerate(stream):
            missing = {g.parameter for g in self.absences if g.start <= updates < g.stop}
            yield [
                None if i in missing else self._repeated(self._rounded(gradient), shape)
                for i, (gradient, shape) in enumerate(zip(gradients, self.shapes, strict=True))
            ]

    def numbers(self, group: int, updates: int, counted: int) -> dict[str, Any]:
        """Return the hyperparameters of one update of a group.

        Args:
            group: Place of the group.
            updates: Updates of the run made before: what step sizes depend on.
            counted: Updates that the parameters count as made: what alpha and beta depend on.
        """
        of_group = self.groups[group]
        values = asdict(of_group.hyperparameters)
        values["gamma"] = of_group.at("gamma", updates)
        values |= {name: of_group.at(name, counted) for name in ("alpha", "beta")}
        for event in self.events:
            if event.kind == "change" and event.group == group and event.at <= updates:
                values |= dict(event.values)
        return values

    def gammas(self, updates: int) -> list[float]:
        """Return every group's step size of the update that ``updates`` others came before."""
        return [group.at("gamma", updates) for group in self.groups]

    def picked(self, arrays: Sequence[Any]) -> list[Any]:
        """Return what is judged of each parameter's array, in one axis; None stays None."""
        return [None if array is None else self._extremes(np.ravel(array)) for array in arrays]

    @property
    def _stored(self) -> set[str]:
        return {*self.dtypes, *(group.dtype for group in self.groups if group.dtype)}

    def _rounded(self, values: Array) -> Array:
        values = rounded(values, self.values)
        is_narrow = any(stored_as(dtype) == "float16" for dtype in self._stored)
        return rounded(values, "float16") if is_narrow else values

    def _pattern(self, shape: Shape) -> Shape:
        size = int(np.prod(shape))
        return shape if self.period is None or size <= self.period else (self.period,)

    def _repeated(self, values: Array, shape: Shape) -> Array:
        return values if values.shape == shape else np.resize(values, shape)

    def _extremes(self, elements: Any) -> Any:
        if self.period is None or elements.size <= self.period:
            return elements
        whole = elements.size // self.period * self.period
        copies, rest = elements[:whole].reshape(-1, self.period), elements[whole:]
        extremes = []
        for extreme in (np.minimum, np.maximum):
            found = extreme.reduce(copies)
            found[: rest.size] = extreme(found[: rest.size], rest)
            extremes.append(found)
        return np.concatenate(extremes)

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
        document["events"] = tuple(_event(event) for event in document.get("events", ()))
        document["repeats"] = tuple(document.get("repeats", ()))
        document["dtypes"] = tuple(document["dtypes"])
        return cls(**document)


def differ_in_decay_only(groups: Sequence[Group]) -> bool:
    """Return whether groups differ in whether weights decay, and in nothing else."""
    decays = {group.hyperparameters.weight_decay for group in groups}
    return len({_settings(g) for g in groups}) == 1 and len(decays) == 2 and 0 in decays


def flat(arrays: Sequence[Array]) -> Array:
    """Return all elements of some arrays, one after another."""
    return np.concatenate([np.ravel(array) for array in arrays])


def _settings(group: Group) -> tuple[Any, ...]:
    """Return all that is set for a group but its weight decay, if it has one."""
    values = asdict(group.hyperparameters)
    values.pop("weight_decay")
    return (*values.values(), group.gamma, group.alpha, group.beta)


def _event(document: dict[str, Any]) -> Event:
    values = tuple((name, value) for name, value in document["values"])
    return Event(**{**document, "values": values})


def _group(document: dict[str, Any]) -> Group:
    schedules = {
        name: None if document[name] is None else Schedule(**document[name])
        for name in ("gamma", "alpha", "beta")
    }
    hyperparameters = Hyperparameters(**document["hyperparameters"])
    shapes = tuple(tuple(shape) for shape in document["shapes"])
    return Group(**{**document, **schedules, "hyperparameters": hyperparameters, "shapes": shapes})
