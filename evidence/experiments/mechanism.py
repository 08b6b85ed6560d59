"""Why it does what it does: the stability limit, the curvature term, the ODE, damping."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from evidence.contenders import ACCURATE, ADAMW, FAST, PLAIN
from evidence.experiment import Experiment, Scale, undone
from evidence.experiments import landscapes
from evidence.optimizers import Driver
from evidence.store import Config, Result, Results
from evidence.tasks import Classifier
from evidence.training import fingerprint, short

RATES = (3e-4, 1e-3)
PAIRS = (FAST, PLAIN, ACCURATE)


def _network(scale: Scale) -> Config:
    return {
        "experiment": "mechanism",
        "data": "fashion-mnist",
        "side": 14,
        "model": "mlp",
        "shape": {"width": scale.pick(8, 32), "smooth": True},
        "train": scale.pick(100, 500),
        "held": 100,
        "schedule": "constant",
        **scale.overrides,
    }


def stability_runs(scale: Scale) -> list[Config]:
    """Return full-batch runs whose sharpness is measured on the way.

    With the squared error the curvature stays; with the cross-entropy it vanishes as the images
    are learnt, which one seed shows.
    """
    steps = {3e-4: scale.pick(10, 6000), 1e-3: scale.pick(10, 3000)}
    return [
        {
            **_network(scale),
            **each.options,
            **options,
            "what": "stability",
            "weight_decay": 0.0,
            "warmup": 0.0,
            "batch": scale.pick(100, 500),
            "lr": rate,
            "steps": steps[rate],
            "every": steps[rate] // scale.pick(2, 40),
            "squared": squared,
            "seed": seed,
        }
        for each, options in [*((pair, {}) for pair in PAIRS), (ADAMW, {}), (ADAMW, {"beta1": 0.0})]
        for rate in RATES
        for squared in (True, False)
        for seed in scale.seeds((0, 1, 2) if squared else (0,))
    ]


def curvature_runs(scale: Scale) -> list[Config]:
    """Return runs in which u_k - u_(k-1) is held beside the curvature along the step."""
    return [
        {
            **_network(scale),
            **pair.options,
            "what": "curvature",
            "weight_decay": 0.0,
            "warmup": 0.0,
            "train": scale.pick(100, 2000),
            "batch": batch,
            "lr": 1e-3,
            "steps": scale.pick(12, 1000),
            "every": scale.pick(4, 50),
            "seed": seed,
        }
        for pair in PAIRS
        for batch in scale.pick((100, 16), (2000, 128))
        for seed in scale.seeds((0, 1, 2))
    ]


def plan(scale: Scale, done: Results) -> list[Config]:
    """Return what can be run now."""
    configs = stability_runs(scale) + curvature_runs(scale) + landscapes.runs(scale)
    return undone(configs, done)


def limit(config: Config) -> float:
    """Return the curvature of the scaled gradient that the iterates are stable up to.

    As docs/practice.md derives it, for INNAprop and for AdamW.
    """
    gamma: float = config["lr"]
    if config["optimizer"] == "adamw":
        beta1: float = config["beta1"]
        return 2 * (1 + beta1) / ((1 - beta1) * gamma)
    alpha, beta = config["alpha"], config["beta"]
    return float((4 - 2 * alpha * gamma) / (gamma * (2 * beta - gamma)))


class Scaled:
    """The Hessian of a loss, preconditioned as the optimizer does it.

    Args:
        loss: Gives the loss at the parameters as they are.
        parameters: Of the model.
        driver: Whose second moments scale.
        config: For sigma and eps.
    """

    def __init__(
        self,
        loss: Callable[[], Tensor],
        parameters: list[nn.Parameter],
        driver: Driver,
        config: Config,
    ) -> None:
        self._parameters = parameters
        self.roots = roots(parameters, driver, config)
        self._gradients = torch.autograd.grad(loss(), parameters, create_graph=True)

    def product(self, vectors: list[Tensor]) -> list[Tensor]:
        """Return the Hessian times a vector."""
        return list(
            torch.autograd.grad(self._gradients, self._parameters, vectors, retain_graph=True)
        )

    def sharpness(self, start: list[Tensor], rounds: int) -> tuple[float, list[Tensor]]:
        """Return the largest eigenvalue of D^(-1/2) H D^(-1/2), by power iteration, and its vector.

        It is that of D^(-1) H, which the scaled gradient's iterates meet.
        """
        halves = [root.sqrt() for root in self.roots]
        vector, value = start, 0.0
        for _ in range(rounds):
            pushed = self.product([v / half for v, half in zip(vector, halves, strict=True)])
            vector = [p / half for p, half in zip(pushed, halves, strict=True)]
            value = float(torch.sqrt(sum((v * v).sum() for v in vector)))  # type: ignore[arg-type]
            vector = [v / value for v in vector]
        return value, vector


def roots(parameters: list[nn.Parameter], driver: Driver, config: Config) -> list[Tensor]:
    """Return sqrt(v_hat) + eps of every parameter after the updates that have been made."""
    (optimizer,) = driver.optimizers
    memory = config["beta2"] if config["optimizer"] == "adamw" else config["sigma"]
    found = []
    for parameter in parameters:
        state = optimizer.state[parameter]
        weight = 1 - memory ** float(state["step"])
        found.append((state["exp_avg_sq"] / weight).sqrt() + 1e-8)
    return found


def measure_stability(config: Config) -> Result:
    """Train on the full batch; return loss and sharpness over the limit at every mark."""
    task = Classifier(config)
    driver = Driver(config, task.model)
    parameters = list(task.model.parameters())
    everything = torch.arange(config["train"])
    rng = torch.Generator().manual_seed(0)
    vector = [torch.randn(p.shape, generator=rng) for p in parameters]
    norm = torch.sqrt(torch.stack([(v * v).sum() for v in vector]).sum())
    vector = [v / norm for v in vector]
    marks: list[int] = []
    losses: list[float] = []
    ratios: list[float] = []
    for step in range(config["steps"]):
        loss = task.loss_on(everything)
        loss.backward()
        driver.step(step)
        if (step + 1) % config["every"] == 0:
            scaled = Scaled(lambda: task.loss_on(everything), parameters, driver, config)
            # The vector of the last mark is near already.
            sharpness, vector = scaled.sharpness(vector, 60 if not marks else 15)
            marks.append(step + 1)
            losses.append(short(loss.item()))
            ratios.append(short(sharpness / limit(config)))
    return {
        "marks": marks,
        "training": losses,
        "over the limit": ratios,
        "weights": fingerprint(task.model),
    }


def measure_curvature(config: Config) -> Result:
    """Return cosines between u_k - u_(k-1) and the scaled curvature along the step before.

    ``same batch`` takes both gradients on one batch; ``as stepped`` takes the two batches that
    the optimizer saw, which adds their difference. Where the batch is everything they are equal.
    """
    task = Classifier(config)
    driver = Driver(config, task.model)
    parameters = list(task.model.parameters())
    marks: list[int] = []
    same: list[float] = []
    stepped: list[float] = []
    for step in range(config["steps"]):
        looks = (step + 1) % config["every"] == 0
        if looks:
            old = [p.detach().clone() for p in parameters]
        before = task.next_batch()
        gradients = torch.autograd.grad(task.loss_on(before), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        driver.step(step)
        if not looks:
            continue
        scales = roots(parameters, driver, config)
        moved = [p.detach() - o for p, o in zip(parameters, old, strict=True)]
        scaled = Scaled(lambda b=before: task.loss_on(b), parameters, driver, config)  # type: ignore[misc]
        curved = [p / d for p, d in zip(scaled.product(moved), scales, strict=True)]
        marks.append(step + 1)
        for batch, found in ((before, same), (task.next_batch(), stepped)):
            after = torch.autograd.grad(task.loss_on(batch), parameters)
            change = [(a - g) / d for a, g, d in zip(after, gradients, scales, strict=True)]
            found.append(short(_cosine(change, curved)))
    return {
        "marks": marks,
        "same batch": same,
        "as stepped": stepped,
        "weights": fingerprint(task.model),
    }


def _cosine(ours: list[Tensor], theirs: list[Tensor]) -> float:
    a, b = (torch.cat([part.flatten() for part in parts]) for parts in (ours, theirs))
    return float(nn.functional.cosine_similarity(a, b, 0))


MEASURES: dict[str, Callable[[Config], dict[str, Any]]] = {
    "stability": measure_stability,
    "curvature": measure_curvature,
    **landscapes.MEASURES,
}


def run(config: Config) -> Result:
    """Make one measurement."""
    return MEASURES[config["what"]](config)


EXPERIMENT = Experiment(
    "mechanism",
    "Mechanism",
    "A curvature term without a Hessian, damping by beta, steps that grow or shrink.",
    plan,
    run,
)
