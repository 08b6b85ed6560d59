"""One run: train a task as its configuration says, and tell how it went."""

import hashlib
import math
from typing import Protocol

import torch
from torch import Tensor, nn

from evidence.optimizers import Driver, backward, time_of
from evidence.store import Config, Result

MARKS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0)
"""At which shares of a run it is looked at."""
SPARSE = (0.1, 0.3, 1.0)
"""The same for runs that only choose."""

Scores = dict[str, float]


class Task(Protocol):
    """What is learnt: a model, its batches, and how well it does."""

    model: nn.Module

    def loss(self, step: int) -> Tensor:
        """Return the loss on the batch of update ``step``."""

    def score(self, split: str) -> Scores:
        """Return the loss, and what else counts, on ``validation``, or on the whole of ``test``."""


def train(task: Task, config: Config) -> Result:
    """Return the curves of a run, its T, and the hash of its last weights.

    The configuration says ``steps`` and ``lr``; ``clip`` limits the gradient's norm; ``test``
    asks for the scores on the test set at the end. The training loss at a mark is the mean over
    the batches since the mark before.
    """
    driver = Driver(config, task.model)
    steps: int = config["steps"]
    shares = MARKS if config.get("test") else SPARSE
    marks = sorted({max(1, round(share * steps)) for share in shares})
    training: list[float] = []
    scores: list[Scores] = []
    since: list[Tensor] = []
    parameters = [p for p in task.model.parameters() if p.requires_grad]
    for step in range(steps):
        loss = task.loss(step)
        backward(loss, second_order=driver.second_order(step))
        if "clip" in config:
            nn.utils.clip_grad_norm_(parameters, config["clip"])
        driver.step(step)
        since.append(loss.detach())
        if step + 1 in marks:
            training.append(short(torch.stack(since).float().mean().item()))
            since.clear()
            if not math.isfinite(training[-1]):
                return {"diverged": step + 1}
            with driver.evaluating():
                scores.append(rounded(task.score("validation")))
    result: Result = {
        "marks": marks,
        "training": training,
        "validation": {name: [each[name] for each in scores] for name in scores[0]},
        "time": short(time_of(config)),
        "weights": fingerprint(task.model),
    }
    if not all(math.isfinite(value) for each in scores for value in each.values()):
        return {"diverged": steps}
    if config.get("test"):
        with driver.evaluating():
            result["test"] = rounded(task.score("test"))
    return result


def short(number: float) -> float:
    """Return a number to six digits, which is what result files keep."""
    return float(f"{number:.6g}")


def rounded(scores: Scores) -> Scores:
    """Return scores to six digits."""
    return {name: short(value) for name, value in scores.items()}


def fingerprint(model: nn.Module) -> str:
    """Return a hash of all weights, by which two runs are told to be the same bit for bit."""
    digest = hashlib.sha256()
    for weight in model.parameters():
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
