"""What is set or loaded after an optimizer was made: taken up in full, or refused whole."""

import copy
import re

import numpy as np
import pytest
import tensorflow as tf

import innaprop
from innaprop.tensorflow import INNAprop


def saved(path, **options):
    """A state with other hyperparameters, of one variable."""
    w, other = tf.Variable([1.0, 2.0], name="w"), INNAprop(**options)
    other.apply([tf.ones(2)], [w])
    innaprop.save_state(path, other)
    return path


def numbers(optimizer):
    return [float(getattr(optimizer, name)) for name in ("learning_rate", "alpha", "beta")]


@pytest.mark.parametrize("name", ["learning_rate", "alpha", "beta"])
@pytest.mark.parametrize("kind", [tf.constant, tf.Variable])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.bfloat16])
def test_a_tensor_of_any_precision_can_be_set(name, kind, dtype):
    optimizer = INNAprop()
    setattr(optimizer, name, kind(0.5, dtype=dtype))
    assert getattr(optimizer, name).numpy() == 0.5
    assert getattr(optimizer, name).dtype == tf.float64


@pytest.mark.parametrize("kind", [tf.constant, tf.Variable])
def test_a_tensor_that_is_set_is_checked(kind):
    optimizer = INNAprop()
    for value, error, message in [
        (2.0, ValueError, "learning_rate must be smaller than beta"),
        (-1.0, ValueError, "learning_rate must be a finite number >= 0, got -1.0"),
        ([0.1, 0.1], ValueError, "learning_rate must be a scalar, got a tensor of shape (2,)"),
        (1, TypeError, "learning_rate must be floating, got a tensor of int32"),
    ]:
        with pytest.raises(error, match=re.escape(message)):
            optimizer.learning_rate = kind(value)
    assert optimizer.learning_rate.numpy() == 1e-3


def test_a_float64_is_set_where_the_user_keeps_a_float32():
    rate = tf.Variable(0.25, trainable=False)
    optimizer = INNAprop(rate)
    optimizer.learning_rate = tf.constant(0.5, tf.float64)
    assert rate.numpy() == 0.5


def test_a_variable_set_inside_a_function_is_read_when_that_runs():
    """A function that looks back relies on numbers, and this one may be any by then."""
    w, beta = tf.Variable([1.0]), tf.Variable(0.5)
    optimizer = INNAprop(0.05, alpha=2.0, beta=0.5, weight_decay=0.9)
    tf.function(lambda: optimizer.apply([tf.ones(1)], [w]), jit_compile=True)()

    @tf.function
    def set_beta():
        optimizer.beta = beta

    with pytest.raises(ValueError, match="alpha and beta must keep"):
        set_beta()
    assert optimizer.beta.numpy() == 0.5


@pytest.mark.parametrize("name", ["learning_rate", "alpha", "beta"])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_a_constant_tensor_counts_as_the_number_that_it_is(name, dtype, tmp_path):
    w, optimizer = tf.Variable([1.0, 2.0], name="w"), INNAprop(**{name: tf.constant(0.5, dtype)})
    optimizer.build([w])
    assert getattr(optimizer, name).numpy() == 0.5
    setattr(optimizer, name, 0.25)
    assert getattr(optimizer, name).numpy() == 0.25
    path = saved(tmp_path / "state", learning_rate=1e-2, alpha=2.0, beta=3.0)
    innaprop.load_state(path, optimizer)
    assert numbers(optimizer) == [1e-2, 2.0, 3.0]
    assert optimizer.iterations.numpy() == 1


def test_a_tensor_of_a_function_can_be_neither_set_nor_loaded(tmp_path):
    path = saved(tmp_path / "state")
    w, made = tf.Variable([1.0, 2.0], name="w"), []

    @tf.function
    def make(rate):
        made.append(INNAprop(rate))

    with pytest.raises(ValueError, match="only supports singleton"):
        make(tf.constant(0.5))  # Once more, for which variables are too late; the first is kept.
    optimizer = made[0]
    message = "learning_rate was given as a tensor without a value yet and cannot be set"
    with pytest.raises(TypeError, match=message):
        optimizer.learning_rate = 0.1
    with tf.init_scope():
        optimizer.build([w])
    with pytest.raises(TypeError, match=message):
        innaprop.load_state(path, optimizer)
    assert not optimizer.momentums[0].numpy().any()


CONSTANTS = {"sigma": 0.5, "epsilon": 0.1, "weight_decay": 0.3, "decay_momentum": False}


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("sigma", 1.0, ValueError, "sigma must be a number in [0, 1), got 1.0"),
        ("sigma", "x", TypeError, "sigma must be a number in [0, 1), got 'x'"),
        ("epsilon", -1, ValueError, "epsilon must be a finite number >= 0, got -1"),
        ("epsilon", None, TypeError, "epsilon must be a finite number >= 0, got None"),
        ("weight_decay", -1, ValueError, "weight_decay must be a finite number >= 0, got -1"),
        ("weight_decay", True, TypeError, "weight_decay must be a finite number >= 0, got True"),
        ("decay_momentum", 0, TypeError, "decay_momentum must be True or False, got 0"),
        ("residual", "x", TypeError, "residual must be True or False, got 'x'"),
    ],
)
def test_what_is_set_is_checked(name, value, error, message):
    optimizer = INNAprop()
    before = getattr(optimizer, name)
    with pytest.raises(error, match=re.escape(message)):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) == before


@pytest.mark.parametrize("name", CONSTANTS)
def test_what_is_set_before_a_trace_counts(name):
    ends = []
    for options in ({}, {name: CONSTANTS[name]}):
        w, optimizer = tf.Variable([1.0]), INNAprop(0.1, **options)
        optimizer.apply([tf.ones(1)], [w])
        w.assign([1.0])
        for entry in (*optimizer.momentums, *optimizer.second_moments, *optimizer.updates):
            entry.assign(tf.zeros_like(entry))
        setattr(optimizer, name, CONSTANTS[name])
        step = tf.function(lambda g, o=optimizer, w=w: o.apply([g], [w]))
        step(2 * tf.ones(1))
        step(3 * tf.ones(1))
        ends.append(w.numpy())
    np.testing.assert_array_equal(*ends)
    assert getattr(optimizer, name) == CONSTANTS[name]


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("name", CONSTANTS)
def test_what_a_traced_function_holds_as_a_constant_stays(name, xla):
    w, optimizer = tf.Variable([1.0]), INNAprop(0.1)
    step = tf.function(lambda: optimizer.apply([tf.ones(1)], [w]), jit_compile=xla)
    step()
    before = getattr(optimizer, name)
    with pytest.raises(ValueError, match=f"{name} must stay .*, got {CONSTANTS[name]}; set it"):
        setattr(optimizer, name, CONSTANTS[name])
    setattr(optimizer, name, before)
    copied = copy.deepcopy(optimizer)
    setattr(copied, name, CONSTANTS[name])
    assert (getattr(optimizer, name), getattr(copied, name)) == (before, CONSTANTS[name])


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_state_with_other_constants_is_refused_whole_after_a_trace(name, tmp_path):
    path = saved(tmp_path / "state", learning_rate=1e-2, **{name: CONSTANTS[name]})
    w, optimizer = tf.Variable([1.0, 2.0], name="w"), INNAprop()
    step = tf.function(lambda: optimizer.apply([tf.ones(2)], [w]))
    step()
    step()
    momentum = optimizer.momentums[0].numpy()
    with pytest.raises(ValueError, match=f"{name} must stay"):
        innaprop.load_state(path, optimizer)
    assert optimizer.iterations.numpy() == 2
    assert optimizer.learning_rate.numpy() == 1e-3
    np.testing.assert_array_equal(optimizer.momentums[0].numpy(), momentum)
    innaprop.load_state(path, optimizer, hyperparameters=False)
    assert optimizer.iterations.numpy() == 1
