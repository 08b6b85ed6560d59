"""The tables that people read: once on a terminal, once in the report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from innaprop_conformance.results import Results, Subject
from innaprop_conformance.training.task import Training

LOSS_DISAGREEMENT_ALLOWED = 1e-4
"""Largest difference between a framework's float32 loss curve and NumPy's float64 one, in
nats: two correct runs part slowly, since training amplifies rounding."""
ACCURACY_DISAGREEMENT_ALLOWED = 0.01
"""Largest difference of the test accuracies: a few of 360 images that nothing separates."""

CONFORMANCE_COLUMNS = ("backend", "dtype", "cases", "ulp", "relative", "floors", "allowed")
CONFORMANCE_LEGEND = (
    "Largest error over all cases and updates: of a parameter in units in the last place; of all "
    "relative to the distance moved; in rounding floors; as a share of what is allowed."
)
MATRIX_LEGEND = (
    "Largest share of the allowed error that was used, over all cases of a family and all dtypes; "
    "above 1 is a failure. n/a: the backend follows no case of the family."
)
TRAINING_COLUMNS = ("backend", "loss", "accuracy", "apart", "AdamW loss", "accuracy")
TRAINING_LEGEND = (
    "Mean loss of the last 50 steps in nats, share of the test images recognised, largest "
    "difference of a step's loss from NumPy's in float64; and the framework's own AdamW."
)


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells, whether it is good, and why it is not."""

    cells: tuple[str, ...]
    good: bool | None
    """None for a backend that cannot run here."""
    reason: str = ""

    @property
    def backend(self) -> str:
        """The backend that the row is of."""
        return self.cells[0]

    @property
    def mark(self) -> str:
        """The verdict in a word."""
        return {True: "agrees", False: "fails", None: "–"}[self.good]


def conformance_rows(results: Results) -> list[Row]:
    """Return a row per backend and dtype, of ``CONFORMANCE_COLUMNS``."""
    rows = _absent(results.backends, CONFORMANCE_COLUMNS)
    for result in results.conformance:
        verdicts = result.verdicts
        if not result.asked and not result.failure:
            continue  # The matrix says why.
        cells = (result.backend, result.dtype, *["–"] * (len(CONFORMANCE_COLUMNS) - 2))
        reason = result.failure
        if verdicts:
            worst = max(verdicts, key=lambda v: v.corridor)
            cells = (
                result.backend,
                result.dtype,
                f"{sum(v.passed for v in verdicts)}/{result.asked}",
                f"{max(v.ulps for v in verdicts):.3g}",
                f"{max(v.relative for v in verdicts):.1e}",
                f"{max(v.floors for v in verdicts):.2g}",
                f"{worst.corridor:.1g}",
            )
            if not worst.passed and not reason:
                reason = (
                    f"{worst.case} left its corridor at update {worst.left_at}; element "
                    f"{worst.worst_element} was worst, at update {worst.worst_update}"
                )
        rows.append(Row(cells, result.passed, reason or ""))
    return _in_order(results, rows)


@dataclass(frozen=True)
class Cell:
    """What a backend made of a family, in a word."""

    text: str
    good: bool | None
    """None where the family is not applicable, or the backend cannot run here."""


def matrix(results: Results) -> dict[str, list[Cell]]:
    """Return a cell per family of ``results.families``, by backend."""
    family_of = {case: family for family, cases in results.families.items() for case in cases}
    cells = {}
    for subject in results.backends:
        of_backend = [c for c in results.conformance if c.backend == subject.name]
        shares: dict[str, list[float]] = {}
        for result in of_backend:
            for verdict in result.verdicts:
                shares.setdefault(family_of[verdict.case], []).append(verdict.corridor)
        asked = {
            family
            for result in of_backend
            for family in results.families
            if family not in result.not_applicable
        }
        ran = not subject.missing
        cells[subject.name] = [
            _cell(shares.get(family, []), family in asked and ran) for family in results.families
        ]
    return cells


def not_applicable(results: Results) -> list[str]:
    """Return a line for each reason why a family is n/a, with the backends it holds for."""
    backends: dict[tuple[str, str], dict[str, None]] = {}
    of_all = matrix(results)
    for result in results.conformance:
        for family, cell in zip(results.families, of_all[result.backend], strict=True):
            reason = result.not_applicable.get(family)
            if cell.text == "n/a" and reason and reason != f"not in {result.dtype}":
                backends.setdefault((family, reason), {})[result.backend] = None
    return [f"{family} ({reason}): {', '.join(of)}" for (family, reason), of in backends.items()]


def _cell(shares: Sequence[float], is_asked: bool) -> Cell:
    if not shares:
        return Cell("fails", False) if is_asked else Cell("n/a", None)
    worst = max(shares)
    return Cell(f"{worst:.2g}", worst <= 1)


def training_rows(results: Results) -> list[Row]:
    """Return a row per backend, of ``TRAINING_COLUMNS``; none where nothing was trained."""
    truth = results.reference
    if truth is None:
        return []
    rows = _absent([b for b in results.backends if b.trains], TRAINING_COLUMNS)
    for result in results.training:
        ours, adamw = result.trainings.get("INNAprop"), result.trainings.get("AdamW")
        reason = result.failure
        apart = "–"
        if ours:
            difference = loss_difference(ours, truth)
            apart = f"{difference:.1e}"
            # Not the other way round: what is no number compares with nothing.
            if not difference <= LOSS_DISAGREEMENT_ALLOWED:
                reason = reason or f"a loss is more than {LOSS_DISAGREEMENT_ALLOWED:g} apart"
            if not abs(ours.accuracy - truth.accuracy) <= ACCURACY_DISAGREEMENT_ALLOWED:
                reason = reason or f"the accuracy should be {truth.accuracy:.1%}"
        cells = (result.backend, *_loss_and_accuracy(ours), apart, *_loss_and_accuracy(adamw))
        good = ours is not None and reason is None
        rows.append(Row(cells, good, reason or ""))
    return _in_order(results, rows)


def loss_difference(training: Training, truth: Training) -> float:
    """Return the largest difference of two loss curves."""
    return float(np.max(np.abs(np.subtract(training.losses, truth.losses))))


def all_good(rows: Sequence[Row]) -> bool:
    """Return whether something ran, and all that ran is good."""
    ran = [row for row in rows if row.good is not None]
    return bool(ran) and all(row.good for row in ran)


def _loss_and_accuracy(training: Training | None) -> tuple[str, str]:
    if training is None:
        return "–", "–"
    return f"{np.mean(training.losses[-50:]):.4f}", f"{training.accuracy:.1%}"


def _absent(backends: Sequence[Subject], columns: Sequence[str]) -> list[Row]:
    return [
        Row(
            (subject.name, *["–"] * (len(columns) - 1)),
            None,
            f"cannot run here: needs {', '.join(subject.missing)}",
        )
        for subject in backends
        if subject.missing
    ]


def _in_order(results: Results, rows: list[Row]) -> list[Row]:
    order = [subject.name for subject in results.backends]
    return sorted(rows, key=lambda row: order.index(row.backend))
