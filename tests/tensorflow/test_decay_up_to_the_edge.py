"""Weight decay that takes a whole weight in a step, and what XLA's form asks of alpha and beta."""

import copy

import numpy as np
import pytest
import tensorflow as tf

from innaprop.tensorflow import INNAprop
from innaprop_core import Hyperparameters, trajectory

MODES = ["eager", "function", "xla"]
STEPS = 12
# Of the product of learning rate 0.25 and weight decay.
SHARES = [1e-6, 0.999, 1.0, 1.001]


def gradients(size):
    rng = np.random.default_rng(size)
    return [rng.normal(size=size) + 0.3 for _ in range(STEPS)]


def start(size):
    return np.random.default_rng(1000 + size).normal(size=size)


def follow(optimizer, size, mode):
    w = tf.Variable(start(size))
    optimizer.build([w])

    def apply(g):
        optimizer.apply([g], [w])

    step = apply if mode == "eager" else tf.function(apply, jit_compile=mode == "xla")
    for g in gradients(size):
        step(tf.constant(g))
    return w.numpy()


def check(theta, size, h, schedule=None):
    truth = trajectory(h, start(size), gradients(size), schedule=schedule)
    np.testing.assert_allclose(theta, truth.theta[-1], rtol=1e-9, atol=1e-11)


def given(kind, gamma):
    """The learning rate as a number, a variable or a schedule."""
    if kind == "number":
        return gamma
    if kind == "variable":
        return tf.Variable(gamma, dtype=tf.float64, trainable=False)
    return lambda k: gamma * (1 - tf.cast(k, tf.float64) / (2 * STEPS))


@pytest.mark.parametrize("decay_momentum", [True, False])
@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *((m, "number") for m in MODES),
        ("function", "schedule"),
        ("xla", "variable"),
        ("xla", "schedule"),
    ],
)
@pytest.mark.parametrize("share", SHARES)
def test_the_exact_trajectory(share, kind, mode, decay_momentum):
    h = Hyperparameters(0.25, 2.0, 0.5, weight_decay=4 * share, decay_momentum=decay_momentum)
    schedule = (lambda k: 0.25 * (1 - k / (2 * STEPS))) if kind == "schedule" else None
    optimizer = INNAprop(
        given(kind, 0.25),
        alpha=2.0,
        beta=0.5,
        weight_decay=4 * share,
        decay_momentum=decay_momentum,
    )
    check(follow(optimizer, 7, mode), 7, h, schedule)


@pytest.mark.parametrize("mode", MODES)
def test_a_spared_momentum_stays_exactly_zero_while_gradients_are_zero(mode):
    w, optimizer = tf.Variable(start(97)), INNAprop(0.25, weight_decay=0.7, decay_momentum=False)
    optimizer.build([w])

    def apply(g):
        optimizer.apply([g], [w])

    step = apply if mode == "eager" else tf.function(apply, jit_compile=mode == "xla")
    for _ in range(3):
        step(tf.zeros(97, tf.float64))
    assert not optimizer.momentums[0].numpy().any()
    assert w.numpy().all()


@pytest.mark.parametrize("mode", ["function", "xla"])
@pytest.mark.parametrize("size", [0, 1, 33, 256, 257])
def test_any_size(size, mode):
    for share in (0.01, 1.0):
        h = Hyperparameters(0.25, 2.0, 0.5, weight_decay=4 * share)
        optimizer = INNAprop(0.25, alpha=2.0, beta=0.5, weight_decay=4 * share)
        check(follow(optimizer, size, mode), size, h)


@pytest.mark.parametrize("mode", MODES)
def test_alpha_and_beta_as_variables_of_the_user(mode):
    """They may change after the function was traced: so nothing is known of them then."""
    alpha, beta = (tf.Variable(x, dtype=tf.float64, trainable=False) for x in (0.1, 0.1))
    w, optimizer = tf.Variable(start(7)), INNAprop(0.05, alpha=alpha, beta=beta, weight_decay=1.0)

    def apply(g):
        optimizer.apply([g], [w])

    step = apply if mode == "eager" else tf.function(apply, jit_compile=mode == "xla")
    optimizer.learning_rate = 0.0
    step(tf.constant(gradients(7)[0]))
    h = Hyperparameters(0.5, 0.5, 1.0, weight_decay=1.0)
    alpha.assign(0.5)
    beta.assign(1.0)
    optimizer.learning_rate = 0.5
    optimizer.updates[0].assign(0)
    optimizer.second_moments[0].assign(tf.zeros(7, tf.float64))
    for g in gradients(7):
        step(tf.constant(g))
    check(w.numpy(), 7, h)


def test_a_damping_that_a_compiled_function_does_not_allow_is_refused():
    w, optimizer = tf.Variable(start(3)), INNAprop(0.05, alpha=2.0, beta=0.5, weight_decay=0.9)
    optimizer.beta = 1.5  # Nothing has been traced yet.
    optimizer.beta = 0.5

    @tf.function(jit_compile=True)
    def apply(g):
        optimizer.apply([g], [w])

    apply(tf.ones(3, tf.float64))
    roots = apply.get_concrete_function(tf.ones(3, tf.float64)).graph.as_graph_def()
    assert sum(node.op == "Sqrt" for node in roots.node) == 2  # Of the form that looks back.
    optimizer.alpha = 1.9  # 0.9 * 0.5 * 1.05 < 1/2
    with pytest.raises(ValueError, match=r"alpha and beta must keep .* got beta=1.5 with weight_"):
        optimizer.beta = 1.5
    with pytest.raises(
        ValueError, match=r"got alpha=0.1 with weight_decay=0.9; create a new optimizer"
    ):
        optimizer.alpha = 0.1
    assert (float(optimizer.alpha), float(optimizer.beta)) == (1.9, 0.5)
    copied = copy.deepcopy(optimizer)  # No function relies on the copy.
    copied.beta, copied.weight_decay = 1.5, 9.0
    optimizer.alpha = 2.0
    other = INNAprop(0.05, alpha=2.0, beta=0.5, weight_decay=9.0)

    @tf.function(jit_compile=True)
    def apply_other(g):
        other.apply([g], [w])

    apply_other(tf.ones(3, tf.float64))
    other.alpha = 0.1  # It was not valid from the start, so nothing relies on it.


def test_a_function_without_xla_asks_nothing_of_alpha_and_beta():
    w, optimizer = tf.Variable(start(3)), INNAprop(0.05, alpha=2.0, beta=0.5, weight_decay=0.9)
    tf.function(lambda g: optimizer.apply([g], [w]))(tf.ones(3, tf.float64))
    optimizer.beta = 5.0


def test_a_damping_set_inside_a_function_is_not_known_afterwards():
    """The function would look back by the value of before."""
    w, optimizer = tf.Variable(start(7)), INNAprop(0.05, alpha=2.0, beta=0.5, weight_decay=1.0)
    optimizer.build([w])

    @tf.function(jit_compile=True)
    def apply(g, beta, rate):
        optimizer.beta = beta
        optimizer.learning_rate = rate
        optimizer.apply([g], [w])

    for g in gradients(7):
        apply(tf.constant(g), tf.constant(1.0, tf.float64), tf.constant(0.5, tf.float64))
    check(w.numpy(), 7, Hyperparameters(0.5, 2.0, 1.0, weight_decay=1.0))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_at_alpha_beta_one_it_is_keras_adamw_either_way(mode, alpha):
    """Whose learning rate is gamma beta and whose decay is lambda / beta."""
    import keras

    ends = []
    for decay_momentum in (True, False):
        optimizer = INNAprop(
            1e-2,
            alpha=alpha,
            beta=1 / alpha,
            sigma=0.99,
            epsilon=1e-8,
            weight_decay=0.1,
            decay_momentum=decay_momentum,
        )
        ends.append(follow(optimizer, 9, mode))
    twin = tf.Variable(start(9))
    theirs = keras.optimizers.AdamW(
        1e-2 / alpha, beta_1=0.0, beta_2=0.99, epsilon=1e-300, weight_decay=0.1 * alpha
    )
    theirs.build([twin])
    for g in gradients(9):
        theirs.apply([tf.constant(g)], [twin])
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-12)
    # Keras holds its learning rate in float32.
    np.testing.assert_allclose(ends[0], twin.numpy(), rtol=1e-6)


def test_decay_momentum_is_a_bool_when_given_and_when_set():
    with pytest.raises(TypeError, match="decay_momentum must be True or False, got 1"):
        INNAprop(decay_momentum=1)
    optimizer = INNAprop()
    assert optimizer.decay_momentum is True
    with pytest.raises(TypeError, match="decay_momentum must be True or False, got None"):
        optimizer.decay_momentum = None
    assert optimizer.decay_momentum is True
    optimizer.decay_momentum = False
    assert optimizer.decay_momentum is False
