"""Fine-tuning: a network that knows classes A learns classes B."""

from functools import lru_cache

from torch import Tensor

from evidence.contenders import FOUR
from evidence.experiment import Experiment, Scale, plan_studies
from evidence.protocol import REPORT_SEEDS, Study
from evidence.store import Config, Result, Results
from evidence.tasks import Classifier
from evidence.training import train

BEFORE = (0, 1, 3, 5, 8)
"""T-shirt, trouser, dress, sandal, bag."""
AFTER = (2, 4, 6, 7, 9)
"""Pullover, coat, shirt, sneaker, ankle boot."""


def _base(scale: Scale) -> Config:
    return {
        "experiment": "finetuning",
        "data": "fashion-mnist",
        "side": 14,
        "model": "vgg",
        "shape": {"widths": scale.pick([4, 0, 8, 0], [12, 0, 24, 0, 48])},
        "classes": list(AFTER),
        "known": list(BEFORE),
        "train": scale.pick(300, 1000),
        "held": 2000,
        "batch": 32,
        "schedule": "cosine",
        "steps": scale.pick(20, 200),
        "known_train": scale.pick(300, 10_000),
        "known_steps": scale.pick(20, 400),
        **scale.overrides,
    }


def studies(scale: Scale) -> list[Study]:
    """Return the one comparison."""
    report = scale.seeds(REPORT_SEEDS)
    return [Study("VGG, new classes", _base(scale), FOUR, "error", report=report)]


@lru_cache(maxsize=16)
def _known(seed: int, steps: int, images: int, widths: tuple[int, ...], data: str) -> list[Tensor]:
    """Return the weights of a network that has learnt the first classes, with AdamW."""
    config: Config = {
        "data": data,
        "side": 14,
        "model": "vgg",
        "shape": {"widths": list(widths)},
        "classes": list(BEFORE),
        "train": images,
        "held": 500,
        "batch": 64,
        "schedule": "cosine",
        "steps": steps,
        "optimizer": "adamw",
        "beta1": 0.9,
        "beta2": 0.999,
        "weight_decay": 0.1,
        "lr": 3e-3,
        "seed": seed,
    }
    task = Classifier(config)
    train(task, config)
    return [value.detach().clone() for value in task.model.state_dict().values()]


def run(config: Config) -> Result:
    """Learn the second classes from the weights for the first, all but the last layer's."""
    task = Classifier(config)
    known = _known(
        config["seed"],
        config["known_steps"],
        config["known_train"],
        tuple(config["shape"]["widths"]),
        config["data"],
    )
    state = task.model.state_dict()
    for (name, value), old in zip(state.items(), known, strict=True):
        if not name.startswith(f"{len(task.model) - 1}."):  # type: ignore[arg-type]
            value.copy_(old)
    return train(task, config)


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    return plan_studies(studies(scale), done)


EXPERIMENT = Experiment(
    "finetuning",
    "Fine-tuning",
    "At least AdamW's accuracy when trained weights are taken to other classes.",
    plan,
    run,
    studies,
)
