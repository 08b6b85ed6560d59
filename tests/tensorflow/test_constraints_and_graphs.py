"""Constraints of variables hold after every update; graphs of TensorFlow 1 are refused."""

import re

import numpy as np
import pytest
import tensorflow as tf

from innaprop.tensorflow import INNAprop

MODES = ["eager", "function", "xla"]
DTYPES = [tf.float32, tf.float64, tf.bfloat16]


def stepper(optimizer, w, mode):
    def apply(g):
        optimizer.apply([g], [w])

    return apply if mode == "eager" else tf.function(apply, jit_compile=mode == "xla")


def not_negative(x):
    return tf.maximum(x, tf.zeros_like(x))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_keras(dtype, mode):
    import keras

    import innaprop.keras

    start = tf.constant([1.0, -1.0, 0.02], dtype)
    w = tf.Variable(start, constraint=not_negative)
    theirs = keras.Variable(start, dtype=dtype.name)
    theirs.constraint = keras.constraints.NonNeg()
    optimizer, twin = INNAprop(0.01), innaprop.keras.INNAprop(0.01)
    twin.build([theirs])
    step = stepper(optimizer, w, mode)
    for k in range(20):
        g = tf.constant([1.0, 1.0, 1.0 if k < 10 else -1.0], dtype)
        step(g)
        twin.apply([g], [theirs])
        values = tf.cast(w, tf.float64).numpy()
        assert (values >= 0).all()
    expected = tf.cast(theirs.value, tf.float64).numpy()
    np.testing.assert_allclose(values, expected, rtol=1e-6 if dtype != tf.bfloat16 else 0.02)
    assert values[1] == 0


@pytest.mark.parametrize("mode", MODES)
def test_the_residual_is_zero_where_the_constraint_changes_the_value(mode):
    w = tf.Variable(
        tf.constant([1.0, -1.0, 0.5], tf.bfloat16), constraint=lambda x: tf.clip_by_value(x, -1, 1)
    )
    optimizer = INNAprop(1e-3, weight_decay=0.0)
    step = stepper(optimizer, w, mode)
    for _ in range(10):
        step(tf.constant([-1.0, 1.0, 1.0], tf.bfloat16))
    assert (np.abs(tf.cast(w, tf.float32).numpy()) <= 1).all()
    assert optimizer.residuals[0].numpy()[2] != 0
    # What rounds to the bound is not changed, and goes on to be kept.
    assert (np.abs(optimizer.master_weights(w).numpy()) <= 1 + 2.0**-8).all()
    w.assign(tf.constant([2.0, -2.0, 0.5], tf.bfloat16))
    step(tf.constant([-1.0, 1.0, 1.0], tf.bfloat16))
    np.testing.assert_array_equal(optimizer.residuals[0].numpy()[:2], 0)
    np.testing.assert_array_equal(optimizer.master_weights(w).numpy()[:2], [1, -1])
    assert optimizer.residuals[0].numpy()[2] != 0


def test_without_a_residual():
    w = tf.Variable(tf.constant([1.0, -1.0], tf.bfloat16), constraint=not_negative)
    INNAprop(residual=False).apply([tf.ones(2, tf.bfloat16)], [w])
    assert w.numpy()[1] == 0


def test_on_each_replica():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        w, optimizer = tf.Variable([1.0, -1.0], constraint=not_negative), INNAprop()
    step = tf.function(lambda: strategy.run(lambda: optimizer.apply([tf.ones(2)], [w])))
    step()
    assert w.numpy()[1] == 0
    assert 0 < w.numpy()[0] < 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("constraint", "error", "message"),
    [
        (lambda x: x[:1], ValueError, "the constraint of w:0 must give shape (2,), got (1,)"),
        (
            lambda x: tf.cast(x, tf.float64),
            TypeError,
            "the constraint of w:0 must give float32, got float64",
        ),
    ],
    ids=["shape", "dtype"],
)
def test_a_constraint_that_gives_something_else(constraint, error, message, mode):
    w, optimizer = tf.Variable([1.0, -1.0], name="w", constraint=constraint), INNAprop()
    with pytest.raises(error, match=re.escape(message)):
        stepper(optimizer, w, mode)(tf.ones(2))
    np.testing.assert_array_equal(w.numpy(), [1, -1])
    assert optimizer.iterations.numpy() == 0
    assert not optimizer.momentums


def test_a_variable_that_is_made_in_the_function():
    made, optimizer = [], INNAprop()

    @tf.function
    def step():
        if not made:
            made.append(tf.Variable([1.0, -1.0], constraint=not_negative))
        optimizer.apply([tf.ones(2)], made)

    step()
    assert made[0].numpy()[1] == 0


GRAPH = "INNAprop needs eager execution or a tf.function, got a graph of TensorFlow 1"


@pytest.mark.parametrize("call", ["apply", "apply_gradients", "build", "minimize"])
def test_an_update_in_a_graph_of_tensorflow_1(call):
    optimizer = INNAprop()
    with tf.Graph().as_default():
        w = tf.Variable([1.0])
        arguments = {
            "apply": ([tf.ones(1)], [w]),
            "apply_gradients": ([(tf.ones(1), w)],),
            "build": ([w],),
            "minimize": (lambda: tf.reduce_sum(w), [w]),
        }[call]
        operations = len(w.graph.get_operations())
        with pytest.raises(RuntimeError, match=GRAPH):
            getattr(optimizer, call)(*arguments)
        assert len(w.graph.get_operations()) == operations
    assert not optimizer.momentums


def test_an_optimizer_made_in_a_graph_of_tensorflow_1():
    with tf.Graph().as_default() as graph:
        with pytest.raises(RuntimeError, match=GRAPH):
            INNAprop()
        assert not graph.get_operations()


def test_a_graph_of_tensorflow_1_around_a_function():
    w, optimizer = tf.Variable([1.0]), INNAprop()
    with tf.Graph().as_default(), pytest.raises(RuntimeError, match=GRAPH):
        tf.function(lambda: optimizer.apply([tf.ones(1)], [w]))()
    assert not optimizer.momentums
