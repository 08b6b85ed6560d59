"""The run's history: records, losses, findings, and those who are told."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from innaprop.diagnostics.figure import draw
from innaprop.diagnostics.record import Record, record_of
from innaprop.diagnostics.signatures import Finding, find


class DiagnosticsWarning(UserWarning):
    """A run shows the signature of a failure."""


class Diagnostics:
    """What a run does, recorded every so many updates, and the failures that it shows.

    This one is fed by ``record`` with what ``measure`` of ``innaprop.tensorflow`` or
    ``innaprop.optax`` returns. ``innaprop.torch.Diagnostics`` and ``innaprop.keras.Diagnostics``
    measure by themselves.

    Args:
        every: Updates from one record to the next, >= 1; the first update is always recorded.
            Default 100.
        write: Who is told of every record: callables such as ``wandb.log``, ``CSV(path)`` or
            ``TensorBoard(writer)``, called with a flat dict of numbers and ``step=``. Default none.
        warn: Whether a signature that appears is a ``DiagnosticsWarning``, once each. Default True.

    Raises:
        TypeError: every is no integer, warn no bool, or write holds what cannot be called.
        ValueError: every is smaller than 1.

    Attributes:
        records: All records, in order.
    """

    def __init__(
        self,
        every: int = 100,
        write: Iterable[Callable[..., Any]] = (),
        warn: bool = True,
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int):
            raise TypeError(f"every must be an integer >= 1, got {every!r}")
        if every < 1:
            raise ValueError(f"every must be an integer >= 1, got {every}")
        if not isinstance(warn, bool):
            raise TypeError(f"warn must be True or False, got {warn!r}")
        write = [write] if callable(write) else list(write)
        for writer in write:
            if not callable(writer):
                raise TypeError(f"write must hold callables, got {writer!r}")
        self.every = every
        self.records: list[Record] = []
        self._write = write
        self._warn = warn
        self._losses: list[Any] = []
        self._validation: Any = None
        self._findings: dict[str, Finding] = {}

    def loss(self, training: Any = None, validation: Any = None) -> None:
        """Take the losses of this update; nothing is read from a device until the next record.

        Args:
            training: The training loss; a number or a scalar tensor. The next record has the mean
                of those since the last one. Call this before the update. Default None.
            validation: The validation loss, likewise, of which the next record has the last.
                Default None.
        """
        if training is not None:
            self._losses.append(_detached(training))
        if validation is not None:
            self._validation = _detached(validation)

    def due(self, step: int) -> bool:
        """Return whether an update is to be recorded.

        Args:
            step: Number of the update, 1 at the first.
        """
        return (step - 1) % self.every == 0

    def record(self, step: int, measured: Mapping[str, Mapping[str, Any]]) -> Record:
        """Take what was measured of an update, tell it to all writers, and judge the run.

        Args:
            step: Number of the update, 1 at the first, larger than that of the last record.
            measured: What ``measure`` returned: numbers or scalar tensors by name, by group.

        Returns:
            The record.

        Raises:
            TypeError: ``measured`` is something else.
            ValueError: Likewise, or the step is not after the last one. Nothing has changed then.
        """
        if self.records and not step > self.records[-1].step:
            raise ValueError(
                f"step must be larger than that of the last record, {self.records[-1].step}, "
                f"got {step}"
            )
        losses = [float(loss) for loss in self._losses]
        record = record_of(
            step,
            measured,
            sum(losses) / len(losses) if losses else None,
            None if self._validation is None else float(self._validation),
        )
        self._losses, self._validation = [], None
        self.records.append(record)
        new = [finding for finding in find(self.records) if finding.name not in self._findings]
        self._findings |= {finding.name: finding for finding in new}
        for writer in self._write:
            writer(record.as_dict(), step=step)
        if self._warn:
            for finding in new:
                warnings.warn(str(finding), DiagnosticsWarning, stacklevel=2)
        return record

    @property
    def findings(self) -> list[Finding]:
        """Every signature that was seen so far, as it was first seen."""
        return list(self._findings.values())

    def plot(self) -> Any:
        """Draw the run.

        Returns:
            A matplotlib Figure that belongs to no window.

        Raises:
            ImportError: There is no matplotlib.
            ValueError: There is no record yet.
        """
        return draw(self.records, self.findings)


def _detached(loss: Any) -> Any:
    """Return a loss without the graph that it came from."""
    return loss.detach() if hasattr(loss, "detach") else loss
