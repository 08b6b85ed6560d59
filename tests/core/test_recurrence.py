import numpy as np
import pytest

from innaprop_core import algorithm, momentum

PAIRS = [(0.1, 0.9), (2.0, 2.0), (0.0, 0.9), (1.0, 1.0), (3.0, 0.25)]


def _momentum_form(theta, gradients, **scalars):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    yield theta
    for k, g in enumerate(gradients, 1):
        theta, m, v = momentum.step(theta, m, v, g, momentum.coefficients(k, **scalars))
        yield theta


def _algorithm_1(theta, gradients, **scalars):
    psi = algorithm.initial_psi(theta, alpha=scalars["alpha"], beta=scalars["beta"])
    v = np.zeros_like(theta)
    yield theta
    for k, g in enumerate(gradients, 1):
        theta, psi, v = algorithm.step(theta, psi, v, g, k=k, **scalars)
        yield theta


FORMS = pytest.mark.parametrize("form", [_momentum_form, _algorithm_1])


def _normalised(gradients, sigma, eps):
    """u of every update, from the definition of the second moment as a weighted mean."""
    u = []
    for k in range(1, len(gradients) + 1):
        weights = sigma ** np.arange(k - 1, -1, -1)
        mean = np.average(gradients[:k] ** 2, axis=0, weights=weights)
        u.append(gradients[k - 1] / (np.sqrt(mean) + eps))
    return np.array(u)


@FORMS
@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
@pytest.mark.parametrize("eps", [0.0, 0.3])
@pytest.mark.parametrize("gamma", [0.01, 0.2])
def test_three_iterates_in_a_row(form, alpha, beta, eps, gamma):
    rng = np.random.default_rng(0)
    theta, gradients = rng.normal(size=5), rng.normal(size=(60, 5))
    sigma = 0.9
    scalars = {"gamma": gamma, "alpha": alpha, "beta": beta, "sigma": sigma, "eps": eps}
    x = np.array(list(form(theta, gradients, weight_decay=0.0, **scalars)))
    u = _normalised(gradients, sigma, eps)
    acceleration = (x[2:] - 2 * x[1:-1] + x[:-2]) / gamma**2
    velocity = (x[1:-1] - x[:-2]) / gamma
    residual = acceleration + alpha * velocity + beta * (u[1:] - u[:-1]) / gamma + u[:-1]
    # Rounding errors of differences of numbers as large as theta, divided by gamma^2.
    tolerance = 1e-15 * (1 + np.abs(x).max()) / gamma**2 * (10 if form is _algorithm_1 else 1)
    assert np.abs(residual).max() < 10 * tolerance


@FORMS
@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
@pytest.mark.parametrize("sigma", [0.0, 0.999])
def test_first_step_has_length_gamma_beta(form, alpha, beta, sigma):
    scalars = {"gamma": 0.01, "alpha": alpha, "beta": beta, "sigma": sigma}
    g = np.array([3.0, -4e-7, 5e9])
    start, after = form(np.zeros(3), [g], eps=0.0, weight_decay=0.0, **scalars)
    np.testing.assert_allclose(after - start, -0.01 * beta * np.sign(g), rtol=1e-13)


@FORMS
@pytest.mark.parametrize(("alpha", "beta"), [(a, b) for a, b in PAIRS if a])
def test_steps_under_a_constant_direction_approach_gamma_over_alpha(form, alpha, beta):
    gamma = 0.02
    scalars = {"gamma": gamma, "alpha": alpha, "beta": beta, "sigma": 0.99}
    steps = round(20 / (alpha * gamma))
    gradients = [np.array([2.5])] * steps
    x = np.array(list(form(np.zeros(1), gradients, eps=0.0, weight_decay=0.0, **scalars)))
    lengths = -np.diff(x[:, 0])
    # They change from gamma beta to gamma / alpha, with a time constant of 1 / (alpha gamma) steps.
    fading = (1 - alpha * gamma) ** np.arange(steps)
    expected = gamma / alpha + (gamma * beta - gamma / alpha) * fading
    np.testing.assert_allclose(lengths, expected, rtol=1e-9)
    np.testing.assert_allclose(lengths[-1], gamma / alpha, rtol=1e-7)


def test_steps_without_viscous_damping_grow_for_ever():
    gamma, beta, steps = 0.02, 0.9, 50
    scalars = {"gamma": gamma, "alpha": 0.0, "beta": beta, "sigma": 0.9, "eps": 0.0}
    x = np.array(list(_momentum_form(np.zeros(1), [np.ones(1)] * steps, weight_decay=0, **scalars)))
    np.testing.assert_allclose(
        -np.diff(x[:, 0]), gamma * beta + gamma**2 * np.arange(steps), rtol=1e-11
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0), (4.0, 0.25), (0.125, 8.0)])
def test_momentum_stays_at_zero_where_alpha_beta_is_one(alpha, beta):
    rng = np.random.default_rng(3)
    theta, m, v = rng.normal(size=4), np.zeros(4), np.zeros(4)
    for k in range(1, 50):
        c = momentum.coefficients(
            k, gamma=0.05, alpha=alpha, beta=beta, sigma=0.9, eps=1e-8, weight_decay=0.3
        )
        theta, m, v = momentum.step(theta, m, v, rng.normal(size=4), c)
        assert not m.any()
