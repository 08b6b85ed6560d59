"""What an experiment is: a plan that grows with the results, and how one run of it is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from evidence.protocol import SHORT, Study, missing_runs, shortened
from evidence.store import Config, Result, Results


@dataclass(frozen=True)
class Scale:
    """How large the runs are.

    Args:
        size: ``smoke`` (seconds, to see that all of it works), ``cores`` (two cores) or ``full``
            (one GPU).
        overrides: What the configurations of all runs get besides: a device, other data.
    """

    size: str = "cores"
    overrides: dict[str, Any] = field(default_factory=dict)

    def seeds(self, seeds: Sequence[int], *, full: int = 3) -> tuple[int, ...]:
        """Return as many of the seeds as the size has time for."""
        return tuple(seeds[: {"smoke": 2, "cores": len(seeds), "full": full}[self.size]])

    def pick(self, smoke: Any, cores: Any, full: Any = None) -> Any:
        """Return what belongs to the size."""
        return {"smoke": smoke, "cores": cores, "full": cores if full is None else full}[self.size]


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Args:
        name: On the command line and of its result file.
        title: In the documentation.
        claim: What the paper claims, or asks.
        plan: Returns the runs that can be made now, of those that are not done.
        run: Makes one.
        studies: Its comparisons under the protocol.
    """

    name: str
    title: str
    claim: str
    plan: Callable[[Scale, Results], list[Config]]
    run: Callable[[Config], Result]
    studies: Callable[[Scale], list[Study]] = lambda scale: []


def undone(configs: Sequence[Config], done: Results) -> list[Config]:
    """Return those that are not done, each once."""
    return [config for config in configs if config not in done]


def plan_studies(studies: Sequence[Study], done: Results, *, short: bool = True) -> list[Config]:
    """Return what studies miss, at their whole budget and tuned for a tenth of it."""
    runs = []
    for study in studies:
        runs += missing_runs(study, done)
    for study in studies if short else ():
        runs += missing_runs(shortened(study, SHORT), done)
    return runs
