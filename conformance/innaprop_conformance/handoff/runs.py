"""The runs that are handed over: two short cases, and when the handoff takes place."""

from dataclasses import asdict
from typing import NamedTuple

from innaprop_conformance.cases import Array, Case, Group, Schedule
from innaprop_conformance.cases import Hyperparameters as Numbers
from innaprop_conformance.cases.numbers import SHAPES
from innaprop_conformance.handoff.loop import TrainingLoop
from innaprop_conformance.truth import Truth
from innaprop_conformance.truths import truth_of, truths_folder
from innaprop_core import Hyperparameters

STEPS = 60
HANDOFF = 25
"""Number of updates before the handoff, at which the step size is still large."""
_PEAK = 1e-2


class Run(NamedTuple):
    """One run, as arrays and numbers."""

    hyperparameters: Hyperparameters
    start: list[Array]
    gradients: list[list[Array]]
    gammas: list[float]


def names() -> list[str]:
    """Return the names of all runs."""
    return list(_CASES)


def run(name: str) -> Run:
    """Return a run by its name."""
    case = _CASES[name]
    return Run(
        Hyperparameters(**asdict(case.group.hyperparameters)),
        case.parameters(),
        [[g for g in gradients if g is not None] for gradients in case.stream()],
        [case.group.at("gamma", updates) for updates in range(case.steps)],
    )


def shared_dtypes(name: str, *loops: type[TrainingLoop]) -> list[str]:
    """Return the dtypes of a run that all given training loops support."""
    return [d for d in _DTYPES[name] if all(d in loop.dtypes for loop in loops)]


def truth(name: str) -> Truth:
    """Return the ground truth of a run, without interruption."""
    return truth_of(_CASES[name], folder=truths_folder())


# Most of the time is compilation, for every dtype and every (alpha, beta): hence so few.
_DTYPES = {
    "handoff,fast": ("float32", "float64", "bfloat16"),
    "handoff,accurate": ("float64",),
}
_CASES = {
    name: Case(
        name=name,
        family="handoff",
        groups=(
            Group(
                Numbers(_PEAK, alpha, beta, weight_decay=0.1),
                SHAPES,
                Schedule("cosine", _PEAK, STEPS),
            ),
        ),
        steps=STEPS,
    )
    for name, (alpha, beta) in zip(_DTYPES, ((0.1, 0.9), (2.0, 2.0)), strict=True)
}
