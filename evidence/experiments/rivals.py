"""Other optimizers, each with the same budget of tuning: the paper's first open question."""

from evidence.contenders import FOUR, RIVALS
from evidence.experiment import Experiment, Scale, plan_studies
from evidence.experiments.language import base
from evidence.protocol import REPORT_SEEDS, Study
from evidence.store import Config, Result, Results
from evidence.tasks import Writer
from evidence.training import train


def studies(scale: Scale) -> list[Study]:
    """Return the one comparison."""
    return [
        Study(
            "GPT, 32 wide",
            {
                **base(scale, scale.pick(16, 32), scale.pick(1, 2), 2),
                "experiment": "rivals",
                "steps": scale.pick(20, 200),
            },
            [*FOUR, *RIVALS],
            first_rate=1e-3,
            report=scale.seeds(REPORT_SEEDS),
        )
    ]


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    return plan_studies(studies(scale), done, short=False)


def run(config: Config) -> Result:
    """Train one model."""
    return train(Writer(config), config)


EXPERIMENT = Experiment(
    "rivals",
    "Rivals",
    "Open in the paper: how does INNAprop compare with Sophia, Adafactor and others?",
    plan,
    run,
    studies,
)
