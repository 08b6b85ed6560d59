"""Expected failures (xfails): a text file of backends, dtypes and cases, with reasons.

    # psi is stored in float32, which loses the motion to cancellation.
    mine float32 long,*
    mine float16 gradients,sparse   # g^2 overflows

A line names a backend, a dtype and a case; each may be a pattern, as in ``fnmatch``. The reason
follows ``#``. Lines without a reason take it from the comment above them, until an empty line.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from innaprop_conformance.results import Conformance, Outcome, Results

Known = Mapping[tuple[str, str], Iterable[str]]
"""Names of all cases that may be run, by backend and dtype."""


@dataclass(frozen=True)
class Expectation:
    """Cases that are expected to fail."""

    backend: str
    """A pattern, like dtype and case."""
    dtype: str
    case: str
    reason: str
    where: str = ""
    """File and line of the expectation."""

    def matches(self, backend: str, dtype: str, case: str) -> bool:
        """Return whether the expectation applies to a backend, dtype and case."""
        pairs = [(backend, self.backend), (dtype, self.dtype), (case, self.case)]
        return all(fnmatchcase(name, pattern) for name, pattern in pairs)


def read_expectations(paths: Iterable[Path]) -> list[Expectation]:
    """Read files of expected failures.

    Raises:
        OSError: A file cannot be read.
        ValueError: A line does not name backend, dtype and case, or has no reason.
    """
    return [expectation for path in paths for expectation in _read(path)]


def expect(
    results: Results, expectations: Sequence[Expectation], known: Known, strict: bool = True
) -> Results:
    """Return results with the expected failures marked.

    Args:
        results: Results of a run.
        expectations: A case takes its reason from the first expectation that matches it.
        known: Names of all cases that may be run. A run may have included only some of them, and
            an expectation is reported as unmatched only if it matches none of these.
        strict: Whether a case that is expected to fail and passes is a failure. Default True.
    """
    unmatched = [
        f"{e.where}: {e.backend} {e.dtype} {e.case}"
        for e in expectations
        if not any(e.matches(*key, case) for key, cases in known.items() for case in cases)
    ]
    conformance = [_expect(found, expectations, strict) for found in results.conformance]
    return replace(results, conformance=conformance, unmatched=unmatched)


def lines_of(results: Results) -> list[str]:
    """Return a line of an expectations file for every case that failed.

    Expected failures keep their reasons.
    """
    lines = []
    for found in results.conformance:
        verdicts = {verdict.case: verdict for verdict in found.verdicts}
        for case, outcome in found.outcomes.items():
            if outcome in (Outcome.PASSED, Outcome.XPASSED):
                continue
            if case in found.expected:
                reason = found.expected[case]
            elif case in verdicts:
                v = verdicts[case]
                used = f"{v.tolerance_used:.2g} times what is allowed"
                reason = f"exceeded at update {v.exceeded_at}, {used}"
            else:
                reason = " ".join(found.why_no_verdict(case).split())
            lines.append(f"{found.backend} {found.dtype} {case}  # {reason}")
    return lines


def _expect(found: Conformance, expectations: Sequence[Expectation], strict: bool) -> Conformance:
    reasons = {
        case: next(
            (e.reason for e in expectations if e.matches(found.backend, found.dtype, case)), None
        )
        for case in found.asked
    }
    expected = {case: reason for case, reason in reasons.items() if reason is not None}
    return replace(found, expected=expected, strict=strict)


def _read(path: Path) -> Iterable[Expectation]:
    above: list[str] = []
    is_above = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path.name}:{number}"
        text, _, comment = (part.strip() for part in line.partition("#"))
        if not text:
            # A comment below other lines starts a new block.
            above = [*(above if is_above else []), comment] if "#" in line else []
            is_above = bool(above)
            continue
        is_above = False
        fields = text.split()
        if len(fields) != 3:
            raise ValueError(f"{where} must be BACKEND DTYPE CASE  # reason, got {line.strip()!r}")
        reason = comment or " ".join(filter(None, above))
        if not reason:
            raise ValueError(f"{where} must have a reason: a comment after {text!r} or above it")
        backend, dtype, case = fields
        yield Expectation(backend, dtype, case, reason, where)
