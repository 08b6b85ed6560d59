import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from innaprop_core import Hyperparameters, algorithm, trajectory

STEPS = 300
PAIRS = [(1.0, 1.0), (0.5, 2.0), (4.0, 0.25)]
CASES = [
    {"gamma": 3e-3, "sigma": 0.999, "eps": 1e-8, "weight_decay": 0.01},
    {"gamma": 0.1, "sigma": 0.9, "eps": 0.5, "weight_decay": 0.3},
    {"gamma": 1e-2, "sigma": 0.99, "eps": 1e-2, "weight_decay": 0.0},
]
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=["default", "coarse", "no decay"])
EVERY_PAIR = pytest.mark.parametrize(("alpha", "beta"), PAIRS)


def _problem():
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(3, 4))
    # Some gradients are small, so that eps has an effect.
    scale = np.array([1e-8, 1e-2, 1.0, 1e3])
    return theta, rng.normal(size=(STEPS, 3, 4)) * scale


def _adamw_arguments(beta, case):
    return {
        "learning_rate": case["gamma"] * beta,
        "decay": case["weight_decay"] / beta,
        "sigma": case["sigma"],
        "eps": case["eps"],
    }


def _torch_adamw(theta, gradients, learning_rate, decay, sigma, eps):
    parameter = torch.tensor(theta, requires_grad=True)
    optimizer = torch.optim.AdamW(
        [parameter], lr=learning_rate, betas=(0.0, sigma), eps=eps, weight_decay=decay
    )
    rows = []
    for g in gradients:
        parameter.grad = torch.tensor(g)
        optimizer.step()
        rows.append(parameter.detach().numpy().copy())
    return np.array(rows)


def _optax_adamw(theta, gradients, learning_rate, decay, sigma, eps):
    with jax.enable_x64(True):
        adamw = optax.adamw(
            learning_rate, b1=0.0, b2=sigma, eps=eps, eps_root=0.0, weight_decay=decay
        )
        parameter = jnp.asarray(theta)
        state = adamw.init(parameter)
        update = jax.jit(adamw.update)
        rows = []
        for g in gradients:
            updates, state = update(jnp.asarray(g), state, parameter)
            parameter = optax.apply_updates(parameter, updates)
            rows.append(np.asarray(parameter))
        return np.array(rows)


def _assert_same(actual, expected, theta, tolerance):
    moved = np.abs(expected[-1] - theta).max()
    assert np.abs(actual - expected).max() <= tolerance * moved


@pytest.mark.parametrize("adamw", [_torch_adamw, _optax_adamw])
@EVERY_PAIR
@EVERY_CASE
def test_momentum_form_is_adamw_without_first_moment(adamw, alpha, beta, case):
    theta, gradients = _problem()
    expected = adamw(theta, gradients, **_adamw_arguments(beta, case))
    actual = trajectory(
        Hyperparameters(alpha=alpha, beta=beta, **case), theta, gradients, digits=None
    ).theta
    # optax computes 1 - sigma^k with cancellation, a relative error of 1e-13 in u at k = 1.
    _assert_same(actual, expected, theta, 1e-12)


@EVERY_PAIR
@EVERY_CASE
def test_algorithm_1_is_adamw_without_first_moment(alpha, beta, case):
    theta, gradients = _problem()
    expected = _torch_adamw(theta, gradients, **_adamw_arguments(beta, case))
    start, v, rows = theta, np.zeros_like(theta), []
    psi = algorithm.initial_psi(theta, alpha=alpha, beta=beta)
    for k, g in enumerate(gradients, 1):
        theta, psi, v = algorithm.step(theta, psi, v, g, k=k, alpha=alpha, beta=beta, **case)
        rows.append(theta)
    _assert_same(np.array(rows), expected, start, 1e-12)


def test_a_pair_off_alpha_beta_one_is_not_adamw():
    # Shows that the comparison above can fail.
    theta, gradients = _problem()
    case = CASES[0]
    expected = _torch_adamw(theta, gradients, **_adamw_arguments(1.0, case))
    hyperparameters = Hyperparameters(alpha=1.001, beta=1.0, **case)
    actual = trajectory(hyperparameters, theta, gradients, digits=None).theta
    moved = np.abs(expected[-1] - theta).max()
    assert np.abs(actual - expected).max() > 1e-9 * moved
