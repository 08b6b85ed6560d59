import numpy as np
import pytest
from mpmath import mp, mpf

from innaprop_core import Hyperparameters, algorithm, momentum, trajectory

from .paper import DIGITS, EPS64, algorithm_1, distance, exact

STEPS = 120
CASES = {
    "fast training": (0.1, 0.9),
    "best accuracy": (2.0, 2.0),
    "no viscous damping": (0.0, 0.9),
    "adamw": (1.0, 1.0),
    "alpha beta = 1, alpha != beta": (0.5, 2.0),
    "alpha beta = 1 up to rounding": (0.3, 1 / 0.3),
    "beta barely above gamma": (0.3, 0.500001),
    "alpha large": (3.5, 0.7),
}
TAIL = {"sigma": 0.99, "eps": 1e-8, "weight_decay": 0.05}


class Problem:
    def __init__(self, alpha, beta, seed=0, steps=STEPS):
        rng = np.random.default_rng(seed)
        self.theta = rng.normal(size=6) * 10.0 ** rng.integers(-3, 4, 6)
        self.gradients = rng.normal(size=(steps, 6)) * 10.0 ** rng.integers(-6, 6, 6)
        self.gammas = np.exp(rng.uniform(np.log(1e-4), np.log(0.5), steps))
        self.scalars = {"alpha": alpha, "beta": beta, **TAIL}
        self.exact = algorithm_1(self.theta, self.gradients, self.gammas, **self.scalars)

    @property
    def floor(self):
        """One rounding error of theta and of each term of the update, at every step."""
        steps = np.arange(1, len(self.gammas) + 1)[:, None]
        size = np.maximum.accumulate(np.abs(self.exact.theta).astype(float))
        size = np.maximum(size, np.abs(self.theta))
        return EPS64 * (steps * size + 8 * self.exact.travel.astype(float))


@pytest.fixture(params=CASES.values(), ids=CASES.keys(), scope="module")
def problem(request):
    return Problem(*request.param)


def _run_momentum_form(problem):
    scalars = problem.scalars
    alpha, beta = scalars["alpha"], scalars["beta"]
    theta, m, v = problem.theta, np.zeros(6), np.zeros(6)
    rows = []
    for k, (g, gamma) in enumerate(zip(problem.gradients, problem.gammas, strict=True), 1):
        c = momentum.coefficients(k, gamma=float(gamma), **scalars)
        theta, m, v = momentum.step(theta, m, v, g, c)
        rows.append((theta, momentum.psi_from_momentum(theta, m, alpha=alpha, beta=beta), v))
    return [np.array(column) for column in zip(*rows, strict=True)]


def test_momentum_form_in_float64(problem):
    theta, psi, v = _run_momentum_form(problem)
    assert (distance(theta, problem.exact.theta) <= problem.floor).all()
    # psi = beta m + (1 - alpha beta) theta. The error of 1 - alpha beta is that of the product,
    # epsilon alpha beta, even if the difference is small.
    alpha, beta = problem.scalars["alpha"], problem.scalars["beta"]
    weight = abs(1 - alpha * beta) + alpha * beta + beta
    assert (distance(psi, problem.exact.psi) <= 2 * weight * problem.floor).all()
    # Rounding errors of v decay by sigma per update, as g^2 does: they add up to at most
    # 1 / (1 - sigma) of them, the sum of sigma^j.
    tolerance = 4 * EPS64 / (1 - TAIL["sigma"])
    assert (distance(v, problem.exact.v) <= tolerance * problem.exact.v).all()


def test_algorithm_1_in_float64(problem):
    scalars = problem.scalars
    alpha, beta = scalars["alpha"], scalars["beta"]
    theta, v = problem.theta, np.zeros(6)
    psi = algorithm.initial_psi(theta, alpha=alpha, beta=beta)
    rows = []
    for k, (g, gamma) in enumerate(zip(problem.gradients, problem.gammas, strict=True), 1):
        theta, psi, v = algorithm.step(theta, psi, v, g, k=k, gamma=float(gamma), **scalars)
        rows.append((theta, psi, v))
    theta, psi, v = (np.array(column) for column in zip(*rows, strict=True))
    # A rounding error epsilon |psi| of psi persists for about beta / gamma steps, and in each
    # changes theta by gamma / (beta - gamma) of it: beta / (beta - gamma) in total.
    amplified = 4 * beta / (beta - problem.gammas.max()) * (1 + alpha * beta + beta)
    assert (distance(theta, problem.exact.theta) <= amplified * problem.floor).all()
    assert (distance(psi, problem.exact.psi) <= amplified * problem.floor).all()
    tolerance = 4 * EPS64 / (1 - TAIL["sigma"])
    assert (distance(v, problem.exact.v) <= tolerance * problem.exact.v).all()


def _trajectory(problem, **arguments):
    hyperparameters = Hyperparameters(gamma=1e-3, **problem.scalars)
    schedule = problem.gammas.__getitem__
    return trajectory(
        hyperparameters, problem.theta, problem.gradients, schedule=schedule, **arguments
    )


@pytest.mark.parametrize("digits", [{}, {"digits": 40}], ids=["default", "40"])
def test_trajectory_in_decimals_is_exact_but_for_its_last_rounding(problem, digits):
    run = _trajectory(problem, **digits)
    for actual, reference in zip(run, problem.exact, strict=False):
        # Half an ulp, plus 40 digits minus the few that are lost if beta is close to gamma.
        assert (distance(actual, reference) <= (0.5 + 1e-9) * np.spacing(np.abs(actual))).all()


def test_trajectory_in_float64_is_the_momentum_form(problem):
    run = _trajectory(problem, digits=None)
    for actual, expected in zip(run, _run_momentum_form(problem), strict=True):
        np.testing.assert_array_equal(actual, expected)


def _in_sixty_digits(problem, form):
    """Run the core's code on arrays of mpf."""
    with mp.workdps(DIGITS):
        scalars = {name: mpf(value) for name, value in problem.scalars.items()}
        alpha, beta, sigma = scalars["alpha"], scalars["beta"], scalars["sigma"]
        sqrt = np.frompyfunc(mp.sqrt, 1, 1)
        theta, v = exact(problem.theta), exact(np.zeros(6))
        psi = algorithm.initial_psi(theta, alpha=alpha, beta=beta)
        m = exact(np.zeros(6))
        rows = []
        for k, (g, gamma) in enumerate(zip(problem.gradients, problem.gammas, strict=True), 1):
            g, gamma = exact(g), mpf(float(gamma))
            if form == "momentum":
                # math.log has 16 digits only, so this expm1 ignores its result.
                c = momentum.coefficients(
                    k, gamma=gamma, **scalars, expm1=lambda _, k=k: sigma**k - 1
                )
                theta, m, v = momentum.step(theta, m, v, g, c, sqrt=sqrt)
                psi = momentum.psi_from_momentum(theta, m, alpha=alpha, beta=beta)
            else:
                theta, psi, v = algorithm.step(theta, psi, v, g, k=k, gamma=gamma, **scalars)
            rows.append((theta, psi, v))
        return [np.array(column, object) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("form", ["momentum", "algorithm"])
def test_the_code_itself_in_sixty_digits(problem, form):
    for actual, reference in zip(_in_sixty_digits(problem, form), problem.exact, strict=False):
        # psi is a small difference of numbers as large as theta, if 1 - alpha beta is small.
        scale = np.maximum(np.abs(reference).max(axis=0).astype(float), np.abs(problem.theta))
        # 60 digits, of which 120 steps with beta - gamma = 1e-6 may lose a dozen.
        assert (distance(actual, reference) <= 1e-45 * scale).all()


@pytest.mark.parametrize(("alpha", "beta"), CASES.values(), ids=CASES.keys())
def test_both_conversions_in_sixty_digits(alpha, beta):
    rng = np.random.default_rng(1)
    theta, psi = exact(rng.normal(size=8)), exact(rng.normal(size=8))
    with mp.workdps(DIGITS):
        a, b = mpf(alpha), mpf(beta)
        m = momentum.momentum_from_psi(theta, psi, alpha=a, beta=b)
        back = momentum.psi_from_momentum(theta, m, alpha=a, beta=b)
        for i in range(8):
            assert abs(b * m[i] + theta[i] - a * b * theta[i] - psi[i]) < mpf("1e-57")
            assert abs(back[i] - psi[i]) < mpf("1e-57")


@pytest.mark.parametrize(("alpha", "beta"), CASES.values(), ids=CASES.keys())
def test_both_conversions_in_float64(alpha, beta):
    rng = np.random.default_rng(2)
    theta, m = rng.normal(size=8), 1e-3 * rng.normal(size=8)
    psi = momentum.psi_from_momentum(theta, m, alpha=alpha, beta=beta)
    with mp.workdps(DIGITS):
        expected = mpf(beta) * exact(m) + (1 - mpf(alpha) * mpf(beta)) * exact(theta)
        expected_m = (exact(psi) - (1 - mpf(alpha) * mpf(beta)) * exact(theta)) / mpf(beta)
    tolerance = 4 * EPS64 * (1 + alpha * beta + beta)
    assert (distance(psi, expected) <= tolerance * np.abs(theta)).all()
    back = momentum.momentum_from_psi(theta, psi, alpha=alpha, beta=beta)
    assert (distance(back, expected_m) <= tolerance / beta * (np.abs(theta) + np.abs(psi))).all()
