"""The plots of the report, as SVG text."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from innaprop_conformance.results import Conformance, Learning
from innaprop_conformance.training.task import Training

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # For reproducible files.
    "svg.hashsalt": "innaprop",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.color": "#e4e4e7",
    "legend.frameon": False,
}
_DTYPE_COLORS = {
    "float32": "#2563eb",
    "float64": "#ea580c",
    "bfloat16": "#15803d",
    "float16": "#a21caf",
    "bfloat16+residual": "#65a30d",
    "float16+residual": "#e879f9",
    "float32+state16": "#0891b2",
    "bfloat16+residual+state16": "#ca8a04",
}


def error_plot(results: Sequence[Conformance]) -> str | None:
    """Plot the error over the run, with a panel per backend; None if nothing ran.

    Lines are medians over the cases, and bands reach from the minimum to the maximum. Cases differ
    in length, so the horizontal axis is the fraction of their updates.
    """
    ran: dict[str, list[Conformance]] = {}
    for result in results:
        if result.verdicts:
            ran.setdefault(result.backend, []).append(result)
    if not ran:
        return None
    columns = min(3, len(ran))
    rows = -(-len(ran) // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 2.9 * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax, (backend, of_backend) in zip(axes.flat, ran.items(), strict=False):
            for result in of_backend:
                color = _DTYPE_COLORS[result.dtype]
                share = np.linspace(0.01, 1, 100)
                curves = np.array(
                    [
                        np.interp(share, np.arange(1, len(v.errors) + 1) / len(v.errors), v.errors)
                        for v in result.verdicts
                    ]
                )
                # A logarithmic axis cannot show zero or infinity.
                curves = np.clip(np.nan_to_num(curves, nan=np.inf), 1e-18, 1e3)
                ax.fill_between(
                    share, curves.min(0), curves.max(0), color=color, alpha=0.2, linewidth=0
                )
                ax.plot(share, np.median(curves, axis=0), color=color)
            ax.set_title(backend)
            ax.set_yscale("log")
        for ax in axes.flat[len(ran) :]:
            ax.set_visible(False)
        shown = {result.dtype for of_backend in ran.values() for result in of_backend}
        handles = [
            Line2D([], [], color=c, label=dtype)
            for dtype, c in _DTYPE_COLORS.items()
            if dtype in shown
        ]
        axes[0, 0].legend(handles=handles, loc="center right")
        figure.supxlabel("share of the updates made")
        figure.supylabel("error / distance moved")
        return _svg(figure)


def loss_plot(results: Sequence[Learning], truth: Training) -> str | None:
    """Plot the loss curves, and the difference of each from NumPy's; None if nothing ran."""
    ran = [r for r in results if "INNAprop" in r.trainings]
    if not ran:
        return None
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        handles = []
        for i, result in enumerate(ran):
            # The curves coincide, so they are drawn as interleaved dashes.
            dashes = (6 * i, (6, 6 * (len(ran) - 1))) if len(ran) > 1 else "-"
            losses = result.trainings["INNAprop"].losses
            left.plot(_smooth(losses), color=f"C{i}", linestyle=dashes, linewidth=2.5)
            handles.append(Line2D([], [], color=f"C{i}", linewidth=2.5, label=result.backend))
        adamw = next((r for r in ran if "AdamW" in r.trainings), None)
        if adamw:
            handles += left.plot(
                _smooth(adamw.trainings["AdamW"].losses),
                color="#71717a",
                linewidth=1.5,
                label=f"AdamW ({adamw.backend})",
            )
        left.set(title="training loss (running mean of 10 steps)", xlabel="update", yscale="log")
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter("{x:g}")
        left.legend(handles=handles, fontsize=9)
        for i, result in enumerate(ran):
            apart = np.abs(np.subtract(result.trainings["INNAprop"].losses, truth.losses))
            if apart.any():
                right.plot(np.maximum.accumulate(np.maximum(apart, 1e-9)), color=f"C{i}")
        right.set(
            title="largest difference from NumPy's loss so far", xlabel="update", yscale="log"
        )
        return _svg(figure)


def _smooth(losses: Sequence[float]) -> np.ndarray:
    """Return the running mean over ten steps, or fewer at the start."""
    return np.array([np.mean(losses[max(0, i - 9) : i + 1]) for i in range(len(losses))])


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
