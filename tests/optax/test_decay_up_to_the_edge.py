"""Weight decay that takes a whole weight in a step, and decay that leaves the momentum alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from innaprop.optax import innaprop, psi
from innaprop_core import Hyperparameters, trajectory

STEPS = 12
# Of the product of learning rate 0.25 and weight decay.
SHARES = [1e-6, 0.999, 1.0, 1.001]


def gradients(size):
    rng = np.random.default_rng(size)
    return [rng.normal(size=size) + 0.3 for _ in range(STEPS)]


def start(size):
    return np.random.default_rng(1000 + size).normal(size=size)


def falling(k):
    return 0.25 * (1 - k / (2 * STEPS))


def made(kind, alpha, beta, weight_decay, **options):
    """A transformation whose learning rate 0.25 is known in several ways."""
    if kind == "number":
        return innaprop(0.25, alpha=alpha, beta=beta, weight_decay=weight_decay, **options)
    if kind == "schedule":
        return innaprop(falling, alpha=alpha, beta=beta, weight_decay=weight_decay, **options)
    static = ("alpha", "beta", "weight_decay") if kind == "injected" else ()
    inject = optax.inject_hyperparams(
        innaprop, static_args=static, hyperparam_dtype=jnp.dtype("float64")
    )
    return inject(0.25, alpha=alpha, beta=beta, weight_decay=weight_decay, **options)


def follow(optimizer, size, compiled):
    w = jnp.asarray(start(size))
    state = optimizer.init(w)

    def step(w, state, g):
        updates, state = optimizer.update(g, state, w)
        return optax.apply_updates(w, updates), state

    step = jax.jit(step) if compiled else step
    for g in gradients(size):
        w, state = step(w, state, jnp.asarray(g))
    return w, state


def check(theta, size, h, kind):
    schedule = falling if kind == "schedule" else None
    truth = trajectory(h, start(size), gradients(size), schedule=schedule)
    np.testing.assert_allclose(theta, truth.theta[-1], rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("decay_momentum", [True, False])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("kind", ["number", "schedule", "injected", "all injected"])
@pytest.mark.parametrize("share", SHARES)
def test_the_exact_trajectory(share, kind, compiled, decay_momentum):
    optimizer = made(kind, 2.0, 0.5, 4 * share, decay_momentum=decay_momentum)
    w, _ = follow(optimizer, 7, compiled)
    h = Hyperparameters(0.25, 2.0, 0.5, weight_decay=4 * share, decay_momentum=decay_momentum)
    check(w, 7, h, kind)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["number", "all injected"])
@pytest.mark.parametrize("size", [0, 1, 33, 256, 257])
def test_any_size(size, kind):
    for decay in (0.01, 4.0):
        w, _ = follow(made(kind, 2.0, 0.5, decay), size, compiled=True)
        check(w, size, Hyperparameters(0.25, 2.0, 0.5, weight_decay=decay), kind)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 2.0), (1.0, 1.0), (2.0, 0.5)])
def test_at_alpha_beta_one_it_is_adamw_either_way(alpha, beta):
    """Whose learning rate is gamma beta and whose decay is lambda / beta."""
    ends = [
        follow(made("number", alpha, beta, 0.1, decay_momentum=reaches), 9, compiled=True)
        for reaches in (True, False)
    ]
    theirs = optax.adamw(0.25 * beta, b1=0.0, b2=0.999, eps=1e-8, weight_decay=0.1 / beta)
    w, _ = follow(theirs, 9, compiled=True)
    for end, state in ends:
        np.testing.assert_allclose(end, w, rtol=1e-12, atol=1e-13)
        assert not state.momentum.any()


@pytest.mark.usefixtures("float64")
def test_without_decay_in_the_momentum_psi_follows_too():
    h = Hyperparameters(0.25, 0.1, 0.9, weight_decay=0.5, decay_momentum=False)
    w, state = follow(made("number", 0.1, 0.9, 0.5, decay_momentum=False), 9, compiled=True)
    truth = trajectory(h, start(9), gradients(9))
    np.testing.assert_allclose(psi(state, w), truth.psi[-1], rtol=1e-11)


def test_decay_momentum_is_a_bool():
    with pytest.raises(TypeError, match="decay_momentum must be True or False, got 1"):
        innaprop(1e-3, decay_momentum=1)
