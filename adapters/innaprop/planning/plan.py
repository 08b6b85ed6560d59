"""``innaprop.plan``: predicts a run from AdamW's or INNAprop's hyperparameters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from innaprop.planning.motion import (
    Idle,
    Steps,
    adamw_stability_limit,
    idle_of,
    stability_limit,
    steps_of,
)
from innaprop.planning.rates import SHAPES, Rate, is_number, named_rates, rates_of
from innaprop.planning.words import html_of, text_of, warnings_of
from innaprop_core import BEST_ACCURACY, FAST_TRAINING, Hyperparameters
from innaprop_core.hyperparameters import Dampings, check_hyperparameters

LONG = 2.0
"""Largest T, the sum of the learning rates, for which (0.1, 0.9) is suggested: in longer runs its
steps move a weight about twice as far as AdamW's or more, and validation losses above AdamW's were
observed (docs/evidence/long-runs.md)."""
FALLEN = 0.1
"""For (0.1, 0.9) the final rate must also be at most this fraction of the peak: at a constant rate
the growing steps are longest at the end of the run."""
RATE = {"torch": "lr", **dict.fromkeys(("keras", "tensorflow", "optax"), "learning_rate")}
"""Name of the learning rate in each framework's optimizer."""
_ALIASES = {"pytorch": "torch", "tf": "tensorflow", "jax": "optax"}


@dataclass(frozen=True, repr=False)
class Plan:
    """The predicted behaviour of a run of INNAprop. ``print`` it, or display it in a notebook.

    All lengths are those of a weight under a constant u = 1, in units of the weight. Real gradients
    change direction, so they are upper bounds, to be compared with AdamW's.
    """

    hyperparameters: Hyperparameters
    """INNAprop's hyperparameters; gamma is the largest learning rate."""
    rates: tuple[float, ...]
    """Learning rate of each update."""
    adamw_rates: tuple[float, ...]
    """AdamW's learning rate at each update."""
    adamw_weight_decay: float
    """AdamW's weight decay."""
    adamw_beta1: float
    """AdamW's beta1."""

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of ``innaprop.torch.INNAprop``; ``lr`` is the schedule's largest rate."""
        return self.options_for("torch")

    def options_for(self, framework: str) -> dict[str, Any]:
        """Return arguments of a framework's optimizer; the rate is the schedule's largest.

        Args:
            framework: "torch", "keras", "tensorflow" or "optax"; also "pytorch", "tf" or "jax".
                In upper or lower case.

        Raises:
            ValueError: It is none of these.
        """
        own = framework.lower()
        own = _ALIASES.get(own, own)
        if own not in RATE:
            raise ValueError(f"framework must be one of {', '.join(RATE)}, got {framework!r}")
        scalars = self.hyperparameters
        return {
            RATE[own]: scalars.gamma,
            "alpha": scalars.alpha,
            "beta": scalars.beta,
            "weight_decay": scalars.weight_decay,
            "decay_momentum": scalars.decay_momentum,
        }

    @property
    def total(self) -> float:
        """T, the sum of the learning rates: the time scale of alpha and beta."""
        return math.fsum(self.rates)

    @property
    def time_constant(self) -> float:
        """Updates in which 63 % of a momentum decays at the largest rate: 1/(alpha lr)."""
        product = self.hyperparameters.alpha * self.hyperparameters.gamma
        return 1 / product if product else math.inf

    @cached_property
    def steps(self) -> Steps:
        """Lengths of the steps, and of AdamW's."""
        return steps_of(self.hyperparameters, self.rates, self.adamw_rates)

    @cached_property
    def idle(self) -> Idle:
        """The effect of weight decay on a weight without a gradient, and of AdamW's."""
        return idle_of(self.hyperparameters, self.rates, self.adamw_rates, self.adamw_weight_decay)

    @property
    def stability_limit(self) -> float:
        """Largest stable curvature h of the scaled gradient, u = h theta, at the largest rate."""
        return stability_limit(self.hyperparameters, max(self.rates))

    @property
    def adamw_stability_limit(self) -> float:
        """The same for AdamW."""
        return adamw_stability_limit(max(self.adamw_rates), self.adamw_beta1)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the run; sentences."""
        return warnings_of(self)

    def plot(self) -> Any:
        """Plot the lengths of the steps, and of AdamW's; return the matplotlib Figure.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        from innaprop.planning.figure import draw

        return draw(self)

    def __repr__(self) -> str:
        return text_of(self)

    def _repr_html_(self) -> str:
        return html_of(self)


def plan(
    *,
    steps: int,
    lr: Rate = None,
    adamw_lr: Rate = None,
    schedule: str = "constant",
    warmup_steps: int = 0,
    alpha: float | None = None,
    beta: float | None = None,
    weight_decay: float | None = 0.01,
    decay_momentum: bool | None = None,
    adamw_beta1: float = 0.9,
) -> Plan:
    """Predict what INNAprop will do in a run, compared with AdamW.

    With ``adamw_lr`` alone it suggests hyperparameters: AdamW's learning rate and weight decay are
    kept, ``decay_momentum`` is False (so that a weight without a gradient decays as in AdamW), and
    alpha and beta are chosen by the length of the run. With ``lr`` it uses INNAprop's own
    hyperparameters.

    Args:
        steps: Number of updates of the run, >= 1.
        lr: INNAprop's learning rate, a number; or its schedule: a list of rates, a function of the
            update's number from 0 (such as schedules of optax, Keras and TensorFlow), or a PyTorch
            scheduler.
        adamw_lr: AdamW's learning rate, likewise. With both, ``lr`` is planned and compared with
            AdamW at ``adamw_lr``.
        schedule: If the rate is a number, its schedule: "constant", or "linear" or "cosine", which
            end at zero.
        warmup_steps: Updates over which that rate increases linearly from zero, 0 to steps.
        alpha: Default None: 0.1, or the suggested value.
        beta: Default None: 0.9, or the suggested value.
        weight_decay: Weight decay of both optimizers, >= 0; None is 0. Default 0.01.
        decay_momentum: Default None: True with ``lr``, as in Algorithm 1; False without.
        adamw_beta1: In [0, 1). Default 0.9.

    Returns:
        A ``Plan``; ``plan(...).options`` are arguments of the optimizer.

    Raises:
        TypeError: A value is of a wrong type.
        ValueError: A value is out of its range, only one of alpha and beta is given, or neither lr
            nor adamw_lr is given.

    Source: docs/practice.md derives the formulas; arXiv 2410.05871, Algorithm 1.
    """
    _check(steps, lr, adamw_lr, schedule, warmup_steps, alpha, beta, adamw_beta1)
    rate_name = "lr" if lr is not None else "adamw_lr"

    def all_rates(value: Rate, name: str) -> list[float]:
        if not is_number(value):
            return rates_of(value, steps, name)
        check_hyperparameters({"gamma": value}, {"gamma": name})
        return named_rates(float(cast(float, value)), steps, schedule, warmup_steps)

    weight_decay = 0.0 if weight_decay is None else weight_decay
    given = lr is not None
    rates = all_rates(lr, "lr") if given else all_rates(adamw_lr, "adamw_lr")
    adamw_rates = all_rates(adamw_lr, "adamw_lr") if adamw_lr is not None else rates
    if alpha is None or beta is None:
        dampings = FAST_TRAINING if given else suggested_dampings(rates)
        alpha, beta = dampings["alpha"], dampings["beta"]
    values = {"gamma": max(rates), "alpha": alpha, "beta": beta, "weight_decay": weight_decay}
    check_hyperparameters(values, {"gamma": rate_name})
    scalars = Hyperparameters(
        max(rates),
        alpha,
        beta,
        weight_decay=weight_decay,
        decay_momentum=given if decay_momentum is None else decay_momentum,
    )
    return Plan(scalars, tuple(rates), tuple(adamw_rates), float(weight_decay), adamw_beta1)


def suggested_dampings(rates: Sequence[float]) -> Dampings:
    """Return a preset for a run: (0.1, 0.9) only for short runs whose learning rate falls.

    Args:
        rates: The learning rate of each update.
    """
    falls = rates[-1] <= FALLEN * max(rates)
    return FAST_TRAINING if falls and math.fsum(rates) <= LONG else BEST_ACCURACY


def _check(
    steps: Any,
    lr: Any,
    adamw_lr: Any,
    schedule: Any,
    warmup_steps: Any,
    alpha: Any,
    beta: Any,
    adamw_beta1: Any,
) -> None:
    for name, value in (("steps", steps), ("warmup_steps", warmup_steps)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an integer, got {value!r}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not 0 <= warmup_steps <= steps:
        raise ValueError(f"warmup_steps must be in 0 to {steps}, got {warmup_steps}")
    if lr is None and adamw_lr is None:
        raise ValueError("lr or adamw_lr must be given: INNAprop's learning rate, or AdamW's")
    if schedule not in SHAPES:
        raise ValueError(
            f"schedule must be one of {', '.join(SHAPES)}, got {schedule!r}; "
            "give a schedule of another kind as lr or adamw_lr"
        )
    numbers = [value for value in (lr, adamw_lr) if value is not None and is_number(value)]
    if not numbers and (schedule != "constant" or warmup_steps):
        raise ValueError("schedule and warmup_steps go with a number, not with a schedule of rates")
    if (alpha is None) != (beta is None):
        raise ValueError(f"alpha and beta go together, got alpha={alpha!r} and beta={beta!r}")
    if not is_number(adamw_beta1):
        raise TypeError(f"adamw_beta1 must be a number in [0, 1), got {adamw_beta1!r}")
    if not 0 <= adamw_beta1 < 1:
        raise ValueError(f"adamw_beta1 must be a number in [0, 1), got {adamw_beta1!r}")
