"""What one measured update says, of each group and of all parameters together."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from innaprop.diagnostics.measure import SCALARS, SUMS

QUANTITIES = (
    "parameter_norm",
    "gradient_norm",
    "update_norm",
    "update_over_parameter",
    "momentum_share",
    "agreement",
    "scaled_gradient",
    "step_growth",
    "at_floor",
    "stale",
    "overflow",
    "stalled",
    "decay_driven",
)
"""What is reported of a group, in this order."""


@dataclass(frozen=True)
class Group:
    """What one update does to some parameters.

    Args:
        sums: A number for each name of ``innaprop.diagnostics.measure.SUMS``.
        scalars: The group's gamma, alpha, beta, sigma, eps and weight_decay at this update.
    """

    sums: Mapping[str, float]
    scalars: Mapping[str, float]

    @property
    def elements(self) -> int:
        """How many numbers the parameters have; complex ones have two each."""
        return int(self.sums["elements"])

    @property
    def parameter_norm(self) -> float:
        """Euclidean norm of the parameters before the update (master weights of 16-bit ones)."""
        return _root(self.sums["parameter"])

    @property
    def gradient_norm(self) -> float:
        """Euclidean norm of the gradient, as the update takes it: unscaled, clipped."""
        return _root(self.sums["gradient"])

    @property
    def update_norm(self) -> float:
        """Euclidean norm of the update, weight decay included."""
        return _root(self.sums["update"])

    @property
    def update_over_parameter(self) -> float:
        """Norm of the update over norm of the parameters; NaN if all parameters are zero."""
        return _over(self.update_norm, self.parameter_norm)

    @property
    def momentum_share(self) -> float:
        """The share of the update that the momentum makes, measured along the update.

        The shares of momentum, scaled gradient and decay add up to 1. It is negative where the
        momentum takes back what the gradient gives: -3 for (2, 2) under a gradient that never
        turns. NaN without a move.
        """
        return _over(self.sums["momentum_in_update"], self.sums["update"])

    @property
    def agreement(self) -> float:
        """Cosine of the momentum and of what the scaled gradient adds to it; 0 at alpha beta = 1.

        1 under a gradient that never turns, about 0 under noise, -1 where the parameters
        oscillate from update to update.
        """
        viscous = 1 - self.scalars["alpha"] * self.scalars["beta"]
        length = _root(self.sums["momentum"]) * _root(self.sums["scaled_gradient"])
        if length == 0 or abs(viscous) < 1e-6:
            return 0.0
        return math.copysign(1.0, viscous) * self.sums["momentum_and_gradient"] / length

    @property
    def scaled_gradient(self) -> float:
        """Root mean square of u, over the elements that have a gradient; about 1 in good health.

        Below, where eps or a second moment of larger gradients holds it down. NaN without
        gradients.
        """
        return _root(_over(self.sums["scaled_gradient"], self.sums["active"]))

    @property
    def step_growth(self) -> float:
        """Length of the update over that of the first part of it, gamma beta u.

        1 where there is no momentum; under a gradient that never turns it goes to
        1 / (alpha beta). NaN without gradients.
        """
        first = self.scalars["gamma"] * self.scalars["beta"] * _root(self.sums["scaled_gradient"])
        return _over(self.update_norm, first)

    @property
    def at_floor(self) -> float:
        """Share of the elements with a gradient whose root of the second moment is below eps."""
        return _over(self.sums["at_floor"], self.sums["active"])

    @property
    def stale(self) -> float:
        """Share of elements whose gradient is at most 1/1000 of what the second moment remembers.

        Elements that never had a gradient are among them.
        """
        return _over(self.sums["stale"], self.sums["elements"])

    @property
    def overflow(self) -> float:
        """Share of elements whose second moment is infinite or NaN after the update."""
        return _over(self.sums["overflow"], self.sums["elements"])

    @property
    def stalled(self) -> float:
        """Share of elements that rounding puts back: their update is not zero, and too small."""
        return _over(self.sums["stalled"], self.sums["elements"])

    @property
    def decay_driven(self) -> float:
        """Share of elements to whose momentum the weight decay adds more than the gradient.

        Always 0 with ``decay_momentum=False``.
        """
        return _over(self.sums["decay_driven"], self.sums["elements"])

    @property
    def stability_limit(self) -> float:
        """The curvature of the scaled gradient up to which iterates are stable (docs/practice)."""
        gamma, alpha, beta = (self.scalars[name] for name in ("gamma", "alpha", "beta"))
        return _over(4 - 2 * alpha * gamma, gamma * (2 * beta - gamma))


@dataclass(frozen=True)
class Record:
    """One measured update.

    Args:
        step: Number of the update, 1 at the first.
        groups: What was measured, by the groups' names. At least one.
        training_loss: Mean of the training losses since the last record; None if none was given.
        validation_loss: The last validation loss since the last record, or None.
    """

    step: int
    groups: Mapping[str, Group]
    training_loss: float | None = None
    validation_loss: float | None = None

    @property
    def all(self) -> Group:
        """What holds for all parameters together, with the scalars of the largest group."""
        groups = list(self.groups.values())
        sums = {name: sum(group.sums[name] for group in groups) for name in SUMS}
        return Group(sums, max(groups, key=lambda group: group.elements).scalars)

    def as_dict(self, prefix: str = "innaprop/") -> dict[str, float]:
        """Return everything as one flat dict, as W&B and other loggers take it.

        Args:
            prefix: What keys begin with. Default "innaprop/".

        Returns:
            Numbers by keys such as "innaprop/update_over_parameter", of all parameters, and
            "innaprop/GROUP/update_over_parameter" where there are several groups; losses where
            they are known.
        """
        values = {f"{prefix}{key}": value for key, value in _reported(self.all).items()}
        if len(self.groups) > 1:
            for name, group in self.groups.items():
                of_group = _reported(group).items()
                values |= {f"{prefix}{name}/{key}": value for key, value in of_group}
        for key in ("training_loss", "validation_loss"):
            if (value := getattr(self, key)) is not None:
                values[prefix + key] = value
        return values


def record_of(
    step: int,
    measured: Mapping[str, Mapping[str, Any]],
    training_loss: float | None = None,
    validation_loss: float | None = None,
) -> Record:
    """Return the record of what an adapter has measured.

    Args:
        step: Number of the update, 1 at the first.
        measured: By the groups' names, a number for each name of ``SUMS`` and ``SCALARS``; whatever
            ``float`` takes.
        training_loss: As in ``Record``.
        validation_loss: As in ``Record``.

    Raises:
        TypeError: What was measured is no mapping of mappings.
        ValueError: A name is missing, or there is no group.
    """
    if not isinstance(measured, Mapping) or not all(
        isinstance(values, Mapping) for values in measured.values()
    ):
        raise TypeError(f"measured must be what measure() returns, got {measured!r}")
    if not measured:
        raise ValueError("measured must have at least one group, got none")
    groups = {}
    for name, values in measured.items():
        missing = [key for key in (*SUMS, *SCALARS) if key not in values]
        if missing:
            raise ValueError(f"measured must have {missing[0]} for group {name!r}, got none")
        numbers = {key: float(values[key]) for key in (*SUMS, *SCALARS)}
        groups[str(name)] = Group(
            {key: numbers[key] for key in SUMS}, {key: numbers[key] for key in SCALARS}
        )
    return Record(step, groups, training_loss, validation_loss)


def _reported(group: Group) -> dict[str, float]:
    numbers = {name: float(getattr(group, name)) for name in QUANTITIES}
    return {**numbers, "learning_rate": group.scalars["gamma"]}


def _root(square: float) -> float:
    return math.sqrt(square) if square >= 0 else math.nan


def _over(a: float, b: float) -> float:
    return a / b if b else math.nan
