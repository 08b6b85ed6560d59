"""The motion of a single weight over a run, in closed form or update by update.

The recurrences are those of ``innaprop_core.momentum``, for plain numbers: a million updates take a
second, with arrays a minute. Tests compare them with the core.
"""

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

from innaprop_core import Hyperparameters


@dataclass(frozen=True)
class Steps:
    """Steps of a run under a constant u = 1, without weight decay, in units of the parameter."""

    lengths: tuple[float, ...]
    """Length of each step."""
    adamw: tuple[float, ...]
    """Length of each of AdamW's steps: its learning rates."""

    @property
    def first(self) -> float:
        """Length of the first step."""
        return self.lengths[0]

    @property
    def last(self) -> float:
        """Length of the last step."""
        return self.lengths[-1]

    @property
    def longest(self) -> tuple[float, int]:
        """Length of the longest step, and its update, counted from 0."""
        length = max(self.lengths)
        return length, self.lengths.index(length)

    @property
    def distance(self) -> float:
        """Sum of all steps."""
        return math.fsum(self.lengths)

    @property
    def adamw_distance(self) -> float:
        """Sum of all of AdamW's steps."""
        return math.fsum(self.adamw)


@dataclass(frozen=True)
class Idle:
    """A weight without a gradient, 1 at the start, under weight decay alone."""

    left: float
    """Its value after the run."""
    adamw_left: float
    """Its value after the run under AdamW."""
    crosses_at: int | None
    """The update, counted from 1, after which it is first negative; None if it never is."""
    rates: tuple[complex, complex]
    """Exponents s of its motion exp(s t), t being the sum of the learning rates; slow one first."""

    @property
    def swings(self) -> bool:
        """Whether it eventually oscillates around zero instead of decaying monotonically."""
        return self.rates[0].imag != 0


def steps_of(scalars: Hyperparameters, rates: Sequence[float], adamw: Sequence[float]) -> Steps:
    """Simulate a weight under a constant u = 1.

    Args:
        scalars: INNAprop's hyperparameters; only alpha and beta are used.
        rates: The learning rate of each update, below beta.
        adamw: The same for AdamW.
    """
    c = 1 - scalars.alpha * scalars.beta
    momentum, lengths = 0.0, []
    for rate in rates:
        lengths.append(rate * (momentum + scalars.beta))
        momentum += rate * (c - scalars.alpha * momentum)
    return Steps(tuple(lengths), tuple(adamw))


def idle_of(
    scalars: Hyperparameters, rates: Sequence[float], adamw: Sequence[float], adamw_decay: float
) -> Idle:
    """Simulate a weight without a gradient.

    Args:
        scalars: INNAprop's; alpha, beta, weight_decay and decay_momentum are used.
        rates: The learning rate of each update.
        adamw: The same for AdamW.
        adamw_decay: AdamW's weight decay.
    """
    alpha, beta, decay = scalars.alpha, scalars.beta, scalars.weight_decay
    share = decay * (1 - alpha * beta) / beta if scalars.decay_momentum else 0.0
    theta, momentum, crosses_at = 1.0, 0.0, None
    for step, rate in enumerate(rates, 1):
        momentum += rate * share * theta
        theta -= rate * (decay * theta + momentum)
        momentum *= 1 - alpha * rate
        if theta < 0 and crosses_at is None:
            crosses_at = step
    left = math.prod(1 - rate * adamw_decay for rate in adamw)
    return Idle(theta, left, crosses_at, idle_rates(scalars))


def idle_rates(scalars: Hyperparameters) -> tuple[complex, complex]:
    """Return the roots of s^2 + (lambda + alpha) s + lambda/beta = 0, the slow one first.

    With ``decay_momentum=False`` they are -lambda and -alpha.
    """
    alpha, beta, decay = scalars.alpha, scalars.beta, scalars.weight_decay
    if not scalars.decay_momentum:
        return complex(-min(decay, alpha)), complex(-max(decay, alpha))
    middle = (decay + alpha) / 2
    root = cmath.sqrt(middle**2 - decay / beta)
    if root.imag:
        return -middle + root, -middle - root
    fast = -middle - root
    # From the product of the roots, which avoids cancellation.
    return (decay / beta / fast if fast else fast), fast


def stability_limit(scalars: Hyperparameters, rate: float) -> float:
    """Return the curvature h of u = h theta up to which the iterates stay bounded.

    It is 0 for alpha rate >= 2: the momentum alone is unstable then.

    Args:
        scalars: INNAprop's hyperparameters; only alpha and beta are used.
        rate: The learning rate.
    """
    alpha, beta = scalars.alpha, scalars.beta
    if not rate:
        return math.inf
    return max(0.0, (4 - 2 * alpha * rate) / (rate * (2 * beta - rate)))


def adamw_stability_limit(rate: float, beta1: float) -> float:
    """Return AdamW's stability limit, 2 (1 + beta1)/((1 - beta1) rate)."""
    return 2 * (1 + beta1) / ((1 - beta1) * rate) if rate else math.inf
