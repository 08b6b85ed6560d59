import numpy as np
import pytest
from scipy.integrate import solve_ivp

from innaprop_core import algorithm, momentum

END = 4.0
COUNTS = [256, 512, 1024, 2048]
PAIRS = [(0.1, 0.9), (2.0, 2.0), (0.0, 0.5), (1.0, 1.0)]
START = 1.2


def _momentum_form(gradient, steps, alpha, beta, weight_decay):
    scalars = {"alpha": alpha, "beta": beta, "weight_decay": weight_decay}
    gamma = END / steps
    theta, m, v = np.array([START]), np.zeros(1), np.zeros(1)
    for k in range(1, steps + 1):
        c = momentum.coefficients(k, gamma=gamma, sigma=0.0, eps=1.0, **scalars)
        theta, m, v = momentum.step(theta, m, v, gradient((k - 1) * gamma, theta), c)
    return theta[0]


def _algorithm_1(gradient, steps, alpha, beta, weight_decay):
    scalars = {"alpha": alpha, "beta": beta, "weight_decay": weight_decay}
    gamma = END / steps
    theta, v = np.array([START]), np.zeros(1)
    psi = algorithm.initial_psi(theta, alpha=alpha, beta=beta)
    for k in range(1, steps + 1):
        g = gradient((k - 1) * gamma, theta)
        theta, psi, v = algorithm.step(
            theta, psi, v, g, k=k, gamma=gamma, sigma=0.0, eps=1.0, **scalars
        )
    return theta[0]


def _order(form, gradient, limit, *scalars):
    """log2 of the error ratio at every halving of the step size."""
    errors = [abs(form(gradient, steps, *scalars) - limit) for steps in COUNTS]
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


def _integrate(right_hand_side, velocity):
    solution = solve_ivp(right_hand_side, (0, END), [START, velocity], rtol=1e-12, atol=1e-13)
    return solution.y[0, -1]


EVERY_FORM = pytest.mark.parametrize("form", [_momentum_form, _algorithm_1])
EVERY_PAIR = pytest.mark.parametrize(("alpha", "beta"), PAIRS)
# With sigma = 0 and eps = 1, u = g / (|g| + 1), so that any u in (-1, 1) can be prescribed.


@EVERY_FORM
@EVERY_PAIR
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_first_order_under_a_prescribed_direction(form, alpha, beta, weight_decay):
    def u(t):
        return 0.5 * np.sin(1.7 * t + 0.4) + 0.2

    def gradient(t, theta):
        return np.full_like(theta, u(t) / (1 - abs(u(t))))

    def right_hand_side(t, state):
        theta, velocity = state
        slope = 0.5 * 1.7 * np.cos(1.7 * t + 0.4)
        damping = alpha + weight_decay
        pull = weight_decay / beta * theta
        return velocity, -damping * velocity - pull - beta * slope - u(t)

    limit = _integrate(right_hand_side, -weight_decay * START - beta * u(0))
    order = _order(form, gradient, limit, alpha, beta, weight_decay)
    assert ((order > 0.85) & (order < 1.15)).all()


@EVERY_FORM
@EVERY_PAIR
def test_first_order_under_the_gradient_of_a_loss(form, alpha, beta):
    # g = exp(theta) is positive, so u = g / (g + 1) is smooth: the logistic function.
    def gradient(_, theta):
        return np.exp(theta)

    def right_hand_side(_, state):
        theta, velocity = state
        u = 1 / (1 + np.exp(-theta))
        return velocity, -alpha * velocity - beta * u * (1 - u) * velocity - u

    limit = _integrate(right_hand_side, -beta / (1 + np.exp(-START)))
    order = _order(form, gradient, limit, alpha, beta, 0.0)
    assert ((order > 0.85) & (order < 1.15)).all()
