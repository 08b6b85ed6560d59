"""The task in PyTorch."""

from collections.abc import Callable

import torch

from innaprop.torch import INNAprop
from innaprop_conformance.training.task import Task, Training


def train(task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
    """Train with ``innaprop.torch.INNAprop`` or ``torch.optim.AdamW``.

    Args:
        task: What to train.
        optimizer: "INNAprop" or "AdamW".
        progress: Called after every step with the number of steps done.
    """
    first, second = torch.nn.Linear(64, task.hidden), torch.nn.Linear(task.hidden, 10)
    model = torch.nn.Sequential(first, torch.nn.ReLU(), second)
    w1, b1, w2, b2 = (torch.from_numpy(w) for w in task.weights())
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (w1.T, b1, w2.T, b2), strict=True):
            parameter.copy_(value)
    h = task.hyperparameters
    opt: torch.optim.Optimizer
    if optimizer == "INNAprop":
        opt = INNAprop(model.parameters(), h.gamma, h.alpha, h.beta, h.sigma, h.eps, h.weight_decay)
    else:
        opt = torch.optim.AdamW(model.parameters(), h.gamma, (0.9, h.sigma), h.eps, h.weight_decay)
    losses = []
    for done, (x, y) in enumerate(task.batches(), start=1):
        opt.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()  # type: ignore[no-untyped-call]
        opt.step()
        losses.append(loss.item())
        progress(done)
    x, y = task.test
    with torch.no_grad():
        guess = model(torch.from_numpy(x)).argmax(dim=1).numpy()
    return Training(losses, float((guess == y).mean()))
