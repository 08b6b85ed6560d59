"""sigma and eps beside AdamW's beta2 and eps: the paper's fourth open question."""

from evidence.contenders import ACCURATE, ADAMW, FAST
from evidence.experiment import Experiment, Scale, undone
from evidence.experiments import long_runs
from evidence.store import Config, Result, Results

MEMORIES = (0.9, 0.99, 0.999, 0.9999)
EPSILONS = (1e-10, 1e-8, 1e-6, 1e-4, 1e-2)
RATE = 1e-3


def grid(scale: Scale) -> list[Config]:
    """Return the runs of all heat maps, at one rate for all."""
    (mlp,) = long_runs.studies(scale)
    base = {**mlp.base, "experiment": "second-moment", "steps": scale.pick(20, 1500), "lr": RATE}
    return [
        {
            **base,
            **each.options,
            memory_name(each.options["optimizer"]): memory,
            "eps": eps,
            "warmup": 0.05,
            "seed": seed,
            "test": True,
        }
        for each in (ADAMW, FAST, ACCURATE)
        for memory in MEMORIES
        for eps in EPSILONS
        for seed in scale.seeds((0, 1))
    ]


def memory_name(optimizer: str) -> str:
    """Return what an optimizer calls the memory of the squared gradient."""
    return "beta2" if optimizer == "adamw" else "sigma"


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    return undone(grid(scale), done)


def run(config: Config) -> Result:
    """Train one network."""
    return long_runs.run(config)


EXPERIMENT = Experiment(
    "second-moment",
    "sigma and eps",
    "Open in the paper: how sensitive is INNAprop to sigma and eps, beside AdamW?",
    plan,
    run,
)
