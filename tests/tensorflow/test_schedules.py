"""Learning rate, alpha and beta: numbers, variables, callables and schedule objects."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from innaprop.tensorflow import INNAprop
from innaprop_core import Hyperparameters
from innaprop_core import INNAprop as Core

STEPS = 40
VALUES = {
    "learning_rate": lambda k: 1e-2 / (1 + 0.1 * k),
    "alpha": lambda k: 0.1 + 0.02 * k,
    "beta": lambda k: 0.9 + 0.01 * k,
}
PAPER = {"learning_rate": "gamma", "alpha": "alpha", "beta": "beta"}


@pytest.fixture(scope="module")
def gradients():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(3,)) for _ in range(STEPS)]


def core(name, gradients):
    """Return where the core goes with a hyperparameter that changes at every update."""
    optimizer = Core([np.ones(3)], Hyperparameters())
    for k, g in enumerate(gradients):
        h = {"gamma": 1e-3, "alpha": 0.1, "beta": 0.9} | {PAPER[name]: VALUES[name](k)}
        optimizer.hyperparameters = Hyperparameters(**h)
        optimizer.step([g])
    return optimizer.parameters[0]


class Schedule:
    """An object that is called with the iterations, in a graph or not."""

    def __init__(self, name):
        self.name = name

    def __call__(self, iterations):
        k = tf.cast(iterations, tf.float64)
        ten, hundred = tf.constant(0.1, tf.float64), tf.constant(0.01, tf.float64)
        return {
            "learning_rate": lambda: hundred / (1 + ten * k),
            "alpha": lambda: ten + 2 * hundred * k,
            "beta": lambda: 9 * ten + hundred * k,
        }[self.name]()


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("kind", ["set", "variable", "schedule"])
@pytest.mark.parametrize("mode", ["eager", "function", "xla"])
def test_equals_the_core(name, kind, mode, gradients):
    w = tf.Variable(np.ones(3))
    given = {
        "set": lambda: VALUES[name](0),
        "variable": lambda: tf.Variable(VALUES[name](0), dtype=tf.float64, trainable=False),
        "schedule": lambda: Schedule(name),
    }[kind]()
    optimizer = INNAprop(**{name: given})

    def apply(g):
        optimizer.apply([g], [w])

    if mode != "eager":
        apply = tf.function(apply, jit_compile=mode == "xla")
    for k, g in enumerate(gradients):
        if kind == "set":
            setattr(optimizer, name, VALUES[name](k))
        elif kind == "variable":
            given.assign(VALUES[name](k))
        apply(tf.constant(g))
    np.testing.assert_allclose(w.numpy(), core(name, gradients), rtol=1e-12)


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_psi_is_that_of_the_core_where_a_damping_is_a_schedule(name, gradients):
    w = tf.Variable(np.ones(3))
    optimizer = INNAprop(**{name: Schedule(name)})
    first = {"alpha": 0.1, "beta": 0.9} | {name: VALUES[name](0)}
    np.testing.assert_allclose(optimizer.psi(w).numpy(), 1 - first["alpha"] * first["beta"])
    other = Core([np.ones(3)], Hyperparameters())
    for k, g in enumerate(gradients):
        optimizer.apply([tf.constant(g)], [w])
        h = {"gamma": 1e-3, "alpha": 0.1, "beta": 0.9} | {PAPER[name]: VALUES[name](k)}
        other.hyperparameters = Hyperparameters(**h)
        other.step([g])
        np.testing.assert_allclose(optimizer.psi(w).numpy(), other.psi[0], rtol=1e-11)


def test_a_schedule_of_keras():
    w = tf.Variable([1.0])
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1e-2, 0.0])
    optimizer = INNAprop(schedule)

    @tf.function
    def apply():
        optimizer.apply([tf.ones(1)], [w])

    apply()
    moved = w.numpy()
    assert moved == pytest.approx(0.991 - 1e-4, abs=1e-5)
    apply()
    np.testing.assert_array_equal(w.numpy(), moved)


def test_what_is_set_lasts_in_a_checkpoint(tmp_path):
    optimizer = INNAprop()
    optimizer.learning_rate, optimizer.alpha, optimizer.beta = 2e-3, 2.0, 3.0
    path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    other = INNAprop()
    tf.train.Checkpoint(optimizer=other).read(path).assert_consumed()
    assert [other.learning_rate.numpy(), other.alpha.numpy(), other.beta.numpy()] == [2e-3, 2, 3]
