import numpy as np
import pytest

from innaprop_core import algorithm, momentum

CASES = [
    (0.1, 0.9, 0.01),
    (2.0, 2.0, 0.01),
    (2.0, 2.0, 0.5),
    (1.0, 1.0, 0.2),
    (0.5, 4.0, 0.05),
    (0.0, 0.9, 0.1),
]


def _momentum_matrix(gamma, alpha, beta, weight_decay):
    """The matrix by which an update without gradient multiplies (theta, m)."""
    c = momentum.coefficients(
        1, gamma=gamma, alpha=alpha, beta=beta, sigma=0.9, eps=1e-8, weight_decay=weight_decay
    )
    zeros = np.zeros(2)
    theta, m, _ = momentum.step(np.array([1.0, 0.0]), np.array([0.0, 1.0]), zeros, zeros, c)
    return np.array([theta, m])


def _psi_matrix(gamma, alpha, beta, weight_decay):
    """The matrix for (theta, psi) in Algorithm 1 as printed."""
    scalars = {"alpha": alpha, "beta": beta, "sigma": 0.9, "eps": 1e-8}
    zeros = np.zeros(2)
    theta, psi, _ = algorithm.step(
        np.array([1.0, 0.0]),
        np.array([0.0, 1.0]),
        zeros,
        zeros,
        k=1,
        gamma=gamma,
        weight_decay=weight_decay,
        **scalars,
    )
    return np.array([theta, psi])


MATRICES = pytest.mark.parametrize("matrix", [_momentum_matrix, _psi_matrix])


@MATRICES
@pytest.mark.parametrize(("alpha", "beta", "weight_decay"), CASES)
@pytest.mark.parametrize("gamma", [0.2, 0.01])
def test_trace_and_determinant_without_a_gradient(matrix, alpha, beta, weight_decay, gamma):
    # They imply, for an eigenvalue 1 + gamma s,
    # s^2 + (lambda + alpha + gamma lambda (1 - alpha beta) / beta) s + lambda / beta = 0.
    one_step = matrix(gamma, alpha, beta, weight_decay)
    linear = weight_decay + alpha + gamma * weight_decay * (1 / beta - alpha)
    constant = weight_decay / beta
    assert np.trace(one_step) == pytest.approx(2 - gamma * linear, rel=1e-13)
    expected = 1 - gamma * linear + gamma**2 * constant
    assert np.linalg.det(one_step) == pytest.approx(expected, rel=1e-13)


@MATRICES
@pytest.mark.parametrize(("alpha", "beta", "weight_decay"), CASES)
def test_rates_solve_the_characteristic_equation(matrix, alpha, beta, weight_decay):
    gamma = 1e-5
    rates = (np.linalg.eigvals(matrix(gamma, alpha, beta, weight_decay)) - 1) / gamma
    expected = np.roots([1, weight_decay + alpha, weight_decay / beta])
    # The error is of order gamma; for a double root it would be of order sqrt(gamma).
    np.testing.assert_allclose(np.sort_complex(rates), np.sort_complex(expected), atol=1e-4)


def test_best_accuracy_decays_an_idle_weight_at_a_quarter_of_the_nominal_rate():
    gamma, weight_decay = 1e-4, 0.01
    rates = (np.linalg.eigvals(_momentum_matrix(gamma, 2.0, 2.0, weight_decay)) - 1) / gamma
    assert max(rates) == pytest.approx(-weight_decay / 4, rel=0.01)


def test_fast_training_swings_an_idle_weight_through_zero():
    matrix = _momentum_matrix(1e-3, 0.1, 0.9, 0.01)
    theta, _ = np.linalg.matrix_power(matrix, 40_000) @ [1.0, 0.0]
    # theta'' + (lambda + alpha) theta' + lambda / beta theta = 0 with theta' = -lambda theta at 0.
    damping, frequency = 0.055, np.sqrt(0.01 / 0.9 - 0.055**2)
    swing = np.cos(frequency * 40) + (damping - 0.01) / frequency * np.sin(frequency * 40)
    assert theta == pytest.approx(np.exp(-damping * 40) * swing, abs=1e-4)
    assert theta < -0.1


def test_adamw_pair_decays_a_weight_at_the_nominal_rate_over_beta():
    # With alpha beta = 1, m stays at zero, and theta is only multiplied by 1 - gamma lambda.
    matrix = _momentum_matrix(0.01, 0.5, 2.0, 0.3)
    np.testing.assert_allclose(matrix[:, 0], [1 - 0.01 * 0.3, 0], rtol=1e-15)
