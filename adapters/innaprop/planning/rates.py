"""The learning rate of each update of a run, from a name, a list or a framework's schedule."""

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from numbers import Real
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np

Rate: TypeAlias = float | Iterable[float] | Callable[[Any], Any] | Any
"""A number, several numbers, a function of the update's number from 0 (such as a schedule of optax,
Keras or TensorFlow), or a PyTorch scheduler."""

SHAPES: dict[str, Callable[[Any], Any]] = {
    "constant": np.ones_like,
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + np.cos(math.pi * x)) / 2,
}
"""The decay of a named schedule, from 1 at the end of the warmup to 0 after the last update."""


def named_rates(peak: float, steps: int, schedule: str, warmup_steps: int) -> list[float]:
    """Return the rates of a named schedule.

    Args:
        peak: The largest rate.
        steps: Number of updates of the run, including the warmup.
        schedule: "constant", "linear" or "cosine"; the latter two end at zero.
        warmup_steps: Updates over which the rate increases linearly, the last of them at the peak.
    """
    rise = np.arange(1, warmup_steps + 1) / max(warmup_steps, 1)
    rest = steps - warmup_steps
    fall = SHAPES[schedule](np.arange(rest) / max(rest, 1))
    return [float(rate) for rate in peak * np.concatenate([rise, fall])]


def rates_of(schedule: Rate, steps: int, name: str) -> list[float]:
    """Return the rates of a list or a framework's schedule.

    A PyTorch scheduler is copied, and the copy continues from its current step: neither it nor its
    optimizer changes. The rates are those of the first parameter group.

    Args:
        schedule: See ``Rate``; not a number.
        steps: Number of updates of the run.
        name: Name of the caller's argument, for errors.

    Raises:
        TypeError: It is none of these.
        ValueError: There are fewer than steps rates, or one is not a finite number >= 0.
    """
    if hasattr(schedule, "step") and hasattr(schedule, "optimizer"):
        values = _rates_of_scheduler(schedule, steps)
    elif callable(schedule):
        values = _rates_of_function(schedule, steps)
    elif isinstance(schedule, Iterable) and not isinstance(schedule, (str, bytes)):
        values = list(itertools.islice(schedule, steps))
    else:
        raise TypeError(
            f"{name} must be a number, a schedule, a scheduler or a list of rates, "
            f"got {schedule!r} of type {type(schedule).__name__}"
        )
    if len(values) < steps:
        raise ValueError(f"{name} must have {steps} rates, one for each step, got {len(values)}")
    rates = [float(value) for value in values]
    for step, rate in enumerate(rates):
        if not 0 <= rate < math.inf:
            raise ValueError(f"{name} must be finite and >= 0 at every step, got {rate} at {step}")
    return rates


def is_number(value: object) -> bool:
    """Return whether a value is a real number, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _rates_of_function(schedule: Callable[[Any], Any], steps: int) -> list[Any]:
    # Most schedules accept an array of all counts, which is much faster.
    try:
        values = np.asarray(schedule(np.arange(steps)))
        if values.shape == (steps,):
            last = float(schedule(steps - 1))
            if math.isclose(float(values[-1]), last, rel_tol=1e-6, abs_tol=1e-30):
                return list(values)
    except Exception:  # It may accept numbers only.
        pass
    return [schedule(step) for step in range(steps)]


def _rates_of_scheduler(scheduler: Any, steps: int) -> list[float]:
    optimizer = scheduler.optimizer
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]

    def step() -> None:
        """Stand-in for the optimizer's, which PyTorch requires to have been called."""

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    stand_in = SimpleNamespace(
        param_groups=groups, defaults=optimizer.defaults, step=step, _opt_called=True
    )
    # A scheduler refers to its optimizer, and so do schedulers nested in it.
    copied = copy.deepcopy(scheduler, {id(optimizer): stand_in})
    rates = []
    for _ in range(steps):
        rates.append(float(groups[0]["lr"]))
        copied.step()
    return rates
