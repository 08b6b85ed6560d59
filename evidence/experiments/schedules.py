"""alpha and beta that change during the run: the paper's second open question."""

from dataclasses import replace

from evidence.contenders import ACCURATE, ADAMW, FAST, Contender
from evidence.experiment import Experiment, Scale, plan_studies
from evidence.experiments import long_runs
from evidence.optimizers import SHAPES
from evidence.protocol import REPORT_SEEDS, Study
from evidence.store import Config, Result, Results

_PAIRS = {"fast": (FAST, [0.1, 0.9]), "accurate": (ACCURATE, [2.0, 2.0])}


def travellers() -> list[Contender]:
    """Return the ways from one preset to the other, and back."""
    found = []
    for start, end in (("fast", "accurate"), ("accurate", "fast")):
        contender, (_, to) = _PAIRS[start][0], _PAIRS[end]
        for path in SHAPES:
            options = {**contender.options, "to": to, "path": path}
            found.append(replace(contender, name=f"{start} to {end}, {path}", options=options))
    return found


def studies(scale: Scale) -> list[Study]:
    """Return the one comparison: only the rate is searched for, with the same grid for all."""
    (mlp,) = long_runs.studies(scale)
    base = {**mlp.base, "experiment": "schedules", "steps": scale.pick(30, 3000)}
    contenders = [each.only_rates() for each in (ADAMW, FAST, ACCURATE, *travellers())]
    return [replace(mlp, base=base, contenders=contenders, report=scale.seeds(REPORT_SEEDS))]


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    return plan_studies(studies(scale), done, short=False)


def run(config: Config) -> Result:
    """Train one network."""
    return long_runs.run(config)


EXPERIMENT = Experiment(
    "schedules",
    "Schedules of alpha and beta",
    "Open in the paper: would schedules of alpha and beta help?",
    plan,
    run,
    studies,
)
