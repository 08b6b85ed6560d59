"""A state of 16 bits beside one of 32, in three of the experiments.

A third run of each seed has 32 bits and an eps that is a thousandth larger: how far the results of
runs lie apart that differ by next to nothing.
"""

from evidence.contenders import ACCURATE, FAST
from evidence.experiment import Experiment, Scale, undone
from evidence.experiments import long_runs, recurrent, rivals
from evidence.protocol import REPORT_SEEDS, Study
from evidence.store import Config, Result, Results

RATES = {"mlp": (1e-3, 3e-3), "gru": (1e-2, 1e-2), "gpt": (3e-3, 1e-2)}
"""Learning rates of (0.1, 0.9) and (2, 2), on the ladder, near where the tuning has ended."""
CHANGES: dict[str, Config] = {
    "32 bits": {},
    "16 bits": {"state_bits": 16},
    "32 bits, eps + 0.1 %": {"eps": 1.001e-8},
}
_RUNS = {"mlp": long_runs.run, "gru": recurrent.run, "gpt": rivals.run}


def studies(scale: Scale) -> list[Study]:
    """Return the comparisons whose tasks are taken."""
    return [
        *long_runs.studies(scale),
        *(study for study in recurrent.studies(scale) if study.base["model"] == "gru"),
        *rivals.studies(scale),
    ]


def grid(scale: Scale) -> list[Config]:
    """Return all runs; those of all changes, in their order, are neighbours."""
    return [
        {
            **study.base,
            **pair.options,
            "experiment": "state-bits",
            "lr": rate,
            "seed": seed,
            "state_bits": 32,
            "test": True,
            **change,
        }
        for study in studies(scale)
        for pair, rate in zip((FAST, ACCURATE), RATES[study.base["model"]], strict=True)
        for seed in scale.seeds(REPORT_SEEDS)
        for change in CHANGES.values()
    ]


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    return undone(grid(scale), done)


def run(config: Config) -> Result:
    """Train one network."""
    return _RUNS[config["model"]](config)


EXPERIMENT = Experiment(
    "state-bits",
    "A state of 16 bits",
    "The same memory as AdamW, halved: not tried in the paper.",
    plan,
    run,
)
