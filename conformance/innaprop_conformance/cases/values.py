"""Gradients and initial parameters as data: a kind, and the range of their magnitudes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Shape = tuple[int, ...]

KINDS = ("normal", "nonzero", "sparse", "zero", "flipping", "heavy", "wide", "broken", "rows")
BROKEN = {2: (1, np.nan), 4: (-1, np.inf)}
"""For "broken": the index of an element and its value, by the number of previous updates."""
STARTS = ("normal", "zero", "half zero")
"""Kinds of initial parameters: normal of standard deviation 1/2, zeros, or both mixed."""


@dataclass(frozen=True)
class Gradients:
    """How the gradients of a case are generated.

    Each element has its own magnitude, log-uniform between 10^``low`` and 10^``high``.

    Args:
        kind: "normal" (a constant drift plus noise; zero with probability 0.1), "nonzero" (the same
            without zeros), "sparse" (zero with probability 0.95), "zero", "flipping" (the sign
            alternates), "heavy" (Cauchy distributed), "wide" (a new magnitude for every update),
            "broken" (nonzero, but NaN in each parameter's second element at the third update, and
            infinite in its last at the fifth) or "rows" (about half of the rows are zero).
        low: Decimal exponent of the smallest magnitude. Default -8.
        high: Decimal exponent of the largest magnitude. Default 4.

    Raises:
        ValueError: The kind is unknown.
    """

    kind: str = "normal"
    low: float = -8.0
    high: float = 4.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")

    def stream(
        self, rng: np.random.Generator, shapes: tuple[Shape, ...], steps: int
    ) -> Iterator[list[Array]]:
        """Yield the gradients of every update, before any rounding; float64."""
        scales = [self._magnitudes(rng, shape) for shape in shapes]
        drifts = [rng.normal(size=shape) for shape in shapes]
        for updates in range(steps):
            yield [
                self._next(rng, scale, drift, updates)
                for scale, drift in zip(scales, drifts, strict=True)
            ]

    def _magnitudes(self, rng: np.random.Generator, shape: Shape) -> Array:
        return np.asarray(10.0 ** rng.uniform(self.low, self.high, size=shape))

    def _next(self, rng: np.random.Generator, scale: Array, drift: Array, updates: int) -> Array:
        noisy = drift + rng.normal(size=drift.shape)
        chance = rng.random(size=drift.shape)
        value: Array
        match self.kind:
            case "normal":
                value = scale * noisy * (chance > 0.1)
            case "nonzero":
                value = scale * np.where(np.abs(noisy) < 1e-3, 1e-3, noisy)
            case "sparse":
                value = scale * noisy * (chance > 0.95)
            case "flipping":
                value = scale * ((-1) ** updates * (1 + 0.2 * (noisy - drift)))
            case "heavy":
                value = scale * np.clip(rng.standard_cauchy(size=drift.shape), -1e6, 1e6)
            case "wide":
                value = np.sign(chance - 0.5) * self._magnitudes(rng, drift.shape)
            case "broken":
                value = scale * np.where(np.abs(noisy) < 1e-3, 1e-3, noisy)
                if updates in BROKEN and value.size > 2:
                    place, broken = BROKEN[updates]
                    value.ravel()[place] = broken
            case "rows":
                value = (
                    scale
                    * noisy
                    * (rng.random(drift.shape[:1]) > 0.5).reshape(
                        drift.shape[:1] + (1,) * (drift.ndim - 1)
                    )
                )
            case _:
                value = np.zeros_like(drift)
        return value


def initial(rng: np.random.Generator, shape: Shape, start: str) -> Array:
    """Return initial parameters of a shape and a kind of ``STARTS``, before any rounding."""
    values = np.asarray(rng.normal(scale=0.5, size=shape))
    if start == "normal":
        return values
    return np.where(rng.random(size=shape) < (0.5 if start == "half zero" else 1.0), 0.0, values)


def rounded(values: NDArray[np.float64] | float, dtype: str) -> Array:
    """Round to the nearest number of a dtype, ties to even (bfloat16: away from zero).

    Args:
        values: float64 array of any shape.
        dtype: "float64", "float32", "bfloat16" or "float16".

    Returns:
        float64 array of the same shape.
    """
    array = np.asarray(values, np.float64)
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return array.astype(dtype).astype(np.float64)
    # bfloat16 is the upper half of a float32.
    bits = array.astype(np.float32).view(np.uint32)
    result: Array = ((bits + 0x8000) & 0xFFFF0000).view(np.float32).astype(np.float64)
    return np.where(np.isnan(array), array, result)
