"""What several files share: optimizers of every framework, behind the suite's loops."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# One backend per process; the handoffs go through all of them.
KERAS = f"keras-{os.environ.setdefault('KERAS_BACKEND', 'tensorflow')}"

from innaprop_conformance.handoff.loop import load_loop, weights  # noqa: E402
from innaprop_core import Hyperparameters  # noqa: E402

SHAPES = ((3, 4), (5,), (), (0, 2))
LOOPS = ("numpy", "torch", KERAS, "tensorflow", "optax")


class Trained:
    """An optimizer that has made some updates."""

    def __init__(self, name: str, dtype: str = "float32", updates: int = 6, **values: float):
        rng = np.random.default_rng(0)
        self.loop = load_loop(name)()
        self.dtype = dtype
        start = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]
        self.loop.begin(Hyperparameters(**values), weights(start, dtype), dtype)
        self.step(updates)

    def step(self, updates: int = 1) -> None:
        rng = np.random.default_rng(1)
        for _ in range(updates):
            gradients = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]
            self.loop.step(weights(gradients, self.dtype), 1e-2)

    def saved(self, path: Path) -> bytes:
        """Return all there is of the optimizer, as bytes."""
        self.loop.save(path)
        return path.read_bytes()


@pytest.fixture
def trained():
    return Trained


@pytest.fixture(params=LOOPS)
def name(request):
    """A framework."""
    return request.param


@pytest.fixture
def untouched(name):
    """One optimizer for all tests of which none may change it: that is what they show."""
    return _only(name)


@cache
def _only(name):
    return Trained(name)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"
