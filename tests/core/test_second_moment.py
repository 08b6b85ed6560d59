import numpy as np
import pytest

from innaprop_core import algorithm, momentum


def _v_and_u(gradients, dtype, *, sigma, eps):
    """The second moment and the direction u after the last gradient."""
    zeros = np.zeros(np.shape(gradients[0]), dtype)
    v = zeros
    for k, g in enumerate(gradients, 1):
        # With alpha = 0, gamma = 1/2 and m = 0 before the update, m = u / 2 after it.
        c = momentum.coefficients(
            k, gamma=0.5, alpha=0.0, beta=1.0, sigma=sigma, eps=eps, weight_decay=0.0
        )
        _, half_u, v = momentum.step(zeros, zeros, v, np.asarray(g, dtype), c)
    return v.astype(np.float64), 2 * half_u.astype(np.float64)


def test_float32_averages_without_bias():
    # float32(0.999) and float32(1 - 0.999) do not add up to 1: as weights they would increase v
    # by a factor of 1 + 1.3e-5. The mean over elements is tested, whose error is ten times smaller.
    gradients = np.random.default_rng(0).normal(size=(15_000, 20)).astype(np.float32)
    v, _ = _v_and_u(gradients, np.float32, sigma=0.999, eps=1e-8)
    exactly = np.zeros(20)
    for g in gradients.astype(np.float64):
        exactly = 0.999 * exactly + (1 - 0.999) * g**2
    assert abs((v / exactly - 1).mean()) < 2e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sigma", [0.01, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("drop", [1e-2, 1e-4, 1e-9])
def test_a_gradient_that_drops_is_seen_beside_the_memory_of_a_large_one(dtype, sigma, drop):
    v, u = _v_and_u([[1.0], [drop]], dtype, sigma=sigma, eps=0.0)
    expected = (1 - sigma) * (sigma + drop**2)
    # The rounding error of the large square, relative to its remaining part, sigma.
    tolerance = 4 * float(np.finfo(dtype).eps) / sigma
    assert v == pytest.approx(expected, rel=tolerance)
    assert u == pytest.approx(drop / np.sqrt(expected / (1 - sigma**2)), rel=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sigma", [0.0, 1e-20])
def test_a_gradient_that_drops_is_seen_without_memory(dtype, sigma):
    v, u = _v_and_u([[1.0], [1e-9]], dtype, sigma=sigma, eps=1e-12)
    assert v == pytest.approx(sigma + 1e-18, rel=1e-6)
    assert u == pytest.approx(1e-9 / (np.sqrt(sigma + 1e-18) + 1e-12), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_memory_u_is_the_sign_of_every_gradient(dtype):
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(50, 4)) * 10.0 ** rng.integers(-4, 5, (50, 4))
    for k in range(1, 51):
        v, u = _v_and_u(gradients[:k], dtype, sigma=0.0, eps=0.0)
        np.testing.assert_allclose(v, gradients[k - 1] ** 2, rtol=1e-6)
        np.testing.assert_allclose(u, np.sign(gradients[k - 1]), rtol=1e-6)


def test_an_overflowing_square_makes_the_parameter_nan_at_the_next_update():
    zeros = np.zeros(1, "float32")
    g = np.full(1, 1e30, "float32")
    c = momentum.coefficients(
        1, gamma=0.1, alpha=0.1, beta=0.9, sigma=0.9, eps=1e-8, weight_decay=0.0
    )
    with np.errstate(over="ignore", invalid="ignore"):
        theta, m, v = momentum.step(zeros, zeros, zeros, g, c)
        assert np.isfinite(theta).all()
        theta, m, v = momentum.step(theta, m, v, g, c)
    assert np.isnan(theta).all()


def test_algorithm_1_in_float64_overflows_where_the_square_does():
    zeros, g = np.zeros(1), np.array([1e160])
    with np.errstate(over="ignore"):
        _, _, v = algorithm.step(
            zeros,
            zeros,
            zeros,
            g,
            k=1,
            gamma=0.1,
            alpha=0.1,
            beta=0.9,
            sigma=0.9,
            eps=1e-8,
            weight_decay=0.0,
        )
    assert np.isinf(v).all()
