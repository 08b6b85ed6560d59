"""What storing momentum and second moment in fewer bits does to the trajectory.

Error over distance moved, as norms, of 600 float32 parameters after 4,000 and 10,000 updates, in
per cent, against the same run in float64. Gradients are s (d + n), where s = exp(2 N) and
d = 0.15 N exp(N) are of an element and n = N of each update, with N standard normal. Other
libraries' AdamW of 8 bits is held to AdamW in float64, where it is installed.
`python benchmarks/state_error.py [--seed N]`
"""

import argparse
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from rich.console import Console
from rich.table import Column, Table

from innaprop_core import momentum, packed

PRESETS = {"fast": (0.1, 0.9), "accurate": (2.0, 2.0)}
RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
UPDATES = (4_000, 10_000)
ELEMENTS = 600
SIZE_IN_8_BITS = 18 * 256
"""Libraries keep smaller tensors in float32; elements are the same again and again."""
INDICES = np.arange(ELEMENTS, dtype=np.int32)

Store = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def data(seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return initial parameters, and the gradients of all updates."""
    rng = np.random.default_rng(seed)
    start = rng.normal(size=ELEMENTS).astype(np.float32)
    scale = np.exp(2 * rng.normal(size=ELEMENTS))
    drift = 0.15 * rng.normal(size=ELEMENTS) * np.exp(rng.normal(size=ELEMENTS))
    gradients = [
        (scale * (drift + rng.normal(size=ELEMENTS))).astype(np.float32) for _ in range(UPDATES[-1])
    ]
    return start, gradients


def in_16_bits(m: np.ndarray, v: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Store a state as ``state_bits=16`` does."""
    word = packed.pack(
        m, v, packed.thresholds(INDICES, np.int32(packed.turn(packed.draw(k)))), packed.NUMPY
    )
    return packed.unpack(word, packed.NUMPY)


def in_bfloat16(stochastic: bool) -> Store:
    """Return what stores a state in bfloat16, to nearest or stochastically."""
    rng = np.random.default_rng(0)

    def rounded(x: np.ndarray) -> np.ndarray:
        bits = x.view(np.uint32)
        up = (
            rng.integers(0, 1 << 16, x.shape, np.uint32)
            if stochastic
            else 0x7FFF + (bits >> 16 & 1)
        )
        return ((bits + up) & np.uint32(0xFFFF0000)).astype(np.uint32).view(np.float32)

    return lambda m, v, k: (rounded(m), rounded(v))


def run(start, gradients, preset, rate, dtype, store: Store | None = None) -> Iterator[np.ndarray]:
    """Yield the parameters after each of ``UPDATES``."""
    alpha, beta = PRESETS[preset]
    theta = start.astype(dtype)
    m = v = np.zeros_like(theta)
    for k, g in enumerate(gradients, start=1):
        c = momentum.coefficients(
            k, gamma=rate, alpha=alpha, beta=beta, sigma=0.999, eps=1e-8, weight_decay=0.0
        )
        theta, m, v = momentum.step(theta, m, v, g.astype(dtype), c)
        if store:
            m, v = store(m, v, k)
        if k in UPDATES:
            yield theta.astype(float)


def adamw(start, gradients, rate) -> Iterator[np.ndarray]:
    """Yield AdamW's parameters in float64, with its defaults and without weight decay."""
    theta = start.astype(float)
    m = v = np.zeros_like(theta)
    for k, g in enumerate(gradients, start=1):
        m, v = m + 0.1 * (g - m), v + 1e-3 * (g.astype(float) ** 2 - v)
        root = np.sqrt(v / -math.expm1(k * math.log(0.999)))
        theta = theta - rate * m / -math.expm1(k * math.log(0.9)) / (root + 1e-8)
        if k in UPDATES:
            yield theta


def theirs(make, start, gradients, rate) -> Iterator[np.ndarray]:
    """Yield the parameters that another library's AdamW makes."""
    p = torch.nn.Parameter(torch.from_numpy(np.resize(start, SIZE_IN_8_BITS)))
    optimizer = make([p], rate)
    for k, g in enumerate(gradients, start=1):
        p.grad = torch.from_numpy(np.resize(g, SIZE_IN_8_BITS))
        optimizer.step()
        if k in UPDATES:
            yield p.detach().numpy()[:ELEMENTS].astype(float)


def others():
    """Return AdamW of 8 bits, by the library that has it."""
    found = {}
    try:
        from bitsandbytes.optim import AdamW8bit

        found["bitsandbytes"] = lambda p, lr: AdamW8bit(p, lr=lr, weight_decay=0.0)
    except ImportError:
        pass
    try:
        from torchao.optim import AdamW8bit as OfTorchAO

        found["torchao"] = lambda p, lr: OfTorchAO(p, lr=lr, weight_decay=0.0)
    except ImportError:
        pass
    return found


def errors(exact, runs, start) -> list[str]:
    """Return errors over distance moved, in per cent."""
    return [
        f"{100 * np.linalg.norm(x - e) / np.linalg.norm(e - start):.2g}"
        for e, x in zip(exact, runs, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Error of trajectories whose state is rounded.")
    parser.add_argument("--seed", type=int, default=0, help="of the gradients")
    start, gradients = data(parser.parse_args().seed)
    console = Console(width=120)
    kinds: dict[str, Store | None] = {
        "float32": None,
        "16 bits": in_16_bits,
        "bfloat16, stochastic": in_bfloat16(True),
        "bfloat16, nearest": in_bfloat16(False),
    }
    titles = [f"{kind}\n{', '.join(f'{n:,}' for n in UPDATES)}" for kind in kinds]
    table = Table(Column("preset, rate", no_wrap=True), *titles)
    for preset in PRESETS:
        for rate in RATES:
            exact = list(run(start, gradients, preset, rate, float))
            cells = [
                ", ".join(errors(exact, run(start, gradients, preset, rate, np.float32, s), start))
                for s in kinds.values()
            ]
            table.add_row(f"{preset}, {rate:.0e}", *cells)
    console.print(table)
    table = Table("AdamW of 8 bits, rate", *others())
    for rate in RATES:
        exact = list(adamw(start, gradients, rate))
        cells = [
            ", ".join(errors(exact, theirs(make, start, gradients, rate), start))
            for make in others().values()
        ]
        table.add_row(f"{rate:.0e}", *cells)
    console.print(table)


if __name__ == "__main__":
    main()
