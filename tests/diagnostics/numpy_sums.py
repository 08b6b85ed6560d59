"""What a measured update must say, in float64 and in plain NumPy, from the core's own step."""

import numpy as np

from innaprop_core import Hyperparameters, momentum


class Alongside:
    """The core's update of some parameters in float64, which says what each step will be."""

    def __init__(self, thetas, **values):
        self.h = Hyperparameters(**values)
        self.thetas = [np.asarray(theta, np.float64) for theta in thetas]
        self.ms = [np.zeros_like(theta) for theta in self.thetas]
        self.vs = [np.zeros_like(theta) for theta in self.thetas]
        self.k = 0

    def step(self, gradients):
        """Make an update, and return what must have been measured of it."""
        self.k += 1
        h, found = self.h, []
        c = momentum.coefficients(
            self.k,
            gamma=h.gamma,
            alpha=h.alpha,
            beta=h.beta,
            sigma=h.sigma,
            eps=h.eps,
            weight_decay=h.weight_decay,
            decay_momentum=h.decay_momentum,
        )
        for i, g in enumerate(gradients):
            g = np.asarray(g, np.float64)
            old, m = self.thetas[i], self.ms[i]
            self.thetas[i], self.ms[i], self.vs[i] = momentum.step(old, m, self.vs[i], g, c)
            root = np.sqrt(self.vs[i] / (1 - h.sigma**self.k))
            decay = h.weight_decay * (1 - h.alpha * h.beta) / h.beta if h.decay_momentum else 0.0
            pushed = m + h.gamma * decay * old
            found.append((old, g, old - self.thetas[i], pushed, g / (root + h.eps), root))
        columns = zip(*found, strict=True)
        theta, g, update, pushed, u, root = (
            np.concatenate([a.ravel() for a in column]) for column in columns
        )
        viscous = np.sign(1 - h.alpha * h.beta)
        return {
            "parameter_norm": np.linalg.norm(theta),
            "gradient_norm": np.linalg.norm(g),
            "update_norm": np.linalg.norm(update),
            "update_over_parameter": np.linalg.norm(update) / np.linalg.norm(theta),
            "momentum_share": h.gamma * (pushed @ update) / (update @ update),
            "agreement": viscous
            * (pushed @ u)
            / max(np.linalg.norm(pushed) * np.linalg.norm(u), 1e-300),
            "scaled_gradient": np.sqrt((u**2).sum() / (g != 0).sum()),
            "step_growth": np.linalg.norm(update) / (h.gamma * h.beta * np.linalg.norm(u)),
            "at_floor": ((root < h.eps) & (g != 0)).sum() / (g != 0).sum(),
            "stale": (np.abs(g) <= 1e-3 * root).mean(),
            "overflow": 0.0,
            "decay_driven": (
                np.abs(h.gamma * decay * theta) > np.abs(h.gamma * (1 - h.alpha * h.beta) * u)
            ).mean(),
        }


def assert_measured(group, expected, rtol=2e-4):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(group, name), value, rtol=rtol, atol=1e-6, err_msg=name)


def some_gradients(shapes, steps, seed=0):
    """Gradients of several sizes, with elements that are idle, stale and tiny."""
    rng = np.random.default_rng(seed)
    for k in range(steps):
        gradients = [rng.normal(size=shape) + 0.3 for shape in shapes]
        gradients[0].flat[0] = 0.0
        gradients[0].flat[1] = 1.0 if k == 0 else 1e-6
        gradients[0].flat[2] = 1e-9
        yield gradients


SHAPES = [(4, 3), (5,), ()]
VALUES = [
    {"gamma": 1e-2, "alpha": 0.1, "beta": 0.9, "weight_decay": 0.1},
    {"gamma": 3e-3, "alpha": 2.0, "beta": 2.0, "sigma": 0.9, "eps": 1e-3, "weight_decay": 0.0},
    {"gamma": 1e-2, "alpha": 0.5, "beta": 1.0, "weight_decay": 0.5, "decay_momentum": False},
]
