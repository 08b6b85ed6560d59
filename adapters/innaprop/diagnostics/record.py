"""The record of one measured update, for each group and for all parameters together."""

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
"""The reported quantities of a group, in order."""


@dataclass(frozen=True)
class Group:
    """Measurements of one update of a group of parameters.

    Args:
        sums: A number for each name of ``innaprop.diagnostics.measure.SUMS``.
        scalars: The group's gamma, alpha, beta, sigma, eps and weight_decay at this update.
    """

    sums: Mapping[str, float]
    scalars: Mapping[str, float]

    @property
    def elements(self) -> int:
        """Number of elements of the parameters; complex elements count twice."""
        return int(self.sums["elements"])

    @property
    def parameter_norm(self) -> float:
        """Euclidean norm of the parameters before the update (master weights of 16-bit ones)."""
        return _root(self.sums["parameter"])

    @property
    def gradient_norm(self) -> float:
        """Euclidean norm of the gradient as used by the update: unscaled and clipped."""
        return _root(self.sums["gradient"])

    @property
    def update_norm(self) -> float:
        """Euclidean norm of the update, weight decay included."""
        return _root(self.sums["update"])

    @property
    def update_over_parameter(self) -> float:
        """Norm of the update divided by that of the parameters; NaN if all parameters are zero."""
        return _over(self.update_norm, self.parameter_norm)

    @property
    def momentum_share(self) -> float:
        """The fraction of the update that the momentum contributes, projected onto the update.

        The fractions of momentum, scaled gradient and decay add up to 1. It is negative if the
        momentum opposes the gradient: -3 for (2, 2) under a constant gradient. NaN if the update is
        zero.
        """
        return _over(self.sums["momentum_in_update"], self.sums["update"])

    @property
    def agreement(self) -> float:
        """Cosine between the momentum and the scaled gradient's contribution to it.

        1 under a constant gradient, about 0 under noise, -1 if the parameters oscillate from update
        to update. 0 at alpha beta = 1.
        """
        viscous = 1 - self.scalars["alpha"] * self.scalars["beta"]
        length = _root(self.sums["momentum"]) * _root(self.sums["scaled_gradient"])
        if length == 0 or abs(viscous) < 1e-6:
            return 0.0
        return math.copysign(1.0, viscous) * self.sums["momentum_and_gradient"] / length

    @property
    def scaled_gradient(self) -> float:
        """Root mean square of u over the elements that have a gradient; about 1 in a healthy run.

        Smaller if eps, or a second moment from earlier, larger gradients, dominates. NaN without
        gradients.
        """
        return _root(_over(self.sums["scaled_gradient"], self.sums["active"]))

    @property
    def step_growth(self) -> float:
        """Norm of the update divided by that of gamma beta u, its part without momentum.

        1 if there is no momentum; under a constant gradient it converges to 1 / (alpha beta). NaN
        without gradients.
        """
        first = self.scalars["gamma"] * self.scalars["beta"] * _root(self.sums["scaled_gradient"])
        return _over(self.update_norm, first)

    @property
    def at_floor(self) -> float:
        """Fraction of the elements with a gradient whose root of the second moment is below eps."""
        return _over(self.sums["at_floor"], self.sums["active"])

    @property
    def stale(self) -> float:
        """Fraction of elements whose gradient is at most 1/1000 of the root of the second moment.

        It includes elements that never had a gradient.
        """
        return _over(self.sums["stale"], self.sums["elements"])

    @property
    def overflow(self) -> float:
        """Fraction of elements whose second moment is infinite or NaN after the update."""
        return _over(self.sums["overflow"], self.sums["elements"])

    @property
    def stalled(self) -> float:
        """Fraction of elements whose nonzero update is lost in rounding."""
        return _over(self.sums["stalled"], self.sums["elements"])

    @property
    def decay_driven(self) -> float:
        """Fraction of elements to whose momentum weight decay contributes more than the gradient.

        Always 0 with ``decay_momentum=False``.
        """
        return _over(self.sums["decay_driven"], self.sums["elements"])

    @property
    def stability_limit(self) -> float:
        """The largest curvature of the scaled gradient with stable iterates (docs/practice).

        0 for alpha gamma >= 2: the momentum alone is unstable then.
        """
        gamma, alpha, beta = (self.scalars[name] for name in ("gamma", "alpha", "beta"))
        # In this order NaN, for a gamma of zero, stays NaN.
        return max(_over(4 - 2 * alpha * gamma, gamma * (2 * beta - gamma)), 0.0)


@dataclass(frozen=True)
class Record:
    """One measured update.

    Args:
        step: Number of the update, 1 at the first.
        groups: The measurements, by group name. At least one.
        training_loss: Mean of the training losses since the last record; None if none was given.
        validation_loss: The last validation loss since the last record, or None.
    """

    step: int
    groups: Mapping[str, Group]
    training_loss: float | None = None
    validation_loss: float | None = None

    @property
    def all(self) -> Group:
        """All parameters together, with the scalars of the largest group."""
        groups = list(self.groups.values())
        sums = {name: sum(group.sums[name] for group in groups) for name in SUMS}
        return Group(sums, max(groups, key=lambda group: group.elements).scalars)

    def as_dict(self, prefix: str = "innaprop/") -> dict[str, float]:
        """Return everything as one flat dict, for W&B and other loggers.

        Args:
            prefix: Prefix of the keys. Default "innaprop/".

        Returns:
            Numbers for all parameters, with keys such as "innaprop/update_over_parameter"; if there
            are several groups also "innaprop/GROUP/update_over_parameter"; and losses, if known.
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
    """Return the record of an adapter's measurements.

    Args:
        step: Number of the update, 1 at the first.
        measured: By group name, a value for each name of ``SUMS`` and ``SCALARS``; anything that
            ``float`` accepts.
        training_loss: As in ``Record``.
        validation_loss: As in ``Record``.

    Raises:
        TypeError: ``measured`` is not a mapping of mappings.
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
