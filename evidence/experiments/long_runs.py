"""Runs of T from 0.3 to 30, where the growing and the shrinking steps of the presets show."""

from evidence.contenders import ACCURATE, ADAMW, FAST, FOUR
from evidence.experiment import Experiment, Scale, plan_studies, undone
from evidence.protocol import REPORT_SEEDS, Study
from evidence.store import Config, Result, Results
from evidence.tasks import Classifier
from evidence.training import train

RATE = 1e-3
"""Of all runs that are not tuned; half of it times the steps is T."""
LENGTHS = (600, 2000, 6000, 20_000, 60_000)
DECAYS = (0.1, 0.5)


def _base(scale: Scale) -> Config:
    return {
        "experiment": "long-runs",
        "data": "fashion-mnist",
        "side": 14,
        "model": "mlp",
        "shape": {"width": scale.pick(8, 64)},
        "train": scale.pick(500, 5000),
        "held": 2000,
        "batch": 64,
        "schedule": "cosine",
        "steps": scale.pick(30, 6000),
        **scale.overrides,
    }


def studies(scale: Scale) -> list[Study]:
    """Return the comparison with every optimizer at its own best rate, at a T that it chooses."""
    return [Study("MLP", _base(scale), FOUR, "error", report=scale.seeds(REPORT_SEEDS))]


def equal_rates(scale: Scale) -> list[Config]:
    """Return the runs at one rate for all: lengths without decay, decays at one length."""
    plain = {"lr": RATE, "warmup": 0.0, "test": True}
    runs = []
    lengths = scale.pick((20, 40), LENGTHS)
    for steps in lengths:
        runs += [
            {**_base(scale), **each.options, **plain, "weight_decay": 0.01, "steps": steps}
            for each in FOUR
        ]
    for decay in DECAYS:
        runs += [
            {**_base(scale), **each.options, **plain, "weight_decay": decay, "steps": lengths[-2]}
            for each in (ADAMW, FAST, ACCURATE)
        ]
        runs += [
            {
                **_base(scale),
                **each.options,
                **plain,
                "weight_decay": decay,
                "decay_momentum": False,
                "steps": lengths[-2],
            }
            for each in (FAST, ACCURATE)
        ]
    return [{**run, "seed": seed} for run in runs for seed in scale.seeds(REPORT_SEEDS[:3])]


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    return undone(equal_rates(scale), done) + plan_studies(studies(scale), done)


def run(config: Config) -> Result:
    """Train one network."""
    return train(Classifier(config), config)


EXPERIMENT = Experiment(
    "long-runs",
    "Long runs",
    "(0.1, 0.9) trains faster, (2, 2) ends at the better accuracy.",
    plan,
    run,
    studies,
)
