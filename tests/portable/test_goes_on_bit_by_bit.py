"""What is saved and loaded in one framework goes on as if nothing had been."""

import os
import subprocess
import sys

import numpy as np
import pytest

import innaprop
from innaprop_conformance.handoff.loop import load_loop, weights


@pytest.fixture(params=["float32", "float64", "bfloat16"])
def dtype(request):
    return request.param


@pytest.fixture
def trained_in(name, dtype, trained):
    """A maker of optimizers in the dtype; NumPy, which has no bfloat16, has float64 instead."""
    dtype = dtype if dtype in load_loop(name).dtypes else "float64"
    return lambda **options: trained(name, dtype, **options)


def test_a_loaded_state_is_the_saved_one_and_so_are_hyperparameters(trained_in, path):
    first = trained_in(alpha=2.0, beta=2.0, sigma=0.99, eps=1e-6, weight_decay=0.1)
    saved = first.saved(path)
    other = trained_in(updates=2)
    assert other.saved(path.with_name("other")) != saved
    other.loop.put(weights(first.loop.values(), first.dtype))
    other.loop.load(path)
    assert other.saved(path.with_name("again")) == saved


def test_what_follows_is_the_same(trained_in, path):
    first = trained_in()
    first.saved(path)
    # In a state of its own, which must leave nothing.
    other = trained_in(updates=3)
    other.loop.put(weights(first.loop.values(), first.dtype))
    other.loop.load(path)
    for each in (first, other):
        each.step(3)
    for a, b in zip(first.loop.values(), other.loop.values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_file_tells_what_it_holds(name, trained, path):
    one = trained(name, weight_decay=0.1)
    one.saved(path)
    state = innaprop.read_state(path)
    assert state.iterations == 6
    assert list(state.parameters) == ["p0", "p1", "p2", "p3"]
    p0 = state.parameters["p0"]
    assert (p0.dtype, p0.step, p0.residual) == ("float32", 6, None)
    assert p0.momentum.shape == p0.second_moment.shape == (3, 4)
    # psi = beta m + (1 - alpha beta) theta, in the paper's letters
    h = p0.hyperparameters
    assert h["gamma"] in (1e-3, 1e-2)  # The core's own, of which a step may use another.
    assert {**h, "gamma": 0} == {
        "gamma": 0,
        "alpha": 0.1,
        "beta": 0.9,
        "sigma": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.1,
        # No number, so that optax does not inject it.
        "decay_momentum": None if name == "optax" else True,
    }
    expected = 0.9 * p0.momentum + (1 - 0.09) * one.loop.values()[0]
    np.testing.assert_allclose(p0.psi, expected, rtol=1e-6)


def test_another_process_goes_on(trained, path):
    one = trained("torch")
    one.saved(path)
    np.savez(path.with_name("weights.npz"), *one.loop.values())
    code = """
import sys
import numpy as np
import innaprop, innaprop_core
with np.load(sys.argv[2]) as file:
    optimizer = innaprop_core.INNAprop([file[key] for key in file.files])
innaprop.load_state(sys.argv[1], optimizer, ["p0", "p1", "p2", "p3"])
assert optimizer.k == 6 and optimizer.hyperparameters.gamma == 1e-2
innaprop.save_state(sys.argv[1] + "2", optimizer, ["p0", "p1", "p2", "p3"])
assert not {"torch", "tensorflow", "keras", "jax"} & set(sys.modules)
"""
    arguments = [str(path), str(path.with_name("weights.npz"))]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    here, there = innaprop.read_state(path), innaprop.read_state(f"{path}2")
    assert here.iterations == there.iterations
    for name, state in here.parameters.items():
        for what, array in state.arrays().items():
            if what != "psi":  # PyTorch and NumPy round its two products in their own ways.
                np.testing.assert_array_equal(there.parameters[name].arrays()[what], array)
