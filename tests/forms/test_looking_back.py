"""The form for XLA on the CPU, on NumPy's arrays: where it is valid, and that it is exact there."""

import numpy as np
import pytest

from innaprop.forms import Row, looking_back
from innaprop_core import momentum

ALPHAS = [0.0, 0.1, 0.5, 1.0, 1.4, 1.6, 2.0, 3.0, 10.0]
BETAS = [0.1, 0.5, 0.9, 1.0, 2.0]
DECAYS = [1e-6, 0.1, 0.24, 0.26, 0.5, 1.0, 2.0, 10.0]


def remainder(gamma, alpha, beta, weight_decay):
    """Return what an update leaves of the parameter in itself, found by making one."""
    one, none = np.ones(1), np.zeros(1)
    c = momentum.coefficients(
        1, gamma=gamma, alpha=alpha, beta=beta, sigma=0.9, eps=1.0, weight_decay=weight_decay
    )
    return float(momentum.step(one, none, none, none, c)[0][0])


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("beta", BETAS)
def test_valid_at_every_step_size_is_half_left_at_every_step_size(alpha, beta):
    for decay in DECAYS:
        least = min(remainder(x * beta, alpha, beta, decay) for x in np.linspace(0, 1, 501))
        valid = looking_back.is_valid(alpha=alpha, beta=beta, weight_decay=decay)
        if valid:
            assert least >= 0.5 - 1e-12
        # Only a maximum inside the interval is bounded by more than it is.
        elif alpha * beta <= 1.5:
            assert least < 0.5 + 1e-6


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("beta", BETAS)
def test_valid_at_one_step_size_is_half_left_there(alpha, beta):
    for decay in DECAYS:
        for gamma in (0.0, 1e-3, 0.3 * beta, 0.99 * beta):
            left = remainder(gamma, alpha, beta, decay)
            if abs(left - 0.5) > 1e-9:
                assert (left > 0.5) == looking_back.is_valid(
                    gamma=gamma, alpha=alpha, beta=beta, weight_decay=decay
                )


UNKNOWN = object()


@pytest.mark.parametrize("name", ["alpha", "beta", "weight_decay"])
def test_nothing_is_valid_of_which_something_is_not_known(name):
    known = {"gamma": 1e-3, "alpha": 0.1, "beta": 0.9, "weight_decay": 0.01}
    assert looking_back.is_valid(**known)
    assert looking_back.is_valid(**{**known, "gamma": UNKNOWN})
    assert not looking_back.is_valid(**{**known, name: UNKNOWN})
    assert looking_back.is_valid(**{**known, name: UNKNOWN}, decay_momentum=False)


def test_no_decay_is_valid_whatever_else_is_not_known():
    assert looking_back.is_valid(alpha=UNKNOWN, beta=UNKNOWN, weight_decay=0.0)


@pytest.mark.parametrize("decay_momentum", [True, False])
@pytest.mark.parametrize("size", [0, 1, 2, 31, 32, 33, 255, 256, 257])
def test_the_cores_lines_to_the_last_digits_at_the_edge_of_validity(size, decay_momentum):
    """One half is left of the parameter: 0.5 = 0.25 * 2."""
    values = {"gamma": 0.25, "alpha": 2.0, "beta": 0.5, "weight_decay": 2.0}
    assert looking_back.is_valid(**values)
    rng = np.random.default_rng(size)
    theta, m, v = rng.normal(size=size), np.zeros(size), np.zeros(size)
    ours = theta, m, v
    for k in range(1, 30):
        g = rng.normal(size=size) + 0.2
        c = momentum.coefficients(k, **values, sigma=0.999, eps=1e-8, decay_momentum=decay_momentum)
        theta, m, v = momentum.step(theta, m, v, g, c)
        change, *state = looking_back.update(Row(ours[0], g, *ours[1:]), c, np.sqrt)
        ours = ours[0] + change, *state
        for own, core in zip(ours, (theta, m, v), strict=True):
            np.testing.assert_allclose(own, core, rtol=1e-11, atol=1e-13)
