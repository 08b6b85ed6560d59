"""What a case's trajectory is, and how near to it each dtype can come."""

import decimal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.bounds import Bounds
from innaprop_conformance.cases import Array, Case, flat
from innaprop_conformance.corridor import Corridor, find_corridor, narrowed
from innaprop_conformance.walk import Chunk, Update, chunks, walk
from innaprop_core import algorithm, momentum

DIGITS = 40


@dataclass(frozen=True)
class Truth:
    """A case's ground truth; all judged elements stand in one axis."""

    start: Array
    """Initial parameters, of shape (elements,)."""
    theta: Array
    """Parameters after every update, of shape (steps, elements)."""
    corridors: Mapping[str, Corridor]
    """What is allowed, for each of the case's dtypes."""


def find_truth(case: Case, counts: str = "parameter") -> Truth:
    """Compute the ground truth of a case.

    It is Algorithm 1 as printed, in 40 decimal digits: some 8 microseconds for each judged
    element and update. Where alpha or beta change, psi is taken over such that the momentum
    stays. A parameter without gradient stays as it is.

    Args:
        case: Any case.
        counts: What Algorithm 1's k counts: "parameter", the updates of each parameter, or
            "run", those of the whole run, of which a parameter without gradient misses some.
            Default "parameter".

    Raises:
        ValueError: counts is neither.

    Source: arXiv 2410.05871, Algorithm 1.
    """
    parts = chunks(case)
    exact = [_Exact(part) for part in parts]
    bounds = {dtype: [Bounds(part, dtype, case.steps) for part in parts] for dtype in case.dtypes}
    standings: dict[str, list[Any]] = {dtype: [] for dtype in case.dtypes}
    theta = []
    with decimal.localcontext(prec=DIGITS) as context:
        context.clear_traps()
        for turn in walk(case, counts):
            for update in turn:
                exact[update.chunk].step(update)
                for of_dtype in bounds.values():
                    of_dtype[update.chunk].step(update)
            for dtype, of_dtype in bounds.items():
                standings[dtype].append([part.standing() for part in of_dtype])
            theta.append(flat([part.theta.astype(np.float64) for part in exact]))
    start = flat([part.start for part in parts])
    corridors = {dtype: find_corridor(rows) for dtype, rows in standings.items()}
    truth = Truth(start, np.array(theta), corridors)
    if case.family == "presets":
        distance = np.maximum.accumulate(np.linalg.norm(truth.theta - start, axis=1))
        narrow = {"float32": narrowed(truth.corridors["float32"], distance)}
        truth = replace(truth, corridors={**truth.corridors, **narrow})
    return truth


class _Exact:
    """A chunk's parameters, psi and second moment in decimal numbers."""

    def __init__(self, chunk: Chunk) -> None:
        self.theta = _decimal(chunk.start)
        self._m, self._v = 0 * self.theta, 0 * self.theta
        self._psi: Any = None
        self._dampings: tuple[Decimal, Decimal] | None = None

    def step(self, update: Update) -> None:
        """Make one update, in the caller's decimal context."""
        values: dict[str, Any] = {
            name: value if isinstance(value, bool) else Decimal(value)
            for name, value in update.values.items()
        }
        alpha, beta = values["alpha"], values["beta"]
        if self._dampings != (alpha, beta):
            if self._dampings is not None:
                old_alpha, old_beta = self._dampings
                self._m = momentum.momentum_from_psi(
                    self.theta, self._psi, alpha=old_alpha, beta=old_beta
                )
            self._psi = momentum.psi_from_momentum(self.theta, self._m, alpha=alpha, beta=beta)
            self._dampings = alpha, beta
        self.theta, self._psi, self._v = algorithm.step(
            self.theta, self._psi, self._v, _decimal(update.gradient), k=update.k, **values
        )


def _decimal(values: Array) -> NDArray[np.object_]:
    result = np.empty(values.shape, object)
    result[:] = [Decimal(value) for value in values.tolist()]
    return result
