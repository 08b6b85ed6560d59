"""A case: the description of one run, which can be stored as JSON."""

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
"""Number of elements above which a parameter is large."""
_WIDE_ALONE = {"replace", "complex", "clip by norm", "clip by global norm"}
"""Features that 16-bit parameters cannot have, since their values are not 16-bit numbers."""
_RESOLVED = (-7.0, 3.0)
"""Decades of the gradients that a state dtype of 16 bits resolves."""
_WIDE_STATE_ALONE = {"complex", "mixed dtypes", "defaults"}
"""Features that need a state dtype of 32 bits or more, or do not allow choosing it."""
_HELD = {
    "bfloat16": STORAGE,
    "float32": ("float32", "float64"),
    "float64": ("float64",),
}
"""The dtypes that can hold the values, by the dtype that the values are rounded to."""


@dataclass(frozen=True)
class Group:
    """Parameters that share their hyperparameters.

    Args:
        hyperparameters: As in Algorithm 1; gamma, alpha and beta apply if they have no schedule.
        shapes: Shapes of the parameters.
        gamma: Schedule of the step size. Default None, constant.
        alpha: Schedule of the viscous damping, "constant" or "linear". Default None, constant.
        beta: Schedule of the Newtonian damping, likewise.
        dtype: Dtype of these parameters, if it is fixed. Default None, the dtype in which the
            case is run.

    Raises:
        ValueError: A schedule of alpha or beta is not of a kind in ``ARITHMETIC``.
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
        """Return gamma, alpha or beta of an update; ``updates`` is the number of updates before."""
        schedule = getattr(self, name)
        value = getattr(self.hyperparameters, name) if schedule is None else schedule(updates)
        return float(value)


@dataclass(frozen=True)
class Gap:
    """A range of updates in which a parameter has no gradient, and is not updated.

    Args:
        parameter: Index among the case's parameters.
        start: The first update without its gradient, counted from 0.
        stop: The first update with its gradient again, counted from 0.
    """

    parameter: int
    start: int
    stop: int


@dataclass(frozen=True)
class Case:
    """One run.

    Values are generated from name, version and seed, so that they are the same in every process.
    They are rounded to numbers that every dtype in ``dtypes`` holds exactly. Any change of a case,
    including its values, needs a new version.

    Args:
        name: Unique and stable name, valid as a file name.
        family: Name of the case's family.
        groups: The parameters and their hyperparameters.
        steps: Number of updates.
        gradients: How gradients are generated. Default: normal, of magnitudes 1e-8 to 1e4.
        gaps: Ranges of updates in which parameters have no gradient. Default: none.
        dtypes: Dtypes to run it in. Default float32 and float64.
        values: Dtype that the values are rounded to: "bfloat16" (then it can be run with 16-bit
            parameters and residuals, too), "float32" or "float64". Default "bfloat16".
        start: Kind of the initial parameters, of ``values.STARTS``. Default "normal".
        period: Period of the values in parameters that have more elements than this. All copies of
            an element should be equal: their minimum and maximum are judged. Default None.
        counted: Number of updates counted as made before the run, with a state of zeros. Default 0.
        events: What happens between updates. Default: nothing.
        way: The way to make updates, of ``events.WAYS``. Default "", the plain one.
        amount: A number that some ways need. Default 0.
        repeats: Runs that must be bitwise equal, of ``events.REPEATS``. Default: none.
        version: Version of the case. Default 1.
        seed: Seed of the values. Default 0.

    Raises:
        ValueError: A dtype cannot hold the values, or start, way or repeats are unknown.
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
                raise ValueError(f"dtypes must hold {self.values} values exactly, got {dtype}")
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
            ValueError: There are several.
        """
        (group,) = self.groups
        return group

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of all parameters, in the order of the groups."""
        return tuple(shape for group in self.groups for shape in group.shapes)

    @property
    def features(self) -> frozenset[str]:
        """What a backend must support to run it.

        - "groups" (with different settings), "decay groups" (which differ only in whether weights
          decay), "mixed dtypes";
        - "damping schedules", "missing gradients";
        - "many parameters" (more than 100), "large parameters", "long runs" (more than 1,000
          updates), "very long runs" (more than 32,768), "count" (the run starts at a count > 0);
        - the way, if there is one, and the kind of every event; "change NAME" for each option that
          changes.
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
        """The gaps, including those from added parameters and from skipped updates."""
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
        """Return whether it can be run with parameters in a dtype.

        Args:
            dtype: A dtype of ``STORAGE`` or ``NARROW_STATE``.
        """
        if has_narrow_state(dtype):
            low, high = self.gradients.low, self.gradients.high
            fits = _RESOLVED[0] <= low <= high <= _RESOLVED[1]
            # Not for periodic values: their extremes are judged, and the bound, a probability for
            # a single element, does not hold for the extremes of many.
            fits = fits and self.period is None and not self.features & _WIDE_STATE_ALONE
            return fits and self.takes(dtype.removesuffix(STATE_16))
        if not has_residual(dtype):
            return dtype in self.dtypes
        if stored_as(dtype) == "float16" and "float16" not in self.dtypes:
            return False
        fits = "float32" in self.dtypes and self.values == "bfloat16"
        return fits and not self.features & _WIDE_ALONE

    def storage(self, dtype: str) -> list[str]:
        """Return the dtype of each parameter if the case is run in a dtype."""
        return [group.dtype or dtype for group in self.owners]

    def judged_dtypes(self) -> tuple[str, ...]:
        """Return the dtypes, in the sense of ``judged_as``, in which there may be a verdict."""
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
        """Return the new values of a replaced parameter; float64."""
        assert event.parameter is not None
        shape = self.shapes[event.parameter]
        return self._rounded(initial(self._rng(2 + event.at), shape, "normal"))

    def stream(self) -> Iterator[list[Array | None]]:
        """Yield the gradients of every update, None for a missing one; float64."""
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
            group: Index of the group.
            updates: Number of updates of the run before this one; determines the step size.
            counted: Count of the parameters before this update; determines alpha and beta.
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
        """Return each group's step size for an update; ``updates`` is the number before it."""
        return [group.at("gamma", updates) for group in self.groups]

    def picked(self, arrays: Sequence[Any]) -> list[Any]:
        """Return the judged elements of each array, in one axis; None stays None."""
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
        """Return a case from the text that ``to_json`` returns.

        Raises:
            TypeError: An entry is missing or unknown.
            ValueError: The text is not JSON, or a value is not allowed.
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
    """Return whether the groups differ only in whether their weights decay."""
    decays = {group.hyperparameters.weight_decay for group in groups}
    return len({_settings(g) for g in groups}) == 1 and len(decays) == 2 and 0 in decays


def flat(arrays: Sequence[Array]) -> Array:
    """Return the elements of all arrays, concatenated."""
    return np.concatenate([np.ravel(array) for array in arrays])


def _settings(group: Group) -> tuple[Any, ...]:
    """Return all settings of a group except its weight decay."""
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
