"""Every misuse has an error that names what was given, and changes nothing."""

import re

import numpy as np
import pytest
import tensorflow as tf

from innaprop.tensorflow import INNAprop


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be a finite number >= 0"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a finite number >= 0"),
        ({"learning_rate": 0.9}, ValueError, "learning_rate must be smaller than beta"),
        ({"alpha": -0.1}, ValueError, "alpha must be a finite number >= 0, got -0.1"),
        ({"beta": 0}, ValueError, "beta must be a finite number > 0, got 0"),
        ({"sigma": 1}, ValueError, "sigma must be a number in [0, 1), got 1"),
        ({"epsilon": -1.0}, ValueError, "epsilon must be a finite number >= 0, got -1.0"),
        ({"weight_decay": None}, TypeError, "weight_decay must be a finite number >= 0, got None"),
    ],
    ids=str,
)
def test_arguments(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        INNAprop(**arguments)


def test_a_learning_rate_set_too_large():
    optimizer = INNAprop(1e-3)
    with pytest.raises(ValueError, match="learning_rate must be smaller than beta"):
        optimizer.learning_rate = 1.0
    assert optimizer.learning_rate.numpy() == 1e-3


def test_a_callable_learning_rate_cannot_be_set():
    optimizer = INNAprop(lambda iterations: 1e-3)
    with pytest.raises(TypeError, match=r"given as a callable and cannot be set, got 0\.1"):
        optimizer.learning_rate = 0.1


W = tf.Variable([1.0, 2.0], name="w")
X = tf.Variable([1.0], name="x")


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ([(tf.ones(2), W), (tf.ones(1, tf.float64), X)], TypeError, "x:0 must be float32, got"),
        ([(tf.ones(2), W), (tf.ones(3), X)], ValueError, "x:0 must have shape (1,), got (3,)"),
        ([(tf.ones(2), W), (tf.ones(2), W)], ValueError, "name a variable once, got w:0 twice"),
        ([(tf.ones(2), W), (tf.ones(1), tf.ones(1))], TypeError, "pair gradients with tf.Variable"),
        ([(None, W), (None, X)], ValueError, "got none for any of ['w:0', 'x:0']"),
        ([], ValueError, "must hold a gradient, got none"),
        (
            [(tf.ones(2), W), (tf.ones(1, tf.bfloat16), tf.Variable([1], dtype=tf.bfloat16))],
            TypeError,
            "variables must be float32 or float64, got Variable:0 of bfloat16",
        ),
    ],
    ids=["dtype", "shape", "twice", "no variable", "no gradient", "empty", "bfloat16"],
)
def test_pairs(pairs, error, message):
    optimizer = INNAprop()
    with pytest.raises(error, match=re.escape(message)):
        optimizer.apply_gradients(pairs)
    assert optimizer.iterations.numpy() == 0
    assert not optimizer.momentums
    np.testing.assert_array_equal(W.numpy(), [1, 2])


def test_a_variable_without_gradient_is_named_and_left():
    w, idle = tf.Variable([1.0]), tf.Variable([1.0], name="idle")
    with pytest.warns(UserWarning, match="no gradient for idle:0: left as they are"):
        INNAprop().apply_gradients([(tf.ones(1), w), (None, idle)])
    assert idle.numpy() == 1
    assert w.numpy() < 1


def test_a_loss_without_its_tape():
    with pytest.raises(TypeError, match="together with the tape that recorded it"):
        INNAprop().minimize(tf.constant(1.0), [tf.Variable(1.0)])


def test_psi_of_a_stranger():
    with pytest.raises(ValueError, match="must be a variable that the optimizer has updated"):
        INNAprop().psi(tf.Variable(1.0))
