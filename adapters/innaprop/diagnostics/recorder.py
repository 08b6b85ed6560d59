"""The history of a run: records, losses and findings; and its writers."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from innaprop.diagnostics.figure import draw
from innaprop.diagnostics.record import Record, record_of
from innaprop.diagnostics.signatures import Finding, find


class DiagnosticsWarning(UserWarning):
    """A run shows the signature of a failure."""


class Diagnostics:
    """Records what the updates of a run do, every N-th update, and recognises failing runs.

    Pass the results of ``innaprop.tensorflow.measure`` or ``innaprop.optax.measure`` to ``record``.
    ``innaprop.torch.Diagnostics`` and ``innaprop.keras.Diagnostics`` measure by themselves.

    Args:
        every: Updates from one record to the next, >= 1; the first update is always recorded.
            Default 100.
        write: Receivers of every record: callables such as ``wandb.log``, ``CSV(path)`` or
            ``TensorBoard(writer)``, called with a flat dict of numbers and ``step=``. Default none.
        warn: Whether to issue a ``DiagnosticsWarning`` when a signature first appears. Default
            True.

    Raises:
        TypeError: every is not an integer, warn is not a bool, or an item of write is not callable.
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
        """Store the losses of this update; nothing is read from a device until the next record.

        Args:
            training: The training loss; a number or a scalar tensor. The next record contains the
                mean of those since the last record. Call this before the update. Default None.
            validation: The validation loss, likewise. The next record contains the last one.
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
        """Record measurements of an update, pass them to all writers, and look for signatures.

        Args:
            step: Number of the update, 1 at the first, larger than that of the last record.
            measured: What ``measure`` returned: numbers or scalar tensors by name, by group.

        Returns:
            The record.

        Raises:
            TypeError: ``measured`` is something else.
            ValueError: Likewise, or the step is not after the last one. Nothing is changed then.
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
        """Every signature found so far, as first found."""
        return list(self._findings.values())

    def plot(self) -> Any:
        """Plot the run.

        Returns:
            A matplotlib Figure, without a window.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
            ValueError: There is no record yet.
        """
        return draw(self.records, self.findings)


def _detached(loss: Any) -> Any:
    """Return a loss without its autograd graph."""
    return loss.detach() if hasattr(loss, "detach") else loss
