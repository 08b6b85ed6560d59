"""Who takes part: an optimizer's name in the tables, its options, and where they are searched."""

from dataclasses import dataclass, replace
from typing import Any

LADDER = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
"""Learning rates, a factor of three apart."""


@dataclass(frozen=True)
class Contender:
    """An optimizer and its search space.

    Args:
        name: In tables and figures.
        options: Where the search starts.
        alternatives: Changes that are tried, each alone, at the best rate: as many for each
            contender of an experiment.
        shift: By how many rungs of the ladder its rates lie above AdamW's.
    """

    name: str
    options: dict[str, Any]
    alternatives: tuple[dict[str, Any], ...]
    shift: int = 0

    def with_options(self, **options: Any) -> "Contender":
        """Return it with other options to start from."""
        return replace(self, options={**self.options, **options})

    def only_rates(self) -> "Contender":
        """Return it with nothing but its rate to search for."""
        return replace(self, alternatives=())


DECAY = {"weight_decay": 1.0}
WARM = {"warmup": 0.25}

ADAMW = Contender(
    "AdamW",
    {"optimizer": "adamw", "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.1, "warmup": 0.05},
    ({"beta1": 0.0}, {"beta2": 0.95}, DECAY, WARM),
)


def innaprop(alpha: float, beta: float) -> Contender:
    """Return INNAprop with a pair of alpha and beta."""
    return Contender(
        f"({alpha:g}, {beta:g})",
        {
            "optimizer": "innaprop",
            "alpha": alpha,
            "beta": beta,
            "sigma": 0.999,
            "weight_decay": 0.1,
            "warmup": 0.05,
        },
        ({"decay_momentum": False}, {"sigma": 0.95}, DECAY, WARM),
    )


FAST, PLAIN, ACCURATE = innaprop(0.1, 0.9), innaprop(1.0, 1.0), innaprop(2.0, 2.0)
FOUR = (ADAMW, FAST, PLAIN, ACCURATE)
"""(1, 1) is AdamW without beta1: it tells the curvature term from the missing average."""

_COMMON = {"weight_decay": 0.1, "warmup": 0.05}
RIVALS = (
    Contender(
        "SophiaH",
        {
            "optimizer": "sophia",
            "beta1": 0.96,
            "beta2": 0.99,
            "update_period": 10,
            "clip_update": 0.01,
            **_COMMON,
        },
        ({"update_period": 5}, {"clip_update": 0.1}, DECAY, WARM),
        shift=3,
    ),
    Contender(
        "Adafactor",
        {"optimizer": "adafactor", "beta2_decay": -0.8, "d": 1.0, **_COMMON},
        ({"beta2_decay": -0.5}, {"d": 2.0}, DECAY, WARM),
        shift=2,
    ),
    Contender(
        "Lion",
        {"optimizer": "lion", "beta1": 0.9, "beta2": 0.99, **_COMMON},
        ({"beta1": 0.95, "beta2": 0.98}, {"weight_decay": 0.3}, DECAY, WARM),
        shift=-1,
    ),
    Contender(
        "Muon",
        {"optimizer": "muon", "momentum": 0.95, "beta2": 0.999, **_COMMON},
        ({"momentum": 0.9}, {"beta2": 0.95}, DECAY, WARM),
    ),
    Contender(
        "SOAP",
        {
            "optimizer": "soap",
            "beta1": 0.95,
            "beta2": 0.95,
            "precondition_frequency": 10,
            **_COMMON,
        },
        ({"beta1": 0.9}, {"beta2": 0.99}, DECAY, WARM),
    ),
    Contender(
        "schedule-free AdamW",
        {
            "optimizer": "schedule-free",
            "beta1": 0.9,
            "beta2": 0.999,
            "schedule": "constant",
            **_COMMON,
        },
        ({"beta1": 0.95}, {"beta2": 0.95}, DECAY, WARM),
    ),
)
