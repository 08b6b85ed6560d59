"""Hyperparameters as functions of the number of updates, as data."""

import math
from dataclasses import dataclass
from typing import Any

KINDS = ("constant", "linear", "cosine", "steps", "restarts", "pause")
ARITHMETIC = ("constant", "linear")
"""Kinds that use arithmetic only, so that they can be called with traced tensors."""


@dataclass(frozen=True)
class Schedule:
    """A hyperparameter as a function of the number of previous updates.

    Args:
        kind: "constant"; "linear" (from ``peak`` to ``end`` over ``steps`` updates, and beyond);
            "cosine" (linear warmup over the first tenth of the run, then cosine decay to zero);
            "steps" (divided by ten after each third); "restarts" (cosine decay to zero over each
            quarter, with warm restarts); "pause" (constant, but zero in the second quarter).
        peak: The largest value; for "linear", the first.
        steps: Length of the run in updates, >= 1.
        end: Value of "linear" after ``steps`` updates. Default 0.

    Raises:
        ValueError: The kind is unknown, or steps < 1.
    """

    kind: str
    peak: float
    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def __call__(self, updates: Any) -> Any:
        """Return the value for an update.

        Args:
            updates: Number of previous updates, an integer; for a kind in ``ARITHMETIC`` anything
                that can be multiplied by a float, such as a traced tensor.
        """
        if self.kind == "constant":
            return self.peak
        if self.kind == "linear":
            return self.peak + updates * ((self.end - self.peak) / self.steps)
        if self.kind == "steps":
            return self.peak / (1, 10, 100)[min(3 * updates // self.steps, 2)]
        if self.kind == "pause":
            return 0.0 if self.steps <= 4 * updates < 2 * self.steps else self.peak
        if self.kind == "restarts":
            period = max(self.steps // 4, 1)
            return self._half_cosine(updates % period / period)
        warmup = self.steps // 10
        if updates < warmup:
            return self.peak * (updates + 1) / warmup
        return self._half_cosine((updates - warmup) / (self.steps - warmup))

    def _half_cosine(self, progress: float) -> float:
        return self.peak * (1 + math.cos(math.pi * progress)) / 2
