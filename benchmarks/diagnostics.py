"""What diagnostics cost: steps with a record, between records, and without.

``python benchmarks/diagnostics.py [--device cuda] [--cpu-time]``. Each row is one kind of step; the
last column is what a step takes on average with a record every 100 steps, over one without
diagnostics, less one.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from rich.console import Console
from rich.table import Table
from shapes import SHAPES
from timing import medians

import innaprop.optax
from innaprop.diagnostics import Diagnostics
from innaprop.torch import Diagnostics as TorchDiagnostics
from innaprop.torch import INNAprop

Steps = dict[str, Callable[[], object]]
EVERY = 100
WIDTHS = (784, 512, 512, 10)
BATCH = 128


def torch_steps(device: str, params: list[Any], gradients: Callable[[], None]) -> Steps:
    """Return a step without diagnostics, one between two records, and one with a record.

    All are of the same parameters: the memory that they find in the cache is the same.
    """
    optimizers = {name: INNAprop(params, lr=1e-4) for name in ("off", "between", "record")}
    # The first step of both is recorded, and is not counted.
    TorchDiagnostics(optimizers["between"], every=10**9, warn=False)
    TorchDiagnostics(optimizers["record"], every=1, warn=False)

    def step(name: str) -> None:
        gradients()
        optimizers[name].step()
        if device == "cuda":
            torch.cuda.synchronize()

    return {name: lambda name=name: step(name) for name in optimizers}


def of_torch(device: str) -> Iterator[tuple[str, Steps]]:
    for name in ("many", "tiny"):
        params = [torch.nn.Parameter(torch.randn(s, device=device)) for s in SHAPES[name]]
        for p in params:
            p.grad = torch.randn_like(p)
        yield f"PyTorch, the update alone, {name}", torch_steps(device, params, lambda: None)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(WIDTHS):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1]).to(device)
    x = torch.randn(BATCH, WIDTHS[0], device=device)
    y = torch.randint(WIDTHS[-1], (BATCH,), device=device)

    def gradients() -> None:
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()

    steps = torch_steps(device, list(model.parameters()), gradients)
    yield f"PyTorch, MLP, batch of {BATCH}", steps


def of_optax() -> Iterator[tuple[str, Steps]]:
    rng = np.random.default_rng(0)
    params = [
        (jnp.asarray(rng.normal(size=of) * of[0] ** -0.5, jnp.float32), jnp.zeros(of[1]))
        for of in pairwise(WIDTHS)
    ]
    x = jnp.asarray(rng.normal(size=(BATCH, WIDTHS[0])), jnp.float32)
    y = jnp.asarray(rng.integers(WIDTHS[-1], size=BATCH))
    optimizer = innaprop.optax.innaprop(1e-4)

    def loss_of(params: Any) -> Any:
        hidden = x
        for i, (w, b) in enumerate(params):
            hidden = hidden @ w + b if i + 1 == len(params) else jax.nn.relu(hidden @ w + b)
        return optax.losses.softmax_cross_entropy_with_integer_labels(hidden, y).mean()

    def made(measures: bool) -> Callable[[], object]:
        @jax.jit
        def step(params: Any, state: Any) -> Any:
            gradients = jax.grad(loss_of)(params)
            measured = innaprop.optax.measure(gradients, state, params, 1e-4) if measures else None
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state, measured

        state, diagnostics = optimizer.init(params), Diagnostics(warn=False)

        def run() -> None:
            *_, measured = jax.block_until_ready(step(params, state))
            if measures:
                diagnostics.record(len(diagnostics.records) + 1, measured)

        return run

    # Between records the step is the one without diagnostics.
    plain = made(False)
    yield (
        f"optax, MLP, batch of {BATCH}",
        {"off": plain, "between": plain, "record": made(True)},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What diagnostics cost.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, default=30, help="timed steps of each kind")
    parser.add_argument("--cpu-time", action="store_true", help="count this process alone")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    table = Table("step", "ms", "between records", "with a record", f"every {EVERY}")
    for name, steps in (*of_torch(arguments.device), *of_optax()):
        seconds = medians(steps, arguments.steps, clock)
        off, between, record = (seconds[key] for key in ("off", "between", "record"))
        mean = ((EVERY - 1) * between + record) / EVERY
        table.add_row(
            name,
            f"{off * 1e3:.2f}",
            f"{between / off:.3f}",
            f"{record / off:.2f}",
            f"{mean / off - 1:+.1%}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
