"""The protocol: tune each contender with as many trials, then report on seeds not seen before.

Two seeds tune. Four learning rates are tried; an optimum at the edge moves the grid. At the best
rate each alternative is tried alone, then the best of all at the rates half a rung below and
above. Eight other seeds, the same for all contenders, report the one configuration that the
validation set chose.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from evidence.contenders import LADDER, Contender
from evidence.store import Config, Result, Results
from evidence.training import short

TUNING_SEEDS = (1000, 1001)
REPORT_SEEDS = tuple(range(8))
TRIED = 4
SHORT = 0.1
"""The share of the budget that is tuned for and reported as well."""


@dataclass(frozen=True)
class Study:
    """A task on which contenders are compared.

    Args:
        name: Of the task, in tables.
        base: The configuration of every run: the task, its size, the schedule.
        contenders: Who takes part; the first is who the others are compared with.
        objective: Which score decides, the smaller the better.
        first_rate: The smallest rate of the grid, for those without a shift.
        report: The seeds that report.
    """

    name: str
    base: Config
    contenders: Sequence[Contender]
    objective: str = "loss"
    first_rate: float = 3e-4
    tuning: Sequence[int] = TUNING_SEEDS
    report: Sequence[int] = REPORT_SEEDS
    tried: int = TRIED
    """Rates that are tried before the best one is at an edge or not."""
    refine: bool = True
    """Whether the rates half a rung away are tried at the end."""


@dataclass
class Search:
    """How far the search for a contender's best configuration is.

    ``missing`` are the runs that it waits for, ``trials`` those it has made (mean objective over
    the seeds by configuration), ``best`` the configuration that won, once it is known.
    """

    missing: list[Config] = field(default_factory=list)
    trials: list[tuple[Config, float]] = field(default_factory=list)
    best: Config | None = None


def objective_of(result: Result, name: str) -> float:
    """Return a run's last validation score, infinite where it diverged."""
    if "diverged" in result:
        return math.inf
    return float(result["validation"][name][-1])


def search(study: Study, contender: Contender, done: Results) -> Search:
    """Return how far the search is, from the runs that are done."""
    state = Search()
    base = {**study.base, **contender.options}

    def tried(config: Config) -> float | None:
        """Return the mean objective of a trial, None where runs are missing."""
        runs = [{**config, "seed": seed} for seed in study.tuning]
        missing = [run for run in runs if run not in done]
        if missing:
            state.missing.extend(missing)
            return None
        mean = fmean(objective_of(done[run], study.objective) for run in runs)
        state.trials.append((config, mean))
        return mean

    def best_of(configs: Sequence[Config]) -> Config | None:
        """Return the best trial of all so far and these, None where runs are missing."""
        means = [tried(config) for config in configs]
        if None in means:
            return None
        # Of those that diverged, the smallest rate: below it lies what does not.
        return min(state.trials, key=lambda trial: (trial[1], trial[0]["lr"]))[0]

    low = LADDER.index(study.first_rate) + contender.shift
    high = low + study.tried - 1
    best = best_of([{**base, "lr": LADDER[rung]} for rung in range(low, high + 1)])
    while best is not None and best["lr"] in (LADDER[low], LADDER[high]):
        if best["lr"] == LADDER[low] and low > 0:
            low -= 1
            best = best_of([{**base, "lr": LADDER[low]}])
        elif best["lr"] == LADDER[high] and _next_is_allowed(base, high):
            high += 1
            best = best_of([{**base, "lr": LADDER[high]}])
        else:
            break
    if best is None:
        return state
    best = best_of([{**best, **alternative} for alternative in contender.alternatives])
    if best is None or not study.refine:
        state.best = best
        return state
    steps = [rate for rate in half_rungs(best["lr"]) if _is_allowed(base, rate)]
    state.best = best_of([{**best, "lr": rate} for rate in steps])
    return state


def _next_is_allowed(base: Config, rung: int) -> bool:
    return rung + 1 < len(LADDER) and _is_allowed(base, LADDER[rung + 1])


def _is_allowed(base: Config, rate: float) -> bool:
    """INNAprop wants a rate below beta."""
    return rate < float(base.get("beta", math.inf))


def half_rungs(rate: float) -> tuple[float, float]:
    """Return the rates half a rung below and above one of the ladder's."""
    return float(f"{rate / math.sqrt(3):.2g}"), float(f"{rate * math.sqrt(3):.2g}")


def report_runs(study: Study, best: Config) -> list[Config]:
    """Return the runs that report a configuration."""
    return [{**best, "seed": seed, "test": True} for seed in study.report]


def missing_runs(study: Study, done: Results) -> list[Config]:
    """Return the runs of a study that can be made now."""
    runs: list[Config] = []
    for contender in study.contenders:
        state = search(study, contender, done)
        runs += state.missing
        if state.best is not None:
            runs += [run for run in report_runs(study, state.best) if run not in done]
    return runs


@dataclass(frozen=True)
class Reported:
    """What a contender's report seeds gave, in the order of the seeds.

    ``rates`` has the loss at every rate of the grid, options as the search started.
    """

    contender: Contender
    config: Config
    results: list[Result]
    rates: list[tuple[float, float]]
    trials: int

    def finals(self, score: str) -> list[float]:
        """Return the score on the test set of every seed."""
        return [float(result["test"][score]) for result in self.results]

    def at(self, share: float, curve: str) -> list[float]:
        """Return ``training`` loss, or a validation score, at a share of the run."""
        mark = max(1, round(share * self.config["steps"]))
        found = []
        for result in self.results:
            values = result["training"] if curve == "training" else result["validation"][curve]
            found.append(float(values[result["marks"].index(mark)]))
        return found

    def reaches(self, level: float, curve: str) -> int | None:
        """Return the first mark at which the mean validation score is at a level or below it."""
        for i, mark in enumerate(self.results[0]["marks"]):
            if fmean(result["validation"][curve][i] for result in self.results) <= level:
                return int(mark)
        return None


def reported(study: Study, contender: Contender, done: Results) -> Reported | None:
    """Return what a contender's report seeds gave, None where runs are missing or diverged."""
    state = search(study, contender, done)
    if state.best is None:
        return None
    runs = report_runs(study, state.best)
    if any(run not in done or "diverged" in done[run] for run in runs):
        return None
    start = {**study.base, **contender.options}
    rates = sorted(
        (config["lr"], short(mean))
        for config, mean in state.trials
        if _differs_by_rate(config, start)
    )
    return Reported(contender, state.best, [done[run] for run in runs], rates, len(state.trials))


def _differs_by_rate(config: Config, start: Config) -> bool:
    return {**config, "lr": None} == {**start, "lr": None}


def shortened(study: Study, share: float) -> Study:
    """Return the same study at a share of its budget, to be tuned for that."""
    base = {**study.base, "steps": max(1, round(share * study.base["steps"]))}
    return replace(study, name=f"{study.name}, tuned for {100 * share:g} %", base=base)
