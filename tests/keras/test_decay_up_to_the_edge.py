"""Weight decay that takes a whole weight in a step, and decay that leaves the momentum alone."""

import keras
import numpy as np
import pytest
from keras import ops

from innaprop.keras import INNAprop
from innaprop_core import Hyperparameters, trajectory

pytestmark = pytest.mark.usefixtures("float64")
STEPS = 12
# Of the product of learning rate 0.25 and weight decay.
SHARES = [1e-6, 0.999, 1.0, 1.001]


def gradients(size):
    rng = np.random.default_rng(size)
    return [rng.normal(size=size) + 0.3 for _ in range(STEPS)]


def start(size):
    return np.random.default_rng(1000 + size).normal(size=size)


@keras.saving.register_keras_serializable(package="edge")
class Falling(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.25 * (1 - ops.cast(step, "float64") / (2 * STEPS))


def compiled(optimizer, variable, xla):
    """Return an update with a gradient, as the backend compiles it."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        update = jax.jit(optimizer.stateless_apply)

        def apply(g):
            own = optimizer.variables
            values, state = update([v.value for v in own], [g], [variable.value])
            for target, value in zip([variable, *own], [*values, *state], strict=True):
                target.assign(value)

        return apply
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda g: optimizer.apply([g], [variable]), jit_compile=xla)
    return lambda g: optimizer.apply([g], [variable])


def follow(optimizer, size, mode):
    w = keras.Variable(start(size), dtype="float64")
    optimizer.build([w])
    apply = compiled(optimizer, w, mode == "xla")
    for g in gradients(size):
        g = ops.convert_to_tensor(g)
        optimizer.apply([g], [w]) if mode == "eager" else apply(g)
    return ops.convert_to_numpy(w)


def check(theta, size, h, schedule=None):
    truth = trajectory(h, start(size), gradients(size), schedule=schedule)
    np.testing.assert_allclose(theta, truth.theta[-1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("decay_momentum", [True, False])
@pytest.mark.parametrize("mode", ["eager", "function", "xla"])
@pytest.mark.parametrize("share", SHARES)
def test_the_exact_trajectory(share, mode, decay_momentum):
    h = Hyperparameters(0.25, 2.0, 0.5, weight_decay=4 * share, decay_momentum=decay_momentum)
    optimizer = INNAprop(
        0.25, alpha=2.0, beta=0.5, weight_decay=4 * share, decay_momentum=decay_momentum
    )
    check(follow(optimizer, 7, mode), 7, h)


@pytest.mark.parametrize("mode", ["eager", "function", "xla"])
def test_a_spared_momentum_stays_exactly_zero_while_gradients_are_zero(mode):
    w = keras.Variable(start(97), dtype="float64")
    optimizer = INNAprop(0.25, weight_decay=0.7, decay_momentum=False)
    optimizer.build([w])
    apply = compiled(optimizer, w, mode == "xla")
    for _ in range(3):
        g = ops.zeros(97, "float64")
        optimizer.apply([g], [w]) if mode == "eager" else apply(g)
    (momentum,) = [v for v in optimizer.variables if v.name.endswith("_momentum")]
    assert not ops.convert_to_numpy(momentum).any()
    assert ops.convert_to_numpy(w).all()


@pytest.mark.parametrize("mode", ["function", "xla"])
def test_of_all_schedules(mode):
    """Of which nothing is known when a function is traced."""
    h = Hyperparameters(0.25, 2.0, 0.5, weight_decay=4.0)
    optimizer = INNAprop(
        Falling(), alpha=lambda k: 2.0 + 0 * k, beta=lambda k: 0.5 + 0 * k, weight_decay=4.0
    )
    check(follow(optimizer, 7, mode), 7, h, lambda k: 0.25 * (1 - k / (2 * STEPS)))


@pytest.mark.parametrize("size", [0, 1, 33, 256, 257])
def test_any_size(size):
    for decay in (0.01, 4.0):
        h = Hyperparameters(0.25, 2.0, 0.5, weight_decay=decay)
        check(follow(INNAprop(0.25, alpha=2.0, beta=0.5, weight_decay=decay), size, "xla"), size, h)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_at_alpha_beta_one_it_is_adamw_either_way(alpha):
    """Whose learning rate is gamma beta and whose decay is lambda / beta."""
    ends = [
        follow(
            INNAprop(
                1e-2,
                alpha=alpha,
                beta=1 / alpha,
                sigma=0.99,
                epsilon=1e-8,
                weight_decay=0.1,
                decay_momentum=reaches,
            ),
            9,
            "xla",
        )
        for reaches in (True, False)
    ]
    theirs = keras.optimizers.AdamW(
        1e-2 / alpha, beta_1=0.0, beta_2=0.99, epsilon=1e-300, weight_decay=0.1 * alpha
    )
    w = follow(theirs, 9, "function")
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-12)
    np.testing.assert_allclose(ends[0], w, rtol=1e-6)


def test_decay_momentum_is_a_bool_and_part_of_the_config():
    with pytest.raises(TypeError, match="decay_momentum must be True or False, got 1"):
        INNAprop(decay_momentum=1)
    optimizer = INNAprop(decay_momentum=False)
    assert INNAprop.from_config(optimizer.get_config()).decay_momentum is False
    w = keras.Variable(np.ones(3), dtype="float64")
    optimizer.decay_momentum = None
    with pytest.raises(TypeError, match="decay_momentum must be True or False, got None"):
        optimizer.apply([ops.ones(3, "float64")], [w])
    np.testing.assert_array_equal(ops.convert_to_numpy(w), np.ones(3))
