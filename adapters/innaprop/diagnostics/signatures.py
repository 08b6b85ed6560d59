"""Signatures of failing runs: recognition, evidence, and advice.

Each rule is a function of the records only. docs/diagnostics.md justifies the thresholds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from innaprop.diagnostics.record import Record

PLATEAU, EXPLOSION, CONSERVATIVE, OVERFITTING = (
    "plateau",
    "explosion",
    "conservative scaling",
    "overfitting",
)
LAST = 3
"""Number of consecutive records that must agree."""
ENOUGH = 7
"""Records required for a trend: the first loss, which is that of one batch, and two halves."""


@dataclass(frozen=True)
class Finding:
    """A signature that a run shows.

    Args:
        name: "plateau", "explosion", "conservative scaling" or "overfitting".
        step: The update at which it was found.
        cause: The likely cause, in words.
        evidence: The numbers that support it, by description.
        advice: What to change, in words.
    """

    name: str
    step: int
    cause: str
    evidence: dict[str, float]
    advice: str

    def __str__(self) -> str:
        """Return name, cause, evidence and advice in one sentence each."""
        numbers = ", ".join(f"{what}: {value:.3g}" for what, value in self.evidence.items())
        return f"update {self.step}: {self.name}: {self.cause} ({numbers}). {self.advice}"


def find(records: Sequence[Record]) -> list[Finding]:
    """Return the signatures that a run shows at its last record.

    Args:
        records: All records of the run, in order.

    Returns:
        At most one finding for each signature; none if nothing is wrong or too little is known.

    Raises:
        ValueError: The records are not in the order of their steps.
    """
    steps = [record.step for record in records]
    if steps != sorted(steps):
        raise ValueError(f"records must be in the order of their steps, got {steps}")
    found = (rule(records) for rule in RULES)
    return [finding for finding in found if finding is not None]


def explosion(records: Sequence[Record]) -> Finding | None:
    """Find parameters that explode, or a loss that stays above its first value."""
    if not records:
        return None
    last = records[-1]
    limit = last.all.stability_limit
    gamma = last.all.scalars["gamma"]
    lower = (
        f"Lower the learning rate, by a factor of two at first, or warm up: at {gamma:.3g} the "
        f"iterates are stable up to a curvature of {limit:.3g} of the scaled gradient, at half "
        "the rate up to twice that. A smaller beta raises the limit too"
    )
    if limit == 0:
        lower = (
            "Lower the learning rate or alpha: their product must be below 2, got "
            f"{gamma * last.all.scalars['alpha']:.3g}; the momentum is unstable whatever the loss"
        )
    measured = {
        "parameter norm": last.all.parameter_norm,
        "gradient norm": last.all.gradient_norm,
        "share of overflow": last.all.overflow,
    }
    if last.training_loss is not None:
        measured["training loss"] = last.training_loss
    if not all(map(math.isfinite, measured.values())) or last.all.overflow > 0:
        return Finding(
            EXPLOSION,
            last.step,
            "numbers are no longer finite",
            {**measured, "stability limit": limit},
            f"{lower}. Restart from an earlier checkpoint",
        )
    if len(records) <= LAST:
        return None
    tail = records[-LAST:]
    steps = list(pairwise(records[-LAST - 1 :]))
    evidence = {
        "parameter norm over the first": _ratio(last, records[0], "parameter_norm"),
        "gradient norm over the first": _ratio(last, records[0], "gradient_norm"),
        "agreement": fmean(record.all.agreement for record in tail),
        "stability limit": limit,
    }
    doubles = all(
        _ratio(b, a, name) >= 2 for a, b in steps for name in ("parameter_norm", "gradient_norm")
    )
    if doubles:
        cause = "parameters and gradients double from record to record"
        return Finding(EXPLOSION, last.step, cause, evidence, lower)
    losses = [record.training_loss for record in records if record.training_loss is not None]
    if len(losses) <= LAST:
        return None
    evidence = {"loss over the first": losses[-1] / losses[0] if losses[0] else math.inf} | evidence
    grown = evidence["parameter norm over the first"]
    # A diverged run has a low loss now and then, so this asks for the median.
    if grown >= 10 and median(losses[-LAST:]) >= losses[0]:
        cause = "the training loss is not below its first value, and the parameters have grown "
        return Finding(EXPLOSION, last.step, f"{cause}tenfold", evidence, lower)
    if min(losses[-LAST:]) <= 2 * losses[0]:
        return None
    oscillates = evidence["agreement"] < -0.5
    grows = (
        grown >= 2
        and median(_ratio(record, records[0], "gradient_norm") for record in tail) >= 2
        and all(_ratio(b, a, "parameter_norm") > 1 for a, b in steps)
    )
    if not (oscillates or grows):
        return None
    how = "the parameters oscillate" if oscillates else "parameters and gradients have grown"
    cause = f"the training loss stays above twice its first value, and {how}"
    return Finding(EXPLOSION, last.step, cause, evidence, lower)


def plateau(records: Sequence[Record]) -> Finding | None:
    """Find a loss that does not fall because of a small learning rate, or of (alpha, beta)."""
    losses = [record.training_loss for record in records[1:] if record.training_loss is not None]
    if len(losses) < ENOUGH - 1:
        return None
    half = len(losses) // 2
    before, after = fmean(losses[:half]), fmean(losses[-half:])
    last = records[-1]
    if not after > 0.99 * before or not before > 0:
        return None
    scalars = last.all.scalars
    evidence = {
        "fall of the loss": 1 - after / before,
        "scaled gradient": median(record.all.scaled_gradient for record in records[-LAST:]),
    }
    if (
        not evidence["scaled gradient"] > 0.1
    ):  # Otherwise steps are short for another reason than the rate.
        return None
    product = scalars["alpha"] * scalars["beta"]
    if not 0.01 <= product <= 10:
        if product > 10:
            cause = "alpha is too large: the momentum cancels over 90 % of a gradient's effect"
        else:
            cause = "alpha beta is too small: the momentum oscillates with hardly any damping"
        share = median(record.all.momentum_share for record in records[-LAST:])
        return Finding(
            PLATEAU,
            last.step,
            cause,
            {**evidence, "momentum share": share, "alpha beta": product},
            "Take (alpha, beta) = (2, 2), (0.1, 0.9) or (1, 1)",
        )
    way = sum((b.step - a.step) * b.all.update_norm for a, b in pairwise(records))
    moved = way / last.all.parameter_norm if last.all.parameter_norm else math.inf
    warms_up = scalars["gamma"] > records[-2].all.scalars["gamma"]
    if moved >= 0.01 or warms_up:
        return None
    return Finding(
        PLATEAU,
        last.step,
        "the learning rate is too small: all updates so far, in one direction, would not have "
        "changed the parameters by 1 %",
        {**evidence, "path length over parameter norm": moved, "learning rate": scalars["gamma"]},
        "Raise the learning rate by a factor of ten, repeatedly if necessary",
    )


def conservative_scaling(records: Sequence[Record]) -> Finding | None:
    """Find steps that eps or an old second moment makes short while the loss is high."""
    losses = [record.training_loss for record in records if record.training_loss is not None]
    if len(records) < ENOUGH or len(losses) < ENOUGH:
        return None
    tail = [record.all for record in records[-LAST:]]
    last = tail[-1]
    if not all(group.scaled_gradient < 0.1 for group in tail):
        return None
    if not fmean(losses[-LAST:]) > 0.5 * losses[0]:
        return None
    gradients = [group.gradient_norm for group in tail]
    first = records[0].all.gradient_norm
    evidence = {
        "scaled gradient": last.scaled_gradient,
        "loss over the first": losses[-1] / losses[0],
        "share at the eps floor": last.at_floor,
        "gradient norm over the first": last.gradient_norm / first if first else math.inf,
    }
    step, scalars = records[-1].step, last.scalars
    shorter = 1 / last.scaled_gradient if last.scaled_gradient else math.inf
    if median(group.at_floor for group in tail) > 0.5:
        if last.gradient_norm < 0.1 * first:
            return None
        active = last.sums["active"]
        size = last.gradient_norm / math.sqrt(active) if active else 0.0
        return Finding(
            CONSERVATIVE,
            step,
            f"eps is larger than the gradients: steps are {shorter:.3g} times shorter than the "
            "learning rate says",
            {**evidence, "eps": scalars["eps"], "root mean square of the gradient": size},
            f"Take an eps well below the gradients, {0.01 * size:.1g} or smaller",
        )
    steady = 0 < max(gradients) < 2 * min(gradients)
    falls = losses[-1] < losses[-2] < losses[-LAST]
    if not (steady and falls):
        return None
    horizon = 1 / (1 - scalars["sigma"])
    return Finding(
        CONSERVATIVE,
        step,
        f"the second moment remembers larger gradients: steps are {shorter:.3g} times shorter "
        "than the learning rate says",
        {**evidence, "sigma": scalars["sigma"], "averaging time in updates": horizon},
        "Take a smaller sigma, such as 0.95, and warm up or clip the large gradients",
    )


def overfitting(records: Sequence[Record]) -> Finding | None:
    """Find a training loss that falls while steps grow and the validation loss rises."""
    both = [
        record
        for record in records
        if record.training_loss is not None and record.validation_loss is not None
    ]
    if len(both) <= LAST:
        return None
    validation = [record.validation_loss or 0.0 for record in both]
    training = [record.training_loss or 0.0 for record in both]
    best = min(range(len(both)), key=validation.__getitem__)
    if len(both) - 1 - best < LAST:
        return None
    lowest = validation[best]
    rises = min(validation[-LAST:]) > 1.05 * lowest and validation[-1] > 1.1 * lowest
    falls = max(training[-LAST:]) < 0.9 * training[best]
    begun = median(record.all.step_growth for record in records[:LAST])
    now = median(record.all.step_growth for record in records[-LAST:])
    if not (rises and falls and lowest > 0 and now > 1.5 * begun):
        return None
    last = both[-1]
    return Finding(
        OVERFITTING,
        last.step,
        "the training loss falls while steps grow and the validation loss rises",
        {
            "validation loss over its lowest": validation[-1] / lowest,
            "training loss over that at the lowest": training[-1] / training[best],
            "growth of steps": now / begun,
            "momentum share": median(record.all.momentum_share for record in records[-LAST:]),
        },
        f"Stop at update {both[best].step}, or let the learning rate decay, or take "
        "(alpha, beta) = (2, 2), whose steps shrink, or more weight decay",
    )


RULES: tuple[Callable[[Sequence[Record]], Finding | None], ...] = (
    explosion,
    plateau,
    conservative_scaling,
    overfitting,
)
"""All rules, in the order of the findings."""


def _ratio(record: Record, other: Record, name: str) -> float:
    below = float(getattr(other.all, name))
    return float(getattr(record.all, name)) / below if below else math.inf
