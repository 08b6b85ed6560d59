"""At alpha = beta = 1, INNAprop is AdamW without its first moment."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from innaprop.optax import innaprop

OPTIONS = {"eps": 1e-8, "weight_decay": 0.05}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("sigma", [0.0, 0.9, 0.999])
@pytest.mark.parametrize(
    "learning_rate",
    [1e-2, lambda k: 1e-2 / (1 + k)],
    ids=["constant", "schedule"],
)
def test_the_same_trajectory(run, follow, sigma, learning_rate):
    w = jnp.asarray(run.theta)
    ours = innaprop(learning_rate, alpha=1.0, beta=1.0, sigma=sigma, **OPTIONS)
    theirs = optax.adamw(learning_rate, b1=0.0, b2=sigma, **OPTIONS)
    a, state = follow(run, ours, w)
    b, _ = follow(run, theirs, w)
    moved = np.linalg.norm(b - w)
    assert np.linalg.norm(a - b) < 1e-12 * moved
    assert not state.momentum.any()


@pytest.mark.usefixtures("float64")
def test_with_masks_alike(run, follow):
    params = {"w": jnp.asarray(run.theta), "b": jnp.asarray(run.theta)}
    mask = {"w": True, "b": False}
    ours, _ = follow(
        run, innaprop(1e-2, alpha=1.0, beta=1.0, sigma=0.99, mask=mask, **OPTIONS), params
    )
    theirs, _ = follow(run, optax.adamw(1e-2, 0.0, 0.99, mask=mask, **OPTIONS), params)
    for name in params:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-13)
    assert not np.allclose(ours["w"], ours["b"], atol=1e-4)


def test_in_float32(run, follow):
    w = jnp.asarray(run.theta, jnp.float32)
    a, _ = follow(run, innaprop(1e-2, alpha=1.0, beta=1.0, sigma=0.99, **OPTIONS), w)
    b, _ = follow(run, optax.adamw(1e-2, 0.0, 0.99, **OPTIONS), w)
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
