"""Hyperparameters as functions of the number of updates, as data."""

import math
from dataclasses import dataclass
from typing import Any

KINDS = ("constant", "linear", "cosine", "steps", "restarts", "pause")
ARITHMETIC = ("constant", "linear")
"""Kinds that are arithmetic only, so that tensors and traced counts can pass through them."""


@dataclass(frozen=True)
class Schedule:
    """A number as a function of the number of updates made before.

    Args:
        kind: "constant"; "linear" (from ``peak`` straight to ``end`` over ``steps`` updates, and
            on); "cosine" (linear warmup over the first tenth of the run, then half a cosine down to
            zero); "steps" (divided by ten after each third); "restarts" (half a cosine down to
            zero over each quarter, from the peak again); "pause" (constant, but zero in the
            second quarter).
        peak: The largest value; of "linear", the first.
        steps: Length of the run in updates, > 0.
        end: What "linear" leads to. Default 0.

    Raises:
        ValueError: The kind is not known, or steps < 1.
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
        """Return the value for the update that ``updates`` others came before.

        Args:
            updates: An integer; for a kind of ``ARITHMETIC`` anything that can be multiplied by
                a float, such as a tensor that is being traced.
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
