"""Error of trajectories whose state is stored in fewer bits, measured on the core."""

import matplotlib.pyplot as plt
import numpy as np

from innaprop_core import momentum, packed

ELEMENTS, UPDATES = 300, 2_000
INDICES = np.arange(ELEMENTS, dtype=np.int32)


def in_16_bits(m, v, k):
    """Store a state as ``state_bits=16`` does."""
    turned = np.int32(packed.turn(packed.draw(k)))
    word = packed.pack(m, v, packed.thresholds(INDICES, turned), packed.NUMPY)
    return packed.unpack(word, packed.NUMPY)


def in_bfloat16(m, v, k):
    """Store a state in bfloat16, rounded stochastically."""
    drawn = np.random.default_rng(k).integers(0, 1 << 16, (2, ELEMENTS), np.uint32)
    bits = (np.stack([m, v]).view(np.uint32) + drawn) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


def run(store=None, dtype=np.float32):
    """Return all iterates."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=ELEMENTS).astype(np.float32).astype(dtype)
    scale, drift = np.exp(2 * rng.normal(size=ELEMENTS)), 0.3 * rng.normal(size=ELEMENTS)
    m = v = np.zeros_like(theta)
    iterates = [theta]
    for k in range(1, UPDATES + 1):
        g = (scale * (drift + rng.normal(size=ELEMENTS))).astype(np.float32).astype(dtype)
        c = momentum.coefficients(
            k, gamma=1e-3, alpha=2.0, beta=2.0, sigma=0.999, eps=1e-8, weight_decay=0.0
        )
        theta, m, v = momentum.step(theta, m, v, g, c)
        if store:
            m, v = store(m, v, k)
        iterates.append(theta)
    return np.array(iterates, float)


exact = run(dtype=np.float64)
moved = np.linalg.norm(exact - exact[0], axis=1)
figure, axes = plt.subplots()
for name, store in (
    ("bfloat16, stochastic", in_bfloat16),
    ("16 bits", in_16_bits),
    ("float32", None),
):
    error = np.linalg.norm(run(store) - exact, axis=1)
    axes.plot(np.arange(10, UPDATES + 1), (error / np.maximum(moved, 1e-12))[10:], label=name)
axes.set_yscale("log")
axes.set_xlabel("number of the update, at a step size of 1e-3")
axes.set_ylabel("error over distance moved")
axes.legend(title="state", loc="center left", bbox_to_anchor=(1.0, 0.5))
