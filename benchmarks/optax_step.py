"""Time of an optimizer step in optax on the CPU, compiled and donated, beside AdamW's.

Both optimizers run in one process, in turn, step by step; the table has medians, their ratio,
and the size of both states. `python benchmarks/optax_step.py [big] [many] [tiny] [gpt2]`

Or the processor's time that a step takes to be traced, lowered and compiled, for so many arrays of
8 numbers: `python benchmarks/optax_step.py --compile [500] [1000] [2000] [5000]`
"""

import statistics
import sys
import time

import jax
import numpy as np
import optax
import timing
from rich.console import Console
from rich.table import Table
from shapes import SHAPES

from innaprop.optax import innaprop

STEPS = {"big": 30, "many": 60, "tiny": 100, "gpt2": 12}
COMPILATIONS = {"500": 7, "1000": 5, "2000": 3, "5000": 1}
OPTIMIZERS = {"INNAprop": innaprop, "AdamW": optax.adamw}


class Run:
    """Parameters, gradients and the compiled step of one optimizer."""

    def __init__(self, optimizer, shapes):
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
        self.params = [jax.numpy.array(a) for a in arrays]
        self.gradients = [jax.numpy.array(a) for a in arrays]
        self.state = optimizer.init(self.params)
        self.bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))

        def step(params, state, gradients):
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        jax.clear_caches()
        start = time.process_time()
        traced = jax.jit(step, donate_argnums=(0, 1)).trace(self.params, self.state, self.gradients)
        after_trace = time.process_time()
        self._step = traced.lower().compile()
        self.trace_seconds = after_trace - start
        self.compile_seconds = time.process_time() - after_trace

    def step(self):
        self.params, self.state = self._step(self.params, self.state, self.gradients)
        jax.block_until_ready((self.params, self.state))


def steps(names) -> None:
    table = Table("parameters", "INNAprop, ms", "AdamW, ms", "ratio", "compile, s", "state, MB")
    for name in names or SHAPES:
        runs = {key: Run(make(1e-3), SHAPES[name]) for key, make in OPTIMIZERS.items()}
        seconds = timing.medians({key: run.step for key, run in runs.items()}, STEPS[name])
        ours, theirs = runs.values()
        table.add_row(
            name,
            *(f"{median * 1e3:.2f}" for median in seconds.values()),
            f"{seconds['INNAprop'] / seconds['AdamW']:.2f}",
            f"{ours.compile_seconds:.1f} / {theirs.compile_seconds:.1f}",
            f"{ours.bytes / 1e6:.3f} / {theirs.bytes / 1e6:.3f}",
        )
    Console().print(table)


def compilations(counts) -> None:
    table = Table("arrays", "", "trace, s", "lower and compile, s", "together, s")
    for count in counts or COMPILATIONS:
        runs = {key: [] for key in OPTIMIZERS}
        for _ in range(COMPILATIONS.get(count, 3)):
            for key, make in OPTIMIZERS.items():
                run = Run(make(1e-3), [(8,)] * int(count))
                parts = run.trace_seconds, run.compile_seconds
                runs[key].append((*parts, sum(parts)))
        medians = {
            key: [statistics.median(c) for c in zip(*runs[key], strict=True)] for key in runs
        }
        for key, row in medians.items():
            table.add_row(count, key, *(f"{seconds:.2f}" for seconds in row))
        ratios = [ours / theirs for ours, theirs in zip(*medians.values(), strict=True)]
        table.add_row(count, "ratio", *(f"{ratio:.2f}" for ratio in ratios), end_section=True)
    Console().print(table)


def main() -> None:
    match sys.argv[1:]:
        case ["--compile", *counts]:
            compilations(counts)
        case names:
            steps(names)


if __name__ == "__main__":
    main()
