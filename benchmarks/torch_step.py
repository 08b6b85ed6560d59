"""Time of an optimizer step in PyTorch, on the CPU, beside AdamW's of the same kind.

All optimizers run in one process, in turn, step by step; the table has medians, and ratios of
INNAprop to AdamW. `python benchmarks/torch_step.py [big] [many] [tiny]`
"""

import statistics
import sys
import time

import torch
from rich.console import Console
from rich.table import Table

from innaprop.torch import INNAprop

SHAPES = {
    "big": [(4096, 4096)] * 2,
    "many": [(256, 256), (256,)] * 200,
    "tiny": [(64, 64), (64,)] * 300,
}
STEPS = {"big": 10, "many": 25, "tiny": 25}
KINDS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "single": {"foreach": False}}


def medians(name: str) -> dict[tuple[str, str], float]:
    """Return the median seconds of a step by optimizer and kind."""
    steps = {}
    for kind, options in KINDS.items():
        for optimizer in (INNAprop, torch.optim.AdamW):
            params = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES[name]]
            for p in params:
                p.grad = torch.randn_like(p)
            steps[optimizer.__name__, kind] = optimizer(params, **options).step
    seconds = {key: [] for key in steps}
    for _ in range(STEPS[name]):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[key].append(time.perf_counter() - start)
    # The first steps make the state.
    return {key: statistics.median(values[2:]) for key, values in seconds.items()}


def main() -> None:
    table = Table("parameters", "kind", "INNAprop, ms", "AdamW, ms", "ratio")
    for name in sys.argv[1:] or SHAPES:
        result = medians(name)
        for kind in KINDS:
            ours, theirs = result["INNAprop", kind], result["AdamW", kind]
            row = f"{ours * 1e3:.2f}", f"{theirs * 1e3:.2f}", f"{ours / theirs:.2f}"
            table.add_row(name, kind, *row)
    Console().print(table)


if __name__ == "__main__":
    main()
