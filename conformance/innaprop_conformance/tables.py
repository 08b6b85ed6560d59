"""The tables of results, for the terminal and for the HTML report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from innaprop_conformance.results import Conformance, Outcome, Results, Subject, complaint
from innaprop_conformance.training.task import Training

LOSS_DISAGREEMENT_ALLOWED = 1e-4
"""Largest difference allowed between a framework's float32 loss curve and NumPy's float64 one, in
nats. Correct runs diverge slowly, since training amplifies rounding errors."""
ACCURACY_DISAGREEMENT_ALLOWED = 0.01
"""Largest difference allowed between test accuracies: a few of the 360 images are ambiguous."""

CONFORMANCE_COLUMNS = ("backend", "dtype", "cases", "ulp", "relative", "floors", "allowed")
CONFORMANCE_LEGEND = (
    "Cases passed; largest error over all cases and updates: of a parameter in units in the last "
    "place; of all relative to the distance moved; in rounding floors; as a share of what is "
    "allowed."
)
FAMILY_COLUMNS = ("family", "cases", "backends", "failing", "allowed", "used by")
FAMILY_LEGEND = (
    "Cases of a family, backends that follow some, and that fail some; the largest share of the "
    "allowed error that was used, and by whom. The HTML report has a cell per backend and family."
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
    """A row of a table: its cells, whether it is good, and remarks."""

    cells: tuple[str, ...]
    good: bool | None
    """None for a backend that cannot run here."""
    remarks: tuple[str, ...] = ()
    """Why it is not good, and which failures were expected."""
    is_expected: bool = False
    """Whether it is good although cases failed, since all failures were expected."""

    @property
    def backend(self) -> str:
        """Name of the row's backend."""
        return self.cells[0]

    @property
    def mark(self) -> str:
        """The verdict in a word."""
        if self.is_expected:
            return "as expected"
        return {True: "agrees", False: "fails", None: "–"}[self.good]


def conformance_rows(results: Results) -> list[Row]:
    """Return a row per backend and dtype, of ``CONFORMANCE_COLUMNS``."""
    rows = _absent(results.backends, CONFORMANCE_COLUMNS)
    for result in results.conformance:
        verdicts = result.verdicts
        if not result.asked and not result.failure:
            continue  # All families are not applicable; the matrix has the reasons.
        cells = (result.backend, result.dtype, *["–"] * (len(CONFORMANCE_COLUMNS) - 2))
        if verdicts:
            cells = (
                result.backend,
                result.dtype,
                f"{sum(v.passed for v in verdicts)}/{len(result.asked)}",
                f"{max(v.ulps for v in verdicts):.3g}",
                f"{max(v.relative for v in verdicts):.1e}",
                f"{max(v.floors for v in verdicts):.2g}",
                f"{max(v.tolerance_used for v in verdicts):.3g}",
            )
        is_expected = result.passed and Outcome.XFAILED in result.outcomes.values()
        rows.append(Row(cells, result.passed, tuple(_remarks(result)), is_expected))
    return _in_order(results, rows)


@dataclass(frozen=True)
class Cell:
    """The result of a backend in a family."""

    text: str
    good: bool | None
    """None if the family is not applicable, or the backend cannot run here."""
    is_expected: bool = False
    """Whether it is good although cases failed, since all failures were expected."""


def matrix(results: Results) -> dict[str, list[Cell]]:
    """Return by backend a list of cells, one per family of ``results.families``."""
    family_of = {case: family for family, cases in results.families.items() for case in cases}
    cells = {}
    for subject in results.backends:
        of_backend = [c for c in results.conformance if c.backend == subject.name]
        shares: dict[str, list[float]] = {}
        outcomes: dict[str, set[Outcome]] = {}
        for result in of_backend:
            for verdict in result.verdicts:
                shares.setdefault(family_of[verdict.case], []).append(verdict.tolerance_used)
            for case, outcome in result.outcomes.items():
                outcomes.setdefault(family_of[case], set()).add(outcome)
        asked = {
            family
            for result in of_backend
            for family in results.families
            if family not in result.not_applicable
        }
        ran = not subject.missing
        cells[subject.name] = [
            _cell(shares.get(family, []), outcomes.get(family, set()), family in asked and ran)
            for family in results.families
        ]
    return cells


def family_rows(results: Results) -> list[Row]:
    """Return a row per family, of ``FAMILY_COLUMNS``."""
    of_all = matrix(results)
    rows = []
    for i, (family, cases) in enumerate(results.families.items()):
        cells = {name: row[i] for name, row in of_all.items() if row[i].good is not None}
        shares = {
            result.backend: max(found)
            for result in results.conformance
            if (found := [v.tolerance_used for v in result.verdicts if v.case in cases])
        }
        worst = max(shares, key=lambda name: shares[name], default="–")
        failing = sum(not cell.good for cell in cells.values())
        text = f"{shares[worst]:.3g}" if shares else "–"
        counts = (str(len(cases)), str(len(cells)), str(failing) if failing else "–")
        good = None if not cells else not failing
        rows.append(Row((family, *counts, text, worst), good))
    return rows


def not_applicable(results: Results) -> list[str]:
    """Return a line for each reason why a family is not applicable, with the backends affected."""
    backends: dict[tuple[str, str], dict[str, None]] = {}
    of_all, seen = matrix(results), set()
    for result in results.conformance:
        for family, cell in zip(results.families, of_all[result.backend], strict=True):
            reason, key = result.not_applicable.get(family), (result.backend, family)
            # Take the reason from the backend's first dtype that has one.
            if cell.text == "n/a" and reason and reason != f"not in {result.dtype}":
                if key not in seen:
                    backends.setdefault((family, reason), {})[result.backend] = None
                seen.add(key)
    return [f"{family} ({reason}): {', '.join(of)}" for (family, reason), of in backends.items()]


def _cell(shares: Sequence[float], outcomes: set[Outcome], is_asked: bool) -> Cell:
    is_expected = Outcome.XFAILED in outcomes and outcomes.isdisjoint(
        {Outcome.FAILED, Outcome.ERROR}
    )
    if not shares and not is_asked:
        return Cell("n/a", None)
    if Outcome.ERROR in outcomes or not (shares or is_expected):
        return Cell("fails", False)
    if not shares:
        return Cell("fails", True, is_expected)
    worst = max(shares)
    if Outcome.FAILED in outcomes and worst <= 1:
        return Cell("fails", False)  # Within the tolerance, but the verdict has another reason.
    return Cell(f"{worst:.3g}", is_expected or worst <= 1, is_expected)


def _remarks(result: Conformance) -> list[str]:
    """Return a line for each kind of failure, with an example."""
    by: dict[Outcome, list[str]] = {outcome: [] for outcome in Outcome}
    for case, outcome in result.outcomes.items():
        by[outcome].append(case)
    remarks = []
    bad = [v for v in result.verdicts if v.case in by[Outcome.FAILED]]
    if bad:
        remarks.append(complaint(max(bad, key=lambda v: v.tolerance_used)) + _and_more(bad))
    own = [case for case in by[Outcome.ERROR] if case in result.errors]
    if own:
        remarks.append(f"{own[0]} in {result.dtype}: {result.errors[own[0]]}{_and_more(own)}")
    if result.failure:
        remarks.append(result.failure)
    if cases := by[Outcome.XPASSED]:
        remarks.append(f"passed although expected to fail in {result.dtype}: {' '.join(cases)}")
    reasons: dict[str, int] = {}
    for case in by[Outcome.XFAILED]:
        reasons[result.expected[case]] = reasons.get(result.expected[case], 0) + 1
    return remarks + [
        f"{number} failed as expected in {result.dtype}: {reason}"
        for reason, number in reasons.items()
    ]


def _and_more(cases: Sequence[object]) -> str:
    return f" (and {len(cases) - 1} more)" if len(cases) > 1 else ""


def training_rows(results: Results) -> list[Row]:
    """Return a row per backend, of ``TRAINING_COLUMNS``; none if nothing was trained."""
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
            # Negated, so that NaN fails: every comparison with NaN is false.
            if not difference <= LOSS_DISAGREEMENT_ALLOWED:
                reason = reason or f"a loss differs by more than {LOSS_DISAGREEMENT_ALLOWED:g}"
            if not abs(ours.accuracy - truth.accuracy) <= ACCURACY_DISAGREEMENT_ALLOWED:
                reason = reason or f"the accuracy should be {truth.accuracy:.1%}"
        cells = (result.backend, *_loss_and_accuracy(ours), apart, *_loss_and_accuracy(adamw))
        good = ours is not None and reason is None
        rows.append(Row(cells, good, (reason,) if reason else ()))
    return _in_order(results, rows)


def loss_difference(training: Training, truth: Training) -> float:
    """Return the largest difference between two loss curves."""
    return float(np.max(np.abs(np.subtract(training.losses, truth.losses))))


def conclusion(results: Results, require: bool = False) -> tuple[bool, str]:
    """Return whether something ran and everything that ran is good, and a sentence that says so.

    Args:
        results: Results of a run.
        require: Whether a backend that cannot run here is a failure. Default False.
    """
    rows = [*conformance_rows(results), *training_rows(results)]
    absent = {row.backend for row in rows if row.good is None}
    ran = {row.backend for row in rows if row.good is not None}
    failed = {row.backend for row in rows if row.good is False}
    expected = {row.backend for row in rows if row.is_expected} - failed
    agree = len(ran - failed - expected)
    parts = [f"{agree} of {len(ran)} backends agree with the ground truth"]
    if not ran:
        parts = ["nothing ran" if absent else "nothing ran: there is no case to follow"]
    parts += [f"{len(expected)} fail{'s' * (len(expected) == 1)} as expected"] if expected else []
    parts += [f"{len(absent)} cannot run here"] if absent else []
    return bool(ran) and not failed and not (require and absent), "; ".join(parts)


def _loss_and_accuracy(training: Training | None) -> tuple[str, str]:
    if training is None:
        return "–", "–"
    return f"{np.mean(training.losses[-50:]):.4f}", f"{training.accuracy:.1%}"


def _absent(backends: Sequence[Subject], columns: Sequence[str]) -> list[Row]:
    return [
        Row(
            (subject.name, *["–"] * (len(columns) - 1)),
            None,
            (f"cannot run here: needs {', '.join(subject.missing)}",),
        )
        for subject in backends
        if subject.missing
    ]


def _in_order(results: Results, rows: list[Row]) -> list[Row]:
    order = [subject.name for subject in results.backends]
    return sorted(rows, key=lambda row: order.index(row.backend))
