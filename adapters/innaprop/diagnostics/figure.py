"""A run as a figure; needs matplotlib."""

from collections.abc import Sequence
from typing import Any

from innaprop.diagnostics.record import Record
from innaprop.diagnostics.signatures import Finding
from innaprop.extras import plotting

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""From the Okabe-Ito palette: distinct to the colour-blind, on light and dark backgrounds."""
PANELS = (
    ("loss", "log", ("training_loss", "validation_loss")),
    ("size", "log", ("update_over_parameter", "scaled_gradient", "step_growth")),
    ("momentum", "linear", ("momentum_share", "agreement")),
    ("share of elements", "linear", ("at_floor", "stale", "stalled", "decay_driven")),
)
"""Axis label, scale and curves of each panel."""


def draw(records: Sequence[Record], findings: Sequence[Finding] = (), figure: Any = None) -> Any:
    """Plot losses, sizes, momentum and fractions of elements over the updates.

    Args:
        records: The records; at least one.
        findings: Findings, marked at the update where they were first seen. Default none.
        figure: An empty matplotlib Figure to draw into. Default None: a new one, without a window.

    Returns:
        The Figure.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: There is no record.
    """
    if not records:
        raise ValueError("records must hold at least one record, got none")
    with plotting():
        from matplotlib.figure import Figure

    figure = figure or Figure(figsize=(8.0, 5.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).flat
    for axes, (label, scale, names) in zip(panels, PANELS, strict=True):
        for name, colour in zip(names, COLOURS, strict=False):
            points = [(r.step, value) for r in records if (value := _value(r, name)) is not None]
            if points:
                style = {"marker": "."} if len(points) < 2 else {}
                axes.plot(*zip(*points, strict=True), color=colour, label=_words(name), **style)
        for finding in findings:
            axes.axvline(finding.step, color="#767676", linestyle=":")
        axes.set_yscale(scale)
        axes.set_ylabel(label)
        axes.margins(x=0)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False, fontsize="small")
    for axes in figure.axes[2:]:
        axes.set_xlabel("update")
    if findings:
        figure.suptitle(", ".join(f"{f.name} at update {f.step}" for f in findings))
    return figure


def _value(record: Record, name: str) -> float | None:
    if hasattr(record, name):
        value: float | None = getattr(record, name)
        return value
    return float(getattr(record.all, name))


def _words(name: str) -> str:
    return name.replace("_", " ")
