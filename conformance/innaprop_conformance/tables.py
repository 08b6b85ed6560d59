"""The two tables that people read: once on a terminal, once in the report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from innaprop_conformance.runner import Conformance, Learning

DISAGREEMENT_ALLOWED = 1e-4
"""Largest difference between a framework's float32 loss curve and NumPy's float64 one, in
nats: two correct runs part slowly, since training amplifies rounding."""


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells, whether it is good, and why it is not."""

    cells: tuple[str, ...]
    good: bool | None
    """None for a backend that is not installed."""
    reason: str = ""

    @property
    def mark(self) -> str:
        """The last cell."""
        return {True: "agrees", False: "fails", None: "–"}[self.good]


CONFORMANCE_COLUMNS = (
    "backend",
    "dtype",
    "cases",
    "ulp",
    "relative",
    "floors",
    "allowed",
)
CONFORMANCE_LEGEND = (
    "Largest error of a parameter, over all cases and updates: in units in the last place; "
    "relative to the distance moved; in float32 rounding floors; as a share of what is allowed."
)
TRAINING_COLUMNS = (
    "backend",
    "loss",
    "accuracy",
    "apart",
    "AdamW loss",
    "accuracy",
)
TRAINING_LEGEND = (
    "Mean loss of the last 50 steps in nats, share of the test images recognised, largest "
    "difference of a step's loss from NumPy's; and the framework's own AdamW."
)


def conformance_rows(results: Sequence[Conformance], cases: int) -> list[Row]:
    """Return a row per backend and dtype, of ``CONFORMANCE_COLUMNS``."""
    rows = []
    for result in results:
        if result.missing:
            rows.append(_absent(result, CONFORMANCE_COLUMNS))
            continue
        by_dtype = {
            dtype: [v for v in result.verdicts if v.dtype == dtype]
            for dtype in dict.fromkeys(v.dtype for v in result.verdicts)
        }
        for dtype, verdicts in by_dtype.items():
            passed = sum(v.passed for v in verdicts)
            worst = max(verdicts, key=lambda v: v.corridor)
            cells = (
                result.backend,
                dtype,
                f"{passed}/{cases}",
                f"{max(v.ulps for v in verdicts):.3g}",
                f"{max(v.relative for v in verdicts):.1e}",
                f"{max(v.floors for v in verdicts):.2g}",
                f"{worst.corridor:.1g}",
            )
            reason = ""
            if not worst.passed:
                reason = f"{worst.case} left its corridor at update {worst.left_at}"
            rows.append(Row(cells, passed == cases, result.failure or reason))
        if not by_dtype:
            rows.append(
                Row(_blank(result.backend, CONFORMANCE_COLUMNS), False, result.failure or "")
            )
    return rows


def training_rows(results: Sequence[Learning]) -> list[Row]:
    """Return a row per backend, of ``TRAINING_COLUMNS``."""
    rows = []
    for result in results:
        if result.missing:
            rows.append(_absent(result, TRAINING_COLUMNS))
            continue
        if "INNAprop" not in result.trainings:
            rows.append(Row(_blank(result.backend, TRAINING_COLUMNS), False, result.failure or ""))
            continue
        cells = [result.backend]
        for optimizer in ("INNAprop", "AdamW"):
            training = result.trainings.get(optimizer)
            cells += (
                [f"{final_loss(training.losses):.4f}", f"{training.accuracy:.1%}"]
                if training
                else ["–", "–"]
            )
            if optimizer == "INNAprop":
                apart = disagreement(result, results)
                cells.append("–" if apart is None else f"{apart:.1e}")
        good = result.failure is None and (apart is None or apart <= DISAGREEMENT_ALLOWED)
        reason = result.failure or ("" if good else f"more than {DISAGREEMENT_ALLOWED:g} apart")
        rows.append(Row(tuple(cells), good, reason))
    return rows


def final_loss(losses: Sequence[float]) -> float:
    """Return the mean loss over the last 50 steps."""
    return float(np.mean(losses[-50:]))


def disagreement(result: Learning, results: Sequence[Learning]) -> float | None:
    """Return the largest difference of a loss curve from that of NumPy, None without one."""
    truth = next((r.trainings.get("INNAprop") for r in results if r.backend == "numpy"), None)
    if truth is None:
        return None
    losses = result.trainings["INNAprop"].losses
    return float(np.max(np.abs(np.subtract(losses, truth.losses))))


def _absent(result: Conformance | Learning, columns: Sequence[str]) -> Row:
    return Row(
        _blank(result.backend, columns), None, f"not installed: needs {', '.join(result.missing)}"
    )


def _blank(backend: str, columns: Sequence[str]) -> tuple[str, ...]:
    return (backend, *["–"] * (len(columns) - 1))


def all_good(rows: Sequence[Row]) -> bool:
    """Return whether something ran, and all that ran is good."""
    ran = [row for row in rows if row.good is not None]
    return bool(ran) and all(row.good for row in ran)
