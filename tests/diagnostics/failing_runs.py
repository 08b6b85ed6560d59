"""Runs that fail, each in one way: linear regression whose features fall off, for any framework."""

from typing import Any, NamedTuple

import numpy as np

FEATURES, TRAINING, VALIDATION = 80, 40, 200


class Failing(NamedTuple):
    """A run, and what it must be named."""

    name: str
    steps: int
    every: int
    options: dict[str, Any]
    """By the core's names."""
    says: str
    """What its finding must say."""
    first_factor: float = 1.0
    """What the gradients of the first update are multiplied by."""


RUNS = {
    "a rate far beyond stability": Failing(
        "explosion", 31, 5, {"gamma": 0.9, "alpha": 2.0, "beta": 2.0}, "Lower the learning rate"
    ),
    "a rate far too small": Failing(
        "plateau", 81, 10, {"gamma": 1e-6}, "learning rate is too small"
    ),
    "too much friction": Failing(
        "plateau", 141, 20, {"gamma": 1e-3, "alpha": 300.0, "beta": 2.0}, "alpha is too large"
    ),
    "a large eps": Failing(
        "conservative scaling", 141, 20, {"gamma": 1e-3, "eps": 100.0}, "eps is larger"
    ),
    "a first gradient that is never forgotten": Failing(
        "conservative scaling",
        81,
        10,
        {"gamma": 1e-2, "sigma": 0.9999},
        "the second moment remembers larger gradients",
        1e4,
    ),
    "too long, with momentum that builds up": Failing(
        "overfitting", 301, 30, {"gamma": 1e-2}, r"take \(alpha, beta\) = \(2, 2\)"
    ),
}


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, targets and a start; the first ``TRAINING`` rows are to be learnt."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(TRAINING + VALIDATION, FEATURES)) / (1 + np.arange(FEATURES))
    y = x @ rng.normal(size=FEATURES) + rng.normal(size=len(x))
    start = 0.1 * rng.normal(size=FEATURES)
    return x.astype(np.float32), y.astype(np.float32), start.astype(np.float32)


def options(failing: Failing, **names: str) -> dict[str, Any]:
    """Return the options under a framework's names, without weight decay."""
    given = {"weight_decay": 0.0, **failing.options}
    return {names.get(key, key): value for key, value in given.items()}


def assert_named(failing: Failing, findings: list[Any]) -> None:
    assert [finding.name for finding in findings] == [failing.name]
    import re

    assert re.search(failing.says, str(findings[0])), findings[0]
    assert len(findings[0].evidence) >= 3
