"""Paired differences, and what may be said of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
FEWEST = 5
"""Seeds below which an interval decides nothing."""


class Difference(NamedTuple):
    """A mean difference, and the interval that 95 % of its bootstrap resamples lie in."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> str:
        """Return ahead, behind or undecided, where less is better; or that seeds are too few."""
        if self.seeds < FEWEST:
            return "few seeds"
        if self.high < 0:
            return "ahead"
        return "behind" if self.low > 0 else "undecided"


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Return the difference ours - theirs of runs that share their seeds."""
    differences = np.asarray(ours, float) - np.asarray(theirs, float)
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[chosen].mean(1), [0.025, 0.975])
    return Difference(float(differences.mean()), float(low), float(high), len(differences))


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation of single runs."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
