import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from innaprop.tensorflow import INNAprop


def optimizer_for(run, learning_rate=None):
    h = run.hyperparameters
    lr = h.gamma if learning_rate is None else learning_rate
    return INNAprop(
        lr, alpha=h.alpha, beta=h.beta, sigma=h.sigma, epsilon=h.eps, weight_decay=h.weight_decay
    )


def train(run, optimizer, variable, steps=slice(None), compiled=False):
    @(tf.function if compiled else lambda f: f)
    def apply(gradient):
        optimizer.apply_gradients([(gradient, variable)])

    for updates in range(len(run.gradients))[steps]:
        optimizer.learning_rate = run.schedule(updates)
        apply(tf.constant(run.gradients[updates], variable.dtype))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "function"])
def test_theta_and_psi_in_float64(run, compiled):
    w = tf.Variable(run.theta)
    optimizer = optimizer_for(run)
    train(run, optimizer, w, compiled=compiled)
    assert run.error(w.numpy()) < 1e-12
    assert run.psi_error(optimizer.psi(w).numpy()) < 1e-12
    assert optimizer.iterations.numpy() == len(run.gradients)


def test_a_callable_learning_rate_gets_the_iterations(run):
    w = tf.Variable(run.theta)
    n = len(run.gradients)
    optimizer = optimizer_for(
        run,
        lambda iterations: (
            tf.constant(run.hyperparameters.gamma, tf.float64)
            * (1 - tf.cast(iterations, tf.float64) / (2 * n))
        ),
    )

    @tf.function
    def apply(gradient):
        optimizer.apply_gradients([(gradient, w)])

    for g in run.gradients:
        apply(tf.constant(g))
    assert run.error(w.numpy()) < 1e-12


def test_a_number_from_a_callable_keeps_its_digits(another_run):
    run = another_run(gamma=1e-3)
    w = tf.Variable(run.theta)
    optimizer = optimizer_for(run, lambda iterations: run.schedule(int(iterations)))
    for g in run.gradients:
        optimizer.apply_gradients([(tf.constant(g), w)])
    assert run.error(w.numpy()) < 1e-12


def test_a_variable_met_late_starts_like_any_other(run):
    early, w = tf.Variable([1.0]), tf.Variable(run.theta)
    optimizer = optimizer_for(run)
    for _ in range(50):
        optimizer.apply_gradients([(tf.ones(1), early)])
    train(run, optimizer, w)
    assert run.error(w.numpy()) < 1e-12


def test_the_order_of_variables_may_differ_after_build(tmp_path):
    a, b = tf.Variable([1.0]), tf.Variable([[2.0, 3.0]])
    pairs = [(tf.constant([0.5]), a), (tf.constant([[1.0, -1.0]]), b)]
    optimizer = INNAprop(1e-2)
    optimizer.apply_gradients(pairs)
    path = tf.train.Checkpoint(a=a, b=b, optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    optimizer.apply_gradients(pairs)

    c, d = tf.Variable([0.0]), tf.Variable([[0.0, 0.0]])
    other = INNAprop(1e-2)
    other.build([c, d])
    tf.train.Checkpoint(a=c, b=d, optimizer=other).read(path).assert_consumed()
    other.apply_gradients([(pairs[1][0], d), (pairs[0][0], c)])
    np.testing.assert_array_equal(c.numpy(), a.numpy())
    np.testing.assert_array_equal(d.numpy(), b.numpy())


def test_the_initial_psi_and_no_trainable_variables(run):
    w = tf.Variable(run.theta)
    optimizer = optimizer_for(run)
    h = run.hyperparameters
    np.testing.assert_allclose(
        optimizer.psi(w).numpy(), (1 - h.alpha * h.beta) * run.theta, rtol=1e-15
    )
    optimizer.build([w])
    assert optimizer.trainable_variables == ()
    assert len(optimizer.variables) == 7


def test_a_variable_as_learning_rate_is_used_as_it_is(run):
    rate = tf.Variable(0.0, dtype=tf.float64)
    w = tf.Variable(run.theta)
    optimizer = optimizer_for(run, rate)
    for updates, g in enumerate(run.gradients):
        rate.assign(run.schedule(updates))
        optimizer.apply_gradients([(tf.constant(g), w)])
    assert run.error(w.numpy()) < 1e-12


def test_minimize_with_a_callable_and_with_a_tape():
    x, y = tf.Variable([1.0, -2.0]), tf.Variable([1.0, -2.0])
    first, second = INNAprop(), INNAprop()
    first.minimize(lambda: tf.reduce_sum(x**2), [x])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(y**2)
    second.minimize(loss, [y], tape=tape)
    np.testing.assert_array_equal(x.numpy(), y.numpy())
    np.testing.assert_allclose(np.abs(x.numpy()), [0.99909, 1.99908], rtol=1e-6)


@pytest.mark.parametrize("state_exists", [False, True])
def test_training_goes_on_from_a_checkpoint_as_if_never_stopped(run, tmp_path, state_exists):
    w = tf.Variable(run.theta)
    optimizer = optimizer_for(run)
    train(run, optimizer, w, slice(0, 30))
    path = tf.train.Checkpoint(w=w, optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    train(run, optimizer, w, slice(30, None))

    other_w, other = tf.Variable(run.theta), optimizer_for(run)
    if state_exists:
        train(run, other, other_w, slice(0, 3))
    status = tf.train.Checkpoint(w=other_w, optimizer=other).read(path)
    train(run, other, other_w, slice(30, None))
    status.assert_consumed()
    np.testing.assert_array_equal(other_w.numpy(), w.numpy())


def test_repeated_indices_equal_the_dense_gradient():
    table, same = tf.Variable(tf.ones((4, 2))), tf.Variable(tf.ones((4, 2)))
    # Without a large epsilon the size of gradients, and so what is lost of them, would not count.
    sparse_optimizer, dense_optimizer = (INNAprop(1e-2, epsilon=1.0) for _ in range(2))
    for _ in range(5):
        with tf.GradientTape(persistent=True) as tape:
            loss = tf.reduce_sum(tf.gather(table, [1, 3, 1]) ** 2)
            dense_loss = tf.reduce_sum(tf.matmul(tf.one_hot([1, 3, 1], 4), same) ** 2)
        gradient = tape.gradient(loss, table)
        assert isinstance(gradient, tf.IndexedSlices)
        sparse_optimizer.apply_gradients([(gradient, table)])
        dense_optimizer.apply_gradients([(tape.gradient(dense_loss, same), same)])
    np.testing.assert_allclose(table.numpy(), same.numpy(), rtol=1e-6)
    assert (table.numpy()[1] < table.numpy()[3] - 1e-3).all()


@pytest.mark.parametrize("shape", [None, (4, 2), [4, 2], np.array([4, 2]), tf.constant([4, 2])])
def test_the_shape_of_slices_may_be_no_tensor(shape):
    table, same = tf.Variable(tf.ones((4, 2))), tf.Variable(tf.ones((4, 2)))
    slices = tf.IndexedSlices(tf.ones((2, 2)), tf.constant([1, 3]), shape)
    INNAprop(1e-2).apply([slices], [table])
    INNAprop(1e-2).apply([tf.constant([[0.0] * 2, [1.0] * 2] * 2)], [same])
    np.testing.assert_array_equal(table.numpy(), same.numpy())


def test_two_dtypes_in_one_step(run):
    w, x = tf.Variable(run.theta), tf.Variable(run.theta, dtype=tf.float32)
    optimizer = optimizer_for(run)
    for updates, g in enumerate(run.gradients):
        optimizer.learning_rate = run.schedule(updates)
        optimizer.apply_gradients([(tf.constant(g), w), (tf.constant(g, tf.float32), x)])
    assert run.error(w.numpy()) < 1e-12
    assert run.error(x.numpy()) < 1e-5


def test_it_needs_no_keras():
    code = (
        "import sys; sys.modules['keras'] = None\n"
        "import tensorflow as tf\n"
        "from innaprop.tensorflow import INNAprop\n"
        "w = tf.Variable([1.0])\n"
        "INNAprop().minimize(lambda: tf.reduce_sum(w**2), [w])\n"
        "assert w.numpy() < 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
