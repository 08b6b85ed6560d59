"""A plan as a figure; needs matplotlib."""

from typing import TYPE_CHECKING, Any

from innaprop.extras import plotting

if TYPE_CHECKING:
    from innaprop.planning.plan import Plan

BLUE, ORANGE = "#0072b2", "#d55e00"
"""From the Okabe-Ito palette: distinct to the colour-blind, on light and dark backgrounds."""


def draw(plan: "Plan") -> Any:
    """Plot the lengths of the steps, and of AdamW's.

    Args:
        plan: The plan.

    Returns:
        A matplotlib Figure, without a window.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    with plotting():
        from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    updates = range(1, len(plan.rates) + 1)
    scalars = plan.hyperparameters
    label = f"INNAprop ({scalars.alpha:g}, {scalars.beta:g})"
    axes.plot(updates, plan.steps.lengths, color=BLUE, label=label)
    axes.plot(updates, plan.steps.adamw, color=ORANGE, linestyle="--", label="AdamW")
    axes.set_xlabel("update")
    axes.set_ylabel("step under a constant u")
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
