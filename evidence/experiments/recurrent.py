"""Recurrent networks, which the paper does not try."""

from evidence.contenders import FOUR
from evidence.experiment import Experiment, Scale, plan_studies
from evidence.protocol import REPORT_SEEDS, Study
from evidence.store import Config, Result, Results
from evidence.tasks import Writer
from evidence.training import train


def studies(scale: Scale) -> list[Study]:
    """Return a comparison a kind of network."""
    return [
        Study(
            name,
            {
                "experiment": "recurrent",
                "data": "kjv",
                "model": name.lower(),
                "shape": {"width": scale.pick(16, 64)},
                "context": scale.pick(8, 32),
                "batch": scale.pick(4, 16),
                "steps": scale.pick(20, 600),
                "held": scale.pick(16, 256),
                "schedule": "cosine",
                "clip": 1.0,
                **scale.overrides,
            },
            FOUR,
            first_rate=1e-3,
            report=scale.seeds(REPORT_SEEDS),
        )
        for name in ("GRU", "LSTM")
    ]


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    return plan_studies(studies(scale), done)


def run(config: Config) -> Result:
    """Train one model."""
    return train(Writer(config), config)


EXPERIMENT = Experiment(
    "recurrent",
    "Recurrent networks",
    "Not tried in the paper: GRU and LSTM.",
    plan,
    run,
    studies,
)
