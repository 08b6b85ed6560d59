"""What the mechanism's measurements measure."""

import math

import numpy as np
import pytest
import torch

from evidence.contenders import ACCURATE, ADAMW, FAST
from evidence.experiments import landscapes, mechanism
from evidence.optimizers import Driver
from evidence.training import short


def test_sharpness_is_the_largest_eigenvalue_of_the_preconditioned_hessian():
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=rng)
    hessian = root @ root.T
    weight = torch.nn.Parameter(torch.randn(6, generator=rng))
    model = torch.nn.ParameterList([weight])
    config = {**FAST.options, "lr": 1e-3, "steps": 10, "schedule": "constant"}
    driver = Driver(config, model)

    def loss():
        return 0.5 * weight @ hessian @ weight

    loss().backward()
    driver.step(0)
    scaled = mechanism.Scaled(loss, [weight], driver, config)
    value, _ = scaled.sharpness([torch.ones(6)], 300)
    inverse = torch.diag(1 / scaled.roots[0])
    expected = torch.linalg.eigvals((inverse @ hessian).detach()).real.max()
    assert value == pytest.approx(float(expected), rel=1e-4)


def test_the_limits_are_those_of_the_practice_page():
    config = {"lr": 1e-3}
    assert mechanism.limit({**config, **FAST.options}) == pytest.approx(2.2e3, rel=0.02)
    assert mechanism.limit({**config, **ACCURATE.options}) == pytest.approx(1e3, rel=0.02)
    assert mechanism.limit({**config, **ADAMW.options}) == pytest.approx(38e3)


@pytest.mark.parametrize("pair", [(0.1, 0.9), (2.0, 2.0)])
def test_the_iterates_follow_the_ode_to_first_order(pair):
    config = {"alpha": pair[0], "beta": pair[1], "eps": 0.3, "until": 2.0, "gammas": [0.02, 0.01]}
    coarse, fine = landscapes.ode(config)["errors"]
    assert math.log2(coarse / fine) == pytest.approx(1, abs=0.1)


def test_beta_damps():
    free, damped = (
        landscapes.damping({"alpha": 0.1, "beta": beta, "until": 5.0})["reversals"]
        for beta in (0.0, 0.9)
    )
    assert damped < free / 5


@pytest.mark.parametrize("name", list(landscapes.LANDSCAPES))
def test_the_gradients_are_those_of_the_landscapes(name):
    value, gradient, _ = landscapes.LANDSCAPES[name]
    at, h = np.array([0.3, -0.7]), 1e-6
    steps = h * np.eye(2)
    numeric = [(value(at + s) - value(at - s)) / (2 * h) for s in steps]
    np.testing.assert_allclose(gradient(at), numeric, rtol=1e-6)


def test_step_lengths_are_as_derived():
    found = landscapes.step_lengths({"lr": 1e-3, "alpha": 2.0, "beta": 2.0, "steps": 3000})
    assert found["first"] == pytest.approx(2.0)
    assert found["off by"] < 1e-9


def test_six_digits_are_kept():
    assert short(1.23456789) == 1.23457
