"""Time of a step with a state of 16 bits, over that of float32 state.

Both optimizers run in one process, in turn, on parameters and gradients of their own; times are
medians.
`python benchmarks/state_bits.py [--device cuda] [--steps N] [NAME ...]`

Columns: milliseconds with 32 bits and with 16; their ratio; bytes of state a parameter, of both.
"""

import argparse

import timing
import torch
from rich.console import Console
from rich.table import Column, Table
from shapes import SHAPES
from traffic import held

from innaprop.torch import INNAprop

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
KINDS = {"fused": {"fused": True}, "foreach": {"foreach": True}}
STEPS = {"big": 20, "gpt2": 12, "many": 40, "tiny": 60}
IN_A_TURN = {"cpu": 1, "cuda": 10}
"""A GPU is let go ahead, as in training."""


def optimizers(shapes, dtype: torch.dtype, device: str, kind: str) -> dict[int, INNAprop]:
    """Return an optimizer for each number of bits, which has made a step."""
    made = {}
    for bits in (32, 16):
        params = [torch.nn.Parameter(torch.randn(s, device=device).to(dtype)) for s in shapes]
        for p in params:
            p.grad = torch.randn_like(p)
        made[bits] = INNAprop(params, state_bits=bits, **KINDS[kind])
        made[bits].step()
    return made


def turn(optimizer: INNAprop, device: str):
    """Return a function that makes the steps of a turn, and waits for their end."""

    def steps() -> None:
        for _ in range(IN_A_TURN[device]):
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of a step with a state of 16 bits.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SHAPES))
    parser.add_argument("--device", default="cpu", choices=IN_A_TURN)
    parser.add_argument("--steps", type=int, help="timed steps of each optimizer")
    arguments = parser.parse_args()
    names = arguments.names or list(SHAPES)
    if not set(names) <= SHAPES.keys():
        parser.error(f"NAME must be one of {', '.join(SHAPES)}, got {' '.join(names)}")
    console = Console()
    on_gpu = arguments.device == "cuda"
    console.print(
        torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    )
    columns = ("32 bits, ms", "16 bits, ms", "ratio", "bytes, 32", "bytes, 16")
    table = Table(Column("step", no_wrap=True), *columns)
    for name in names:
        count = sum(torch.Size(shape).numel() for shape in SHAPES[name])
        for dtype in DTYPES:
            for kind in KINDS if on_gpu else ("fused",):
                made = optimizers(SHAPES[name], DTYPES[dtype], arguments.device, kind)
                steps = {bits: turn(one, arguments.device) for bits, one in made.items()}
                seconds = timing.medians(steps, arguments.steps or STEPS[name])
                ms = {bits: 1e3 * s / IN_A_TURN[arguments.device] for bits, s in seconds.items()}
                table.add_row(
                    f"{name} {dtype} {kind}",
                    *(f"{ms[bits]:.2f}" for bits in (32, 16)),
                    f"{ms[16] / ms[32]:.2f}",
                    *(f"{held(made[bits]) / count:.2f}" for bits in (32, 16)),
                )
    console.print(table)


if __name__ == "__main__":
    main()
