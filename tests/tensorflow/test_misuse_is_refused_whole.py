"""Every misuse has an error that names what was given, and changes nothing."""

import re

import numpy as np
import pytest
import tensorflow as tf

from innaprop.tensorflow import INNAprop


def test_arguments(bad_argument):
    arguments, error, message = bad_argument
    with pytest.raises(error, match=re.escape(message)):
        INNAprop(**arguments)


def test_weight_decay_none():
    with pytest.raises(TypeError, match="weight_decay must be a finite number >= 0, got None"):
        INNAprop(weight_decay=None)


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
        (
            [(tf.ones(2), W), (tf.ones(1), tf.ones(1))],
            TypeError,
            "variables must be tf.Variable, got",
        ),
        ([(None, W), (None, X)], ValueError, "got none for any of ['w:0', 'x:0']"),
        ([], ValueError, "must hold a gradient, got none"),
        (
            [(tf.ones(2), W), (tf.ones(1, tf.int32), tf.Variable([1], dtype=tf.int32))],
            TypeError,
            "must be float32, float64, bfloat16 or float16, got Variable:0 of int32",
        ),
    ],
    ids=["dtype", "shape", "twice", "no variable", "no gradient", "empty", "int32"],
)
def test_pairs(pairs, error, message):
    optimizer = INNAprop()
    with pytest.raises(error, match=re.escape(message)):
        optimizer.apply_gradients(pairs)
    assert optimizer.iterations.numpy() == 0
    assert not optimizer.momentums
    np.testing.assert_array_equal(W.numpy(), [1, 2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alpha": "much"}, TypeError, "alpha must be a finite number >= 0, got 'much'"),
        ({"beta": float("inf")}, ValueError, "beta must be a finite number > 0, got inf"),
        (
            {"learning_rate": True},
            TypeError,
            "learning_rate must be a finite number >= 0, got True",
        ),
        ({"residual": 1}, TypeError, "residual must be True or False, got 1"),
        ({"sigma": None}, TypeError, "sigma must be a number in [0, 1), got None"),
        ({"epsilon": tf.Variable(1e-8)}, TypeError, "epsilon must be a finite number >= 0"),
        ({"alpha": tf.Variable(-1.0)}, ValueError, "alpha must be a finite number >= 0, got -1.0"),
        (
            {"learning_rate": tf.Variable(2.0)},
            ValueError,
            "learning_rate must be smaller than beta",
        ),
        ({"beta": tf.Variable([1.0, 2.0])}, ValueError, "beta must be a scalar, got a tensor of"),
        ({"beta": tf.Variable(1)}, TypeError, "beta must be floating, got a tensor of int32"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_more_arguments(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        INNAprop(**arguments)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("alpha", -1.0, ValueError, "alpha must be a finite number >= 0, got -1.0"),
        ("beta", 1e-4, ValueError, "learning_rate must be smaller than beta"),
        ("beta", "big", TypeError, "beta must be a finite number > 0, got 'big'"),
        ("learning_rate", None, TypeError, "learning_rate must be a finite number >= 0, got None"),
    ],
)
def test_a_bad_value_set(name, value, error, message):
    optimizer = INNAprop()
    before = getattr(optimizer, name).numpy()
    with pytest.raises(error, match=re.escape(message)):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name).numpy() == before


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_a_schedule_cannot_be_set(name):
    optimizer = INNAprop(**{name: lambda k: 1.0})
    with pytest.raises(TypeError, match=f"{name} was given as a callable and cannot be set"):
        setattr(optimizer, name, 0.1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"learning_rate": lambda k: -1.0}, ValueError, "learning_rate must be a finite number >="),
        ({"learning_rate": lambda k: tf.constant(5.0)}, ValueError, "must be smaller than beta"),
        (
            {"learning_rate": lambda k: "fast"},
            TypeError,
            "learning_rate must be a finite number >=",
        ),
        ({"alpha": lambda k: tf.ones(2)}, ValueError, "alpha must be a scalar, got a tensor of"),
        ({"beta": lambda k: 0.0}, ValueError, "beta must be a finite number > 0, got 0.0"),
        ({"beta": lambda k: k}, TypeError, "beta must be floating, got a tensor of int64"),
    ],
    ids=["negative", "large", "text", "vector", "zero", "integer"],
)
def test_what_a_schedule_gives(arguments, error, message):
    optimizer = INNAprop(**arguments)
    with pytest.raises(error, match=re.escape(message)):
        optimizer.apply([tf.ones(2)], [W])
    assert optimizer.iterations.numpy() == 0
    assert not optimizer.momentums
    np.testing.assert_array_equal(W.numpy(), [1, 2])


def test_a_variable_assigned_too_large_is_seen_at_the_next_eager_update():
    w, optimizer = tf.Variable([1.0]), INNAprop()
    optimizer.apply([tf.ones(1)], [w])
    moved = w.numpy()
    optimizer.learning_rate.assign(1.0)
    with pytest.raises(ValueError, match="learning_rate must be smaller than beta"):
        optimizer.apply([tf.ones(1)], [w])
    assert w.numpy() == moved
    assert optimizer.updates[0].numpy() == 1


@pytest.mark.parametrize(
    ("grads", "variables", "error", "message"),
    [
        ([tf.ones(2)], [W, X], ValueError, "of one length, got 1 gradients and 2 variables"),
        ([tf.ones(2), tf.ones(1)], [W], ValueError, "got 2 gradients and 1 variables"),
        ([tf.ones(2)], W, TypeError, "var_list must be a sequence of variables"),
        ([[1, 2]], [W], TypeError, "the gradient of w:0 must be float32, got int32"),
        (
            [tf.IndexedSlices(tf.ones((1, 3)), tf.constant([0]), tf.constant([2, 3]))],
            [W],
            ValueError,
            "the gradient of w:0 must have shape (2,), got (2, 3)",
        ),
        (
            [tf.IndexedSlices(tf.ones((1, 3)), tf.constant([0]))],
            [W],
            ValueError,
            "the gradient of w:0 must have shape (2,), got (2, 3)",
        ),
        (
            [tf.IndexedSlices(tf.ones((1, 3)), tf.constant([0]), (2, 3))],
            [W],
            ValueError,
            "the gradient of w:0 must have shape (2,), got (2, 3)",
        ),
        ([tf.ones(1)], [tf.Variable([1])], TypeError, "got Variable:0 of int32"),
        (
            [tf.ones(1)],
            [
                tf.Variable(
                    [1.0],
                    name="v",
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )
            ],
            ValueError,
            "must be the same on every replica, got v:0 of synchronization ON_READ",
        ),
    ],
    ids=[
        "fewer",
        "more",
        "one",
        "integers",
        "slices",
        "slices of no shape",
        "slices whose shape is a tuple",
        "integer variable",
        "on read",
    ],
)
def test_sequences(grads, variables, error, message):
    optimizer = INNAprop()
    with pytest.raises(error, match=re.escape(message)):
        optimizer.apply(grads, variables)
    assert optimizer.iterations.numpy() == 0
    assert not optimizer.momentums
    np.testing.assert_array_equal(W.numpy(), [1, 2])


@pytest.mark.parametrize("pair", [tf.ones(2), (tf.ones(2),), (tf.ones(2), W, "w")])
def test_what_is_no_pair(pair):
    with pytest.raises(TypeError, match="must hold pairs of a gradient and a variable, got"):
        INNAprop().apply_gradients([pair])


def test_one_variable_given_to_build():
    with pytest.raises(TypeError, match="var_list must be a sequence of variables"):
        INNAprop().build(W)


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_compile_of_keras_names_what_it_takes(package):
    keras = pytest.importorskip(package)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"Could not interpret.* takes innaprop\.keras\.INNAprop"):
        model.compile(optimizer=INNAprop(), loss="mse")


def test_a_legacy_model_in_a_loop_of_ones_own():
    import tf_keras

    model = tf_keras.Sequential(
        [tf_keras.Input((3,)), tf_keras.layers.Dense(1, kernel_initializer="ones")]
    )
    optimizer, losses = INNAprop(1e-2), []
    for _ in range(5):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(tf.ones((4, 3))) - 1) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        losses.append(float(loss))
    assert losses == sorted(losses, reverse=True)


def test_a_variable_without_gradient_is_named_and_left():
    w, idle = tf.Variable([1.0]), tf.Variable([1.0], name="idle")
    with pytest.warns(UserWarning, match="no gradient for idle:0: left as they are"):
        INNAprop().apply_gradients([(tf.ones(1), w), (None, idle)])
    assert idle.numpy() == 1
    assert w.numpy() < 1


def test_a_loss_without_its_tape():
    with pytest.raises(TypeError, match="together with the tape that recorded it"):
        INNAprop().minimize(tf.constant(1.0), [tf.Variable(1.0)])


def test_one_variable_where_a_list_belongs():
    with pytest.raises(TypeError, match="var_list must be a sequence of variables"):
        INNAprop().minimize(lambda: tf.reduce_sum(W), W)


def test_a_shape_that_is_not_fully_defined():
    optimizer, w = INNAprop(), tf.Variable([1.0])
    vague = tf.Variable([1.0], shape=[None], name="vague")
    with pytest.raises(ValueError, match=r"fully defined shape, got vague:0 of \(None,\)"):
        optimizer.apply_gradients([(tf.ones(1), w), (tf.ones(1), vague)])
    assert not optimizer.momentums


def test_a_variable_of_a_keras_model():
    import keras

    variable = keras.Variable([1.0])
    with pytest.raises(TypeError, match=r"are for innaprop\.keras\.INNAprop"):
        INNAprop().apply_gradients([(tf.ones(1), variable)])


def test_a_learning_rate_that_raises_leaves_no_state():
    def broken(iterations):
        raise RuntimeError("no rate")

    optimizer = INNAprop(broken)
    with pytest.raises(RuntimeError, match="no rate"):
        optimizer.apply_gradients([(tf.ones(2), W)])
    assert not optimizer.momentums


def test_new_variables_in_a_function_that_was_traced_before():
    w, x = tf.Variable([1.0]), tf.Variable([1.0], name="late")
    optimizer = INNAprop()

    @tf.function
    def apply(both):
        optimizer.apply_gradients([(tf.ones(1), w)] + [(tf.ones(1), x)] * both)

    apply(False)
    with pytest.raises(ValueError, match=r"late:0 cannot be created.*call build\(var_list\)"):
        apply(True)
    assert x.numpy() == 1
    optimizer.build([w, x])
    apply(True)
    assert x.numpy() < 1
