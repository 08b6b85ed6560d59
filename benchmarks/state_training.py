"""Losses of the demonstration's network with a state of 32 bits and of 16, over seeds.

The network and its digits are those of ``innaprop_conformance.training``, for 2,000 updates. A seed
is one of the split, the initial weights, the batches and the rounding.
`python benchmarks/state_training.py [--seeds N]`
"""

import argparse
import statistics

import torch
from rich.console import Console
from rich.table import Table

from innaprop import BEST_ACCURACY, FAST_TRAINING
from innaprop.torch import INNAprop
from innaprop_conformance.training.task import Task

PRESETS = {"fast": FAST_TRAINING, "accurate": BEST_ACCURACY}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def train(task: Task, dtype: torch.dtype, **options) -> tuple[float, float]:
    """Return the mean loss of the last 100 batches, and the test accuracy."""
    model = torch.nn.Sequential(
        torch.nn.Linear(64, task.hidden), torch.nn.ReLU(), torch.nn.Linear(task.hidden, 10)
    )
    w1, b1, w2, b2 = (torch.from_numpy(w) for w in task.weights())
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (w1.T, b1, w2.T, b2), strict=True):
            parameter.copy_(value)
    model.to(dtype)
    optimizer = INNAprop(model.parameters(), **options)
    losses = []
    for x, y in task.batches():
        optimizer.zero_grad()
        logits = model(torch.from_numpy(x).to(dtype)).float()
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    x, y = task.test
    with torch.no_grad():
        guess = model(torch.from_numpy(x).to(dtype)).argmax(dim=1).numpy()
    return statistics.mean(losses[-100:]), float((guess == y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Losses with a state of 32 bits and of 16.")
    parser.add_argument("--seeds", type=int, default=8)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    table = Table("preset, dtype", "bits", "loss", "+-", "test accuracy, %", "+-")
    for preset, dampings in PRESETS.items():
        for name, dtype in DTYPES.items():
            for bits in (32, 16):
                runs = [
                    train(
                        Task(seed=seed, steps=2000), dtype, state_bits=bits, seed=seed, **dampings
                    )
                    for seed in seeds
                ]
                losses, accuracies = zip(*runs, strict=True)
                table.add_row(
                    f"{preset}, {name}",
                    f"{bits}",
                    f"{statistics.mean(losses):.5f}",
                    f"{statistics.stdev(losses):.5f}",
                    f"{100 * statistics.mean(accuracies):.2f}",
                    f"{100 * statistics.stdev(accuracies):.2f}",
                )
    Console().print(table)


if __name__ == "__main__":
    main()
