"""What several test folders share: one run whose exact trajectory is known."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from innaprop_core import Hyperparameters, Trajectory, trajectory

STEPS = 60


@dataclass(frozen=True)
class Run:
    """Initial values, gradients and step sizes of a run, and where it leads."""

    hyperparameters: Hyperparameters
    theta: np.ndarray
    gradients: list[np.ndarray]
    schedule: Callable[[int], float]
    truth: Trajectory

    def error(self, theta: np.ndarray) -> float:
        """Return the error of the last iterate, relative to the distance moved."""
        distance = np.linalg.norm(self.truth.theta[-1] - self.theta)
        return float(np.linalg.norm(theta - self.truth.theta[-1]) / distance)

    def psi_error(self, psi: np.ndarray) -> float:
        """Return the error of the last psi, relative to the distance that theta moved."""
        distance = np.linalg.norm(self.truth.theta[-1] - self.theta)
        return float(np.linalg.norm(psi - self.truth.psi[-1]) / distance)


def make_run(seed: int = 0, **values: float) -> Run:
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(5, 3))
    gradients = [rng.normal(size=(5, 3)) + 0.5 for _ in range(STEPS)]
    hyperparameters = Hyperparameters(**{"gamma": 1e-2, "weight_decay": 0.1, **values})

    def schedule(updates: int) -> float:
        return hyperparameters.gamma * (1 - updates / (2 * STEPS))

    truth = trajectory(hyperparameters, theta, gradients, schedule=schedule)
    return Run(hyperparameters, theta, gradients, schedule, truth)


@pytest.fixture(scope="session", params=[(0.1, 0.9), (2.0, 2.0)], ids=["fast", "accurate"])
def run(request: pytest.FixtureRequest) -> Run:
    alpha, beta = request.param
    return make_run(alpha=alpha, beta=beta)


@pytest.fixture(scope="session")
def another_run() -> Callable[..., Run]:
    """A maker of runs with other hyperparameters or seeds."""
    return make_run


@pytest.fixture(
    params=[
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be a finite number >= 0"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a finite number >= 0"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be a finite number"),
        ({"learning_rate": 0.9}, ValueError, "learning_rate must be smaller than beta"),
        ({"alpha": -0.1}, ValueError, "alpha must be a finite number >= 0, got -0.1"),
        ({"beta": 0}, ValueError, "beta must be a finite number > 0, got 0"),
        ({"sigma": 1}, ValueError, "sigma must be a number in [0, 1), got 1"),
        ({"epsilon": -1.0}, ValueError, "epsilon must be a finite number >= 0, got -1.0"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay must be a finite number >= 0"),
        ({"weight_decay": "much"}, TypeError, "weight_decay must be a finite number >= 0"),
    ],
    ids=lambda param: str(param[0]),
)
def bad_argument(request: pytest.FixtureRequest) -> tuple[dict[str, object], type, str]:
    """Arguments that Keras and TensorFlow optimizers refuse, the error and its message."""
    return request.param
