"""What the README and the docs show passes a strict type checker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import numpy as np
import torch

import innaprop
import innaprop.keras
import innaprop.optax
import innaprop.tensorflow
import innaprop.torch
from innaprop import BEST_ACCURACY, FAST_TRAINING
from innaprop_core import Dampings, Hyperparameters, INNAprop

params = [torch.nn.Parameter(torch.ones(2))]
innaprop.torch.INNAprop(params, **FAST_TRAINING)
innaprop.torch.INNAprop(params, lr=1e-3, **BEST_ACCURACY)
innaprop.keras.INNAprop(**FAST_TRAINING)
innaprop.keras.INNAprop(learning_rate=1e-3, **BEST_ACCURACY)
innaprop.tensorflow.INNAprop(**FAST_TRAINING)
innaprop.tensorflow.INNAprop(learning_rate=1e-3, **BEST_ACCURACY)
innaprop.optax.innaprop(1e-3, **FAST_TRAINING)
innaprop.optax.innaprop(learning_rate=1e-3, **BEST_ACCURACY)
INNAprop([np.ones(2)], Hyperparameters(**FAST_TRAINING))
INNAprop([np.ones(2)], Hyperparameters(gamma=1e-2, **BEST_ACCURACY))

preset: Dampings = FAST_TRAINING
alpha: float = preset["alpha"]
version: str = innaprop.__version__
"""
WRONG = {
    "torch": 'innaprop.torch.INNAprop(params, lr="fast")',
    "keras": 'innaprop.keras.INNAprop(beta="fast")',
    "tensorflow": 'innaprop.tensorflow.INNAprop(sigma="fast")',
    "optax": 'innaprop.optax.innaprop(1e-3, residual="yes")',
    "core": "INNAprop([np.ones(2)], 1e-3)",
    "a preset": 'preset["gamma"]',
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A function that gives a program to mypy as its user would."""
    folder = tmp_path_factory.mktemp("typed")

    def check(program):
        (folder / "program.py").write_text(program)
        # Of its own, since the project's is made with other options.
        cache = f"--cache-dir={ROOT / '.mypy_cache' / 'users'}"
        options = [cache, "--strict", "--follow-imports=silent", "--config-file=", "--no-pretty"]
        return subprocess.run(
            [sys.executable, "-m", "mypy", *options, "program.py"],
            cwd=folder,
            env={**os.environ, "MYPYPATH": f"{ROOT}{os.pathsep}{ROOT / 'adapters'}"},
            capture_output=True,
            text=True,
        )

    return check


def test_presets_unpack_into_every_constructor(checked):
    done = checked(PROGRAM)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_wrong_is_seen(checked):
    """Else the check above says nothing."""
    done = checked(PROGRAM + "\n".join(WRONG.values()))
    first = len(PROGRAM.splitlines()) + 1
    lines = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    assert lines == set(range(first, first + len(WRONG))), done.stdout
