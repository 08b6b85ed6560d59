"""Time and memory of an optimizer step in PyTorch, beside AdamW's of the same kind.

"default" is a step of whoever sets no option; "changing" is a fused one where another half of the
parameters has gradients at every step, as with LayerDrop or in a mixture of experts.

All optimizers run in one process, in turn, on the same parameters and gradients, a step at a
time, or some on a GPU, where the host goes ahead as it does in training; times are medians.
`python benchmarks/torch_step.py [--device cuda] [--steps N] [NAME ...]`

Columns: the time; what it is of a copy that moves 28 bytes a parameter (what an update has to:
parameter, gradient and two states read, three of them written), and of AdamW of the same kind;
bytes a parameter that a step moves and that the state holds; the most that a step allocates, in
tensors of all parameters' size; the time of the first step.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timing
import torch
from rich.console import Console
from rich.table import Column, Table
from shapes import OF_A_GPU, SHAPES
from torch import Tensor
from traffic import Traffic, held

from innaprop.forms import Row, c, foreach, single_tensor, traced
from innaprop.torch import INNAprop

KINDS = {
    "default": {},
    "fused": {"fused": True},
    "changing": {"fused": True},
    "foreach": {"foreach": True},
    "single": {"foreach": False},
}
UPDATE_BYTES = 28
COPIES = 1 << 28
"""Numbers that a copy moves at a time."""
TOO_LARGE = {"billion"}
"""Shapes for whose copies in the other kinds a GPU's memory is too small."""
STEPS = {"big": 20, "gpt2": 12, "many": 60, "tiny": 100, "billion": 20}


class OneTensorAtATime(INNAprop):
    """INNAprop as the core writes it, run operation by operation on one tensor after another."""

    FORM, bucket_key, Layout = (
        single_tensor.FORM,
        staticmethod(single_tensor.bucket_key),
        foreach.Layout,
    )

    def _gather(self, active):
        gathered, plan = super()._gather(active)
        for call in plan.calls:
            call.form = self
        return gathered, plan

    @staticmethod
    def update(rows, layout, sets, which, steps, skip=None):
        for row, place, step in zip(map(Row, *rows), which, steps, strict=True):
            step.add_(1.0)
            traced.update([row], *sets[place])


class Run:
    """One optimizer in the benchmark."""

    def __init__(
        self, make: Callable[..., torch.optim.Optimizer], params, options, changing: bool
    ) -> None:
        optimizer = make(params, **options)
        self.step = changing_halves(optimizer, params) if changing else optimizer.step
        self.first = seconds(self.step)
        with Traffic() as traffic:
            self.step()
        self.traffic, self.held = traffic, held(optimizer)
        self.median = 0.0

    def finish(self) -> None:
        """Make the steps of a turn, and wait for their end."""
        for _ in range(in_a_turn()):
            self.step()
        synchronize()


def changing_halves(optimizer: torch.optim.Optimizer, params) -> Callable[[], None]:
    """Return a step of other parameters at every call: half of them, chosen at random."""
    grads = [p.grad for p in params]
    choose = random.Random(0)

    def step() -> None:
        absent = set(choose.sample(range(len(params)), len(params) // 2))
        for i in absent:
            params[i].grad = None
        optimizer.step()
        for i in absent:
            params[i].grad = grads[i]

    return step


def in_a_turn() -> int:
    """Return how many steps are made before the next optimizer's turn."""
    return 10 if torch.cuda.is_available() else 1


def synchronize() -> None:
    """Wait until a GPU, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    synchronize()
    start = time.perf_counter()
    function()
    synchronize()
    return time.perf_counter() - start


def copies(params: list[Tensor]) -> Callable[[], None]:
    """Return a function that moves an update's bytes: half of them read, half written."""
    n = sum(p.numel() for p in params) * UPDATE_BYTES // 8
    source, target = torch.ones(2, min(n, COPIES), device=params[0].device)

    def copy() -> None:
        for _ in range(in_a_turn()):
            for start in range(0, n, COPIES):
                target[: n - start].copy_(source[: n - start])
        synchronize()

    return copy


def measure(name: str, device: str, steps_of_each: int) -> tuple[dict[tuple[str, str], Run], float]:
    """Return the runs by optimizer and kind, and the median seconds of the copy."""
    params = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in OF_A_GPU[name]]
    for p in params:
        p.grad = torch.randn_like(p)
    makers = {
        (make.__name__, kind): (make, options)
        for kind, options in KINDS.items()
        for make in (INNAprop, torch.optim.AdamW)
        if kind in ("default", "fused") or name not in TOO_LARGE
    }
    if name not in TOO_LARGE:
        makers["INNAprop", "core"] = (OneTensorAtATime, KINDS["single"])
    runs = {
        key: Run(make, params, options, key[1] == "changing")
        for key, (make, options) in makers.items()
    }
    steps = {key: run.finish for key, run in runs.items()}
    medians = timing.medians({"copy": copies(params), **steps}, steps_of_each)
    for key, run in runs.items():
        run.median = medians[key] / in_a_turn()
    return runs, medians["copy"] / in_a_turn()


def rows(name: str, runs: dict[tuple[str, str], Run], copy: float):
    """Yield the rows of one list of shapes."""
    count = sum(torch.Size(shape).numel() for shape in OF_A_GPU[name])
    yield "copy", f"{copy * 1e3:.2f}", "1.00", "", f"{UPDATE_BYTES}", "", "", ""
    for (optimizer, kind), run in runs.items():
        other = runs.get(("AdamW", kind))
        ours = optimizer == "INNAprop"
        # The kernels are called past the dispatcher; they read and write everything once.
        unseen = ours and kind in ("default", "fused", "changing")
        moved = UPDATE_BYTES if unseen else run.traffic.moved / count
        yield (
            f"{optimizer} {kind}",
            f"{run.median * 1e3:.2f}",
            f"{run.median / copy:.2f}",
            f"{run.median / other.median:.2f}" if ours and other else "",
            f"{moved:.0f}",
            f"{run.held / count:.0f}",
            f"{run.traffic.peak / count / 4:.2f}",
            f"{run.first:.2f}",
        )


def build_kernel(console: Console) -> None:
    """Build the CPU's kernel as the first process of a machine does, and load it as the next."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["INNAPROP_CACHE"] = folder
        built = seconds(c.load)
        command = [sys.executable, "-c", "from torch_step import *; print(seconds(c.load))"]
        folder = Path(__file__).parent
        loaded = float(subprocess.check_output(command, text=True, cwd=folder))
    console.print(
        f"fused kernel: built in {built:.2f} s, loaded by the next process in {loaded:.3f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of a step in PyTorch.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(OF_A_GPU))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--steps", type=int, help="timed steps of each optimizer")
    arguments = parser.parse_args()
    names = arguments.names or (OF_A_GPU if arguments.device == "cuda" else SHAPES)
    if not set(names) <= OF_A_GPU.keys():
        parser.error(f"NAME must be one of {', '.join(OF_A_GPU)}, got {' '.join(names)}")

    console = Console()
    if arguments.device == "cuda":
        console.print(torch.cuda.get_device_name())
    else:
        console.print(f"CPU, {torch.get_num_threads()} threads")
        build_kernel(console)
    for name in names:
        table = Table(
            Column("step", no_wrap=True),
            "ms",
            "/ copy",
            "/ AdamW",
            "moved",
            "held",
            "peak",
            "first, s",
        )
        table.title = name
        for row in rows(name, *measure(name, arguments.device, arguments.steps or STEPS[name])):
            table.add_row(*row)
        console.print(table)


if __name__ == "__main__":
    main()
