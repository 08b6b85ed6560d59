"""Two parameters: damping in the DIN equation, the ODE behind the iterates, plain minimising."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evidence.experiment import Scale
from evidence.store import Config, Result
from evidence.training import short
from innaprop_core import Hyperparameters, INNAprop

Array = NDArray[np.float64]
Gradient = Callable[[Array], Array]


def rosenbrock(x: Array) -> float:
    """Return (1 - a)^2 + 100 (b - a^2)^2, which is smallest at (1, 1)."""
    return float((1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)


def _rosenbrock_gradient(x: Array) -> Array:
    inner = x[1] - x[0] ** 2
    return np.array([-2 * (1 - x[0]) - 400 * x[0] * inner, 200 * inner])


def _rosenbrock_hessian(x: Array) -> Array:
    return np.array([[2 - 400 * x[1] + 1200 * x[0] ** 2, -400 * x[0]], [-400 * x[0], 200.0]])


_TURN = np.array([[0.8, -0.6], [0.6, 0.8]])
_BOWL = _TURN @ np.diag([1.0, 1e4]) @ _TURN.T
"""Turned, or else a rate for each axis would be all that it takes."""


def quadratic(x: Array) -> float:
    """Return a bowl whose curvatures are 1 and 10,000, along neither axis."""
    return float(0.5 * x @ _BOWL @ x)


def _quadratic_gradient(x: Array) -> Array:
    return np.asarray(_BOWL @ x)


LANDSCAPES: dict[str, tuple[Callable[[Array], float], Gradient, tuple[float, float]]] = {
    "Rosenbrock": (rosenbrock, _rosenbrock_gradient, (-1.5, 1.5)),
    "quadratic": (quadratic, _quadratic_gradient, (1.0, 1.0)),
}
MINIMISERS = ("Adam", "heavy ball", "(0.1, 0.9)", "(1, 1)", "(2, 2)")
GAMMAS = (0.1, 0.05, 0.025, 0.0125, 0.00625)


def runs(scale: Scale) -> list[Config]:
    """Return all that is measured on two parameters; nothing of it is random."""
    made: list[Config] = [
        {"what": "damping", "alpha": 0.1, "beta": beta, "until": scale.pick(1.0, 30.0)}
        for beta in (0.0, 0.1, 0.3, 0.9)
    ]
    made += [
        {
            "what": "ode",
            "alpha": alpha,
            "beta": beta,
            "eps": 0.3,
            "until": 4.0,
            "gammas": list(GAMMAS),
        }
        for alpha, beta in ((0.1, 0.9), (1.0, 1.0), (2.0, 2.0))
    ]
    made += [
        {
            "what": "minimise",
            "landscape": landscape,
            "optimizer": optimizer,
            "steps": scale.pick(50, 1000),
        }
        for landscape in LANDSCAPES
        for optimizer in MINIMISERS
    ]
    made += [
        {"what": "step lengths", "alpha": alpha, "beta": beta, "lr": 1e-3, "steps": 20_000}
        for alpha, beta in ((0.1, 0.9), (1.0, 1.0), (2.0, 2.0))
    ]
    return [{"experiment": "mechanism", **config} for config in made]


def damping(config: Config) -> Result:
    """Return the path of x'' + alpha x' + beta H(x) x' + grad f(x) = 0 on Rosenbrock.

    A reversal is a change of sign of the velocity across the valley, along the gradient of
    b - a^2.
    """
    from scipy.integrate import solve_ivp

    alpha, beta = config["alpha"], config["beta"]

    def motion(_: float, state: Array) -> Array:
        x, speed = state[:2], state[2:]
        force = alpha * speed + beta * _rosenbrock_hessian(x) @ speed + _rosenbrock_gradient(x)
        return np.concatenate([speed, -force])

    times = np.linspace(0, config["until"], 30_001)
    start = [-1.5, 1.5, 0.0, 0.0]
    found = solve_ivp(motion, (0, config["until"]), start, "LSODA", times, rtol=1e-9, atol=1e-10).y
    across = found[3] - 2 * found[0] * found[2]
    signs = np.sign(across[np.abs(across) > 1e-6])
    return {
        "reversals": int((np.diff(signs) != 0).sum()),
        "path": [[short(v) for v in axis] for axis in found[:2, ::20].tolist()],
        "end": short(rosenbrock(found[:2, -1])),
    }


FORGETTING = 1.0
"""c: the second moment forgets at this rate, so that it has a limit, sigma = 1 - c gamma."""


def ode(config: Config) -> Result:
    """Return how far the iterates are from the ODE of the method at shrinking step sizes.

    theta' = -(m + beta u), m' = -alpha m + (1 - alpha beta) u, with u = g / sqrt(v_hat) and
    v_hat' = c (g^2 - v_hat) / (1 - exp(-c t)), on a bowl with curvatures 1 and 5 that is bent.
    """
    from scipy.integrate import solve_ivp

    alpha, beta, eps = config["alpha"], config["beta"], config["eps"]
    until = config["until"]

    def gradient(x: Array) -> Array:
        force = np.array([x[0] + 0.5 * x[1], 5 * x[1] + 0.5 * x[0]])
        return np.asarray(force / np.sqrt(1 + x @ x))

    def motion(time: float, state: Array) -> Array:
        theta, m, v = state[:2], state[2:4], state[4:]
        g = gradient(theta)
        u = g / (np.sqrt(v) + eps)
        fresh = FORGETTING / -math.expm1(-FORGETTING * time)
        return np.concatenate(
            [-(m + beta * u), -alpha * m + (1 - alpha * beta) * u, fresh * (g * g - v)]
        )

    start = np.array([2.0, 1.0])
    first = gradient(start)
    state = np.concatenate([start, np.zeros(2), first * first])
    exact = solve_ivp(
        motion, (1e-9, until), state, "LSODA", rtol=1e-10, atol=1e-12, dense_output=True
    ).sol
    errors, paths = [], []
    for gamma in config["gammas"]:
        scalars = Hyperparameters(
            gamma, alpha, beta, sigma=1 - FORGETTING * gamma, eps=eps, weight_decay=0.0
        )
        optimizer = INNAprop([start.copy()], scalars)
        path = [start]
        for _ in range(round(until / gamma)):
            path.append(optimizer.step([gradient(optimizer.parameters[0])])[0])
        times = np.maximum(gamma * np.arange(len(path)), 1e-9)
        walked = np.array(path)
        errors.append(short(float(np.abs(walked - exact(times)[:2].T).max())))
        every = max(1, len(path) // 200)
        paths.append([[short(v) for v in axis] for axis in walked[::every].T.tolist()])
    times = np.linspace(1e-9, until, 300)
    return {
        "errors": errors,
        "paths": [paths[0], paths[-1]],
        "exact": [[short(v) for v in axis] for axis in exact(times)[:2].tolist()],
    }


def minimise(config: Config) -> Result:
    """Return the lowest value that is reached at the best of many constant rates.

    Adam and the heavy ball may choose their momentum as well, from 0.9 and 0.98.
    """
    value, gradient, start = LANDSCAPES[config["landscape"]]
    best: dict[str, Any] = {"value": math.inf}
    name, steps = config["optimizer"], config["steps"]
    for momentum in (0.9, 0.98) if name in ("Adam", "heavy ball") else (0.0,):
        for rate in np.geomspace(1e-5, 0.5, 40).tolist():
            with np.errstate(all="ignore"):
                end = _walk(name, gradient, np.array(start), rate, momentum, steps)
                reached = value(end)
            if reached < best["value"]:
                best = {"value": short(reached), "rate": short(rate)}
    return best


def _walk(
    name: str, gradient: Gradient, x: Array, rate: float, momentum: float, steps: int
) -> Array:
    if name == "heavy ball":
        speed = np.zeros(2)
        for _ in range(steps):
            speed = momentum * speed - rate * gradient(x)
            x = x + speed
        return x
    if name == "Adam":
        m, v = np.zeros(2), np.zeros(2)
        for k in range(1, steps + 1):
            g = gradient(x)
            m, v = momentum * m + (1 - momentum) * g, 0.999 * v + 0.001 * g * g
            x = x - rate * (m / (1 - momentum**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
        return x
    alpha, beta = map(float, name.strip("()").split(","))
    optimizer = INNAprop([x], Hyperparameters(rate, alpha, beta, weight_decay=0.0))
    for _ in range(steps):
        optimizer.step([gradient(optimizer.parameters[0])])
    return np.asarray(optimizer.parameters[0])


def step_lengths(config: Config) -> Result:
    """Return the steps under a constant u, and how far they are from what was derived."""
    gamma, alpha, beta = config["lr"], config["alpha"], config["beta"]
    scalars = Hyperparameters(gamma, alpha, beta, eps=0.0, weight_decay=0.0)
    optimizer = INNAprop([np.zeros(1)], scalars)
    path = [0.0] + [float(optimizer.step([np.ones(1)])[0][0]) for _ in range(config["steps"])]
    lengths = -np.diff(path)
    k = np.arange(config["steps"])
    derived = gamma * (1 / alpha + (beta - 1 / alpha) * (1 - alpha * gamma) ** k)
    return {
        "first": short(float(lengths[0] / gamma)),
        "last": short(float(lengths[-1] / gamma)),
        "off by": short(float(np.abs(lengths / derived - 1).max())),
    }


MEASURES: dict[str, Callable[[Config], Result]] = {
    "damping": damping,
    "ode": ode,
    "minimise": minimise,
    "step lengths": step_lengths,
}
