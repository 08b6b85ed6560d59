import keras
import numpy as np
import pytest
from keras import ops

from innaprop.keras import INNAprop
from innaprop_core import trajectory


def optimizer_for(run, learning_rate=None, **options):
    h = run.hyperparameters
    lr = h.gamma if learning_rate is None else learning_rate
    return INNAprop(
        lr,
        alpha=h.alpha,
        beta=h.beta,
        sigma=h.sigma,
        epsilon=h.eps,
        weight_decay=h.weight_decay,
        **options,
    )


def train(run, optimizer, variable, tensor):
    for updates, g in enumerate(run.gradients):
        optimizer.learning_rate = run.schedule(updates)
        optimizer.apply([tensor(g, dtype=variable.dtype)], [variable])


def numpy(x):
    return ops.convert_to_numpy(x)


@pytest.mark.usefixtures("float64")
def test_theta_and_psi_in_float64(run, tensor):
    w = keras.Variable(run.theta, dtype="float64")
    optimizer = optimizer_for(run)
    train(run, optimizer, w, tensor)
    assert run.error(numpy(w)) < 1e-12
    assert run.psi_error(numpy(optimizer.psi(w))) < 1e-12
    assert int(optimizer.iterations) == len(run.gradients)


@pytest.mark.usefixtures("float64")
def test_an_excluded_variable_is_not_decayed_at_all(run, another_run, tensor):
    """Neither itself nor through its momentum."""
    h = run.hyperparameters
    free = another_run(alpha=h.alpha, beta=h.beta, weight_decay=0.0)
    kernel = keras.Variable(run.theta, dtype="float64", name="kernel")
    bias = keras.Variable(free.theta, dtype="float64", name="bias")
    optimizer = optimizer_for(run)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    for updates, g in enumerate(run.gradients):
        optimizer.learning_rate = run.schedule(updates)
        optimizer.apply([tensor(g), tensor(g)], [kernel, bias])
    assert run.error(numpy(kernel)) < 1e-12
    assert free.error(numpy(bias)) < 1e-12


@pytest.mark.usefixtures("float64")
def test_weight_decay_none_is_zero(another_run, tensor):
    run = another_run(weight_decay=0.0)
    w = keras.Variable(run.theta, dtype="float64")
    optimizer = INNAprop(run.hyperparameters.gamma, weight_decay=None)
    train(run, optimizer, w, tensor)
    assert run.error(numpy(w)) < 1e-12


@pytest.mark.usefixtures("float64")
def test_a_learning_rate_schedule(run, tensor):
    n, gamma = len(run.gradients), run.hyperparameters.gamma

    class Schedule(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return gamma * (1 - ops.cast(step, "float64") / (2 * n))

    w = keras.Variable(run.theta, dtype="float64")
    optimizer = optimizer_for(run, Schedule())
    for g in run.gradients:
        optimizer.apply([tensor(g)], [w])
    assert run.error(numpy(w)) < 1e-12


@pytest.mark.usefixtures("float64")
def test_a_number_from_a_callable_keeps_its_digits(another_run, tensor):
    run = another_run(gamma=1e-3)
    w = keras.Variable(run.theta, dtype="float64")
    updates = iter(range(len(run.gradients)))
    optimizer = optimizer_for(run, lambda: run.schedule(next(updates)))
    for g in run.gradients:
        optimizer.apply([tensor(g)], [w])
    assert run.error(numpy(w)) < 1e-12


@pytest.mark.usefixtures("float64")
def test_accumulated_gradients_count_as_one_update(run, tensor):
    w = keras.Variable(run.theta, dtype="float64")
    optimizer = optimizer_for(run, gradient_accumulation_steps=2)
    for updates, g in enumerate(run.gradients):
        optimizer.learning_rate = run.schedule(updates)
        for part in (1.5, 0.5):
            optimizer.apply([tensor(part * g)], [w])
    assert run.error(numpy(w)) < 1e-12


def shortened(g, others, limit):
    """A gradient such that it and others together have a norm of ``limit`` at most."""
    norm = np.sqrt(sum((other**2).sum() for other in others))
    return g * min(1.0, limit / norm)


CLIPPED = {
    "clipvalue": (2.0, lambda pair: [np.clip(g, -2.0, 2.0) for g in pair]),
    "clipnorm": (4.0, lambda pair: [shortened(g, [g], 4.0) for g in pair]),
    "global_clipnorm": (7.0, lambda pair: [shortened(g, pair, 7.0) for g in pair]),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("clip", CLIPPED)
def test_clipped_gradients(run, clip, tensor):
    """Of two variables, whose gradients are clipped at some updates and not at others."""
    start = [run.theta, run.theta[:2]]
    pairs = [[g, 2.0 * g[:2]] for g in run.gradients]
    limit, clips = CLIPPED[clip]
    clipped = [clips(pair) for pair in pairs]
    untouched = [(a[0] == b[0]).all() for a, b in zip(pairs, clipped, strict=True)]
    assert 5 < sum(untouched) < 55
    variables = [keras.Variable(theta, dtype="float64") for theta in start]
    optimizer = optimizer_for(run, **{clip: limit})
    for updates, pair in enumerate(pairs):
        optimizer.learning_rate = run.schedule(updates)
        optimizer.apply([tensor(g) for g in pair], variables)
    for i, (variable, theta) in enumerate(zip(variables, start, strict=True)):
        own = [pair[i] for pair in clipped]
        exact = trajectory(run.hyperparameters, theta, own, schedule=run.schedule).theta[-1]
        # Keras computes norms in float32.
        np.testing.assert_allclose(numpy(variable), exact, rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_scaled_gradients(another_run, tensor):
    """epsilon is large: without it the size of gradients would not matter."""
    run = another_run(eps=0.1)
    w = keras.Variable(run.theta, dtype="float64")
    optimizer = optimizer_for(run, loss_scale_factor=4.0)
    for updates, g in enumerate(run.gradients):
        optimizer.learning_rate = run.schedule(updates)
        optimizer.apply([tensor(4 * g)], [w])
    assert run.error(numpy(w)) < 1e-12


@pytest.mark.usefixtures("float64")
def test_ema_follows_the_weights(run, tensor):
    """Its momentum is the share of the old average; one of 0.5 would not tell them apart."""
    w = keras.Variable(run.theta, dtype="float64")
    optimizer = optimizer_for(run, use_ema=True, ema_momentum=0.9)
    train(run, optimizer, w, tensor)
    assert run.error(numpy(w)) < 1e-12
    average = run.truth.theta[0]
    for theta in run.truth.theta[1:]:
        average = 0.9 * average + 0.1 * theta
    optimizer.finalize_variable_values([w])
    np.testing.assert_allclose(numpy(w), average, rtol=1e-10)


def test_the_state_starts_at_zero_so_weights_may_be_loaded_late(run, tensor):
    w = keras.Variable(np.zeros_like(run.theta), dtype="float32")
    optimizer = optimizer_for(run)
    optimizer.build([w])
    w.assign(run.theta)
    train(run, optimizer, w, tensor)
    assert run.error(numpy(w)) < 1e-5


@pytest.mark.parametrize("shape", [(), (0, 4), (2, 1, 3, 1, 2)])
def test_any_shape(shape, tensor):
    w = keras.Variable(np.ones(shape), dtype="float32")
    INNAprop().apply([tensor(np.ones(shape, "float32"))], [w])
    assert w.shape == shape
    assert (numpy(w) < 1).all()
