"""The optimizers that are compared, made from a configuration, driven by one schedule."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from evidence.store import Config
from innaprop.torch import INNAprop

Parameters = list[nn.Parameter]


def rate_factor(config: Config, step: int) -> float:
    """Return the share of the learning rate that update ``step`` (from 0) is made with.

    A linear warm-up over the share ``warmup`` of the run, then what ``schedule`` says: ``cosine``
    to ``floor`` (0 where there is none), or ``constant``.
    """
    steps: int = config["steps"]
    warm: int = round(config.get("warmup", 0.0) * steps)
    if step < warm:
        return float(step + 1) / (warm + 1)
    if config["schedule"] == "constant":
        return 1.0
    floor: float = config.get("floor", 0.0)
    done: float = (step - warm) / (steps - warm)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def time_of(config: Config) -> float:
    """Return T, the sum of the rates of a run."""
    return float(config["lr"] * sum(rate_factor(config, step) for step in range(config["steps"])))


class Driver:
    """One optimizer or two, stepped and scheduled as one.

    Args:
        config: ``optimizer`` and ``lr``, ``schedule`` and ``warmup``, the optimizer's options.
        model: Whose parameters are updated, those that want a gradient.
    """

    def __init__(self, config: Config, model: nn.Module) -> None:
        self._config = config
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizers = MAKERS[config["optimizer"]](config, parameters)
        self._rates = [
            [float(group["lr"]) for group in optimizer.param_groups]
            for optimizer in self.optimizers
        ]
        self._schedule_free = config["optimizer"] == "schedule-free"
        if self._schedule_free:
            self._mode(training=True)

    def second_order(self, step: int) -> bool:
        """Return whether the backward pass of an update is to be differentiated once more."""
        if self._config["optimizer"] != "sophia":
            return False
        return step % int(self._config.get("update_period", 10)) == 0

    def step(self, step: int) -> None:
        """Make update ``step`` (from 0), and drop the gradients."""
        factor = rate_factor(self._config, step)
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Hold the weights that are to be judged, where they are not those that are trained."""
        if self._schedule_free:
            self._mode(training=False)
        yield
        if self._schedule_free:
            self._mode(training=True)

    def _mode(self, *, training: bool) -> None:
        for optimizer in self.optimizers:
            mode: Any = optimizer
            mode.train() if training else mode.eval()


def _adamw(config: Config, parameters: Parameters) -> list[torch.optim.Optimizer]:
    return [
        torch.optim.AdamW(
            parameters,
            lr=config["lr"],
            betas=(config["beta1"], config["beta2"]),
            eps=config.get("eps", 1e-8),
            weight_decay=config["weight_decay"],
            fused=True,
        )
    ]


def _innaprop(config: Config, parameters: Parameters) -> list[torch.optim.Optimizer]:
    alpha, beta = config["alpha"], config["beta"]
    if "path" in config:
        alpha, beta = pair_schedules(config)
    return [
        INNAprop(
            parameters,
            lr=config["lr"],
            alpha=alpha,
            beta=beta,
            sigma=config["sigma"],
            eps=config.get("eps", 1e-8),
            weight_decay=config["weight_decay"],
            decay_momentum=config.get("decay_momentum", True),
            state_bits=config.get("state_bits", 32),
        )
    ]


SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda done: done,
    "late": lambda done: max(0.0, 2 * done - 1),
    "jump": lambda done: float(done >= 0.3),
}
"""How far alpha and beta are on their way, of how far the run is."""


def pair_schedules(config: Config) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """Return alpha and beta as functions of the number of the update, from one pair to another."""
    start, end = (config["alpha"], config["beta"]), config["to"]
    shape, steps = SHAPES[config["path"]], config["steps"]

    def between(i: int) -> Callable[[int], float]:
        return lambda step: start[i] + (end[i] - start[i]) * shape(min(1.0, float(step) / steps))

    return between(0), between(1)


def _adafactor(config: Config, parameters: Parameters) -> list[torch.optim.Optimizer]:
    return [
        torch.optim.Adafactor(
            parameters,
            lr=config["lr"],
            beta2_decay=config["beta2_decay"],
            d=config["d"],
            weight_decay=config["weight_decay"],
        )
    ]


def _muon(config: Config, parameters: Parameters) -> list[torch.optim.Optimizer]:
    """Matrices go to Muon at AdamW's step lengths, what is left to AdamW."""
    matrices = [p for p in parameters if p.ndim == 2]
    rest = [p for p in parameters if p.ndim != 2]
    muon = torch.optim.Muon(
        matrices,
        lr=config["lr"],
        momentum=config["momentum"],
        weight_decay=config["weight_decay"],
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(
        rest, lr=config["lr"], betas=(0.9, config["beta2"]), weight_decay=config["weight_decay"]
    )
    return [muon, adamw]


def _schedule_free(config: Config, parameters: Parameters) -> list[torch.optim.Optimizer]:
    from schedulefree import AdamWScheduleFree

    return [
        AdamWScheduleFree(
            parameters,
            lr=config["lr"],
            betas=(config["beta1"], config["beta2"]),
            weight_decay=config["weight_decay"],
        )
    ]


def _from_collection(config: Config, parameters: Parameters) -> list[torch.optim.Optimizer]:
    import pytorch_optimizer

    lr, decay, betas = config["lr"], config["weight_decay"], (config["beta1"], config["beta2"])
    made: torch.optim.Optimizer
    if config["optimizer"] == "lion":
        made = pytorch_optimizer.Lion(parameters, lr=lr, betas=betas, weight_decay=decay)
    elif config["optimizer"] == "soap":
        made = pytorch_optimizer.SOAP(
            parameters,
            lr=lr,
            betas=betas,
            weight_decay=decay,
            precondition_frequency=config["precondition_frequency"],
        )
    else:
        made = pytorch_optimizer.SophiaH(
            parameters,
            lr=lr,
            betas=betas,
            weight_decay=decay,
            update_period=config["update_period"],
            p=config["clip_update"],
        )
    return [made]


MAKERS: dict[str, Callable[[Config, Parameters], list[torch.optim.Optimizer]]] = {
    "adafactor": _adafactor,
    "adamw": _adamw,
    "innaprop": _innaprop,
    "lion": _from_collection,
    "muon": _muon,
    "schedule-free": _schedule_free,
    "soap": _from_collection,
    "sophia": _from_collection,
}


def backward(loss: Tensor, *, second_order: bool) -> None:
    """Fill in the gradients, with their own graph where ``second_order`` asks for it."""
    if not second_order:
        loss.backward()
        return
    with warnings.catch_warnings():
        # That the graph holds on to itself is undone by dropping the gradients.
        warnings.filterwarnings("ignore", message="Using backward.. with create_graph")
        loss.backward(create_graph=True)
