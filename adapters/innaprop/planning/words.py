"""A plan as a text or HTML table, and its warnings."""

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from innaprop.planning.plan import Plan

GROWTH = 2.0
"""Warn if the last step is at least this many times as long as the first at full rate."""
FAR = 3.0
"""Warn if the distance is at least this many times AdamW's."""
LESS_STABLE = 50.0
"""Warn if the stability limit is more than this factor below AdamW's; it is 38 for (2, 2) at
AdamW's rate."""


def rows_of(plan: "Plan") -> list[tuple[str, str, str]]:
    """Return the rows of a plan's table: quantity, INNAprop's value, AdamW's value."""
    steps, idle = plan.steps, plan.idle
    length, at = steps.longest
    adamw_length = max(steps.adamw)
    return [
        ("largest learning rate", _number(max(plan.rates)), _number(max(plan.adamw_rates))),
        ("T, sum of the learning rates", _number(plan.total), _number(steps.adamw_distance)),
        ("first step", _number(steps.first), _number(steps.adamw[0])),
        (
            "longest step",
            f"{_number(length)} at update {at + 1:,}",
            f"{_number(adamw_length)} at update {steps.adamw.index(adamw_length) + 1:,}",
        ),
        ("last step", _number(steps.last), _number(steps.adamw[-1])),
        ("distance under a constant u", _number(steps.distance), _number(steps.adamw_distance)),
        (
            "momentum lasts (updates)",
            _count(plan.time_constant),
            _count(_adamw_time_constant(plan)),
        ),
        ("left of an idle weight", f"{idle.left:.1%}", f"{idle.adamw_left:.1%}"),
        (
            "stable up to curvature",
            _number(plan.stability_limit),
            _number(plan.adamw_stability_limit),
        ),
    ]


def text_of(plan: "Plan") -> str:
    """Return a plan as text of at most 88 columns, not counting its warnings."""
    rows = [("", "INNAprop", "AdamW"), *rows_of(plan)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{what:<{widths[0]}}  {ours:>{widths[1]}}  {theirs:>{widths[2]}}".rstrip()
        for what, ours, theirs in rows
    ]
    options = ", ".join(f"{name}={value!r}" for name, value in plan.options.items())
    notes = [*map("! {}".format, plan.warnings), *_notes(plan)]
    return "\n".join([f"INNAprop({options}), {len(plan.rates):,} steps", *lines, *notes])


def html_of(plan: "Plan") -> str:
    """Return a plan as HTML, for a notebook."""
    head = "<tr><th></th><th>INNAprop</th><th>AdamW</th></tr>"
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(what)}</th>"
        f"<td style='text-align:right'>{escape(ours)}</td>"
        f"<td style='text-align:right'>{escape(theirs)}</td></tr>"
        for what, ours, theirs in rows_of(plan)
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*plan.warnings, *_notes(plan)))
    options = ", ".join(f"{name}={value!r}" for name, value in plan.options.items())
    caption = f"<caption>INNAprop({escape(options)}), {len(plan.rates):,} steps</caption>"
    return f"<table>{caption}{head}{body}</table>" + (f"<ul>{notes}</ul>" if notes else "")


def warnings_of(plan: "Plan") -> tuple[str, ...]:
    """Return warnings about the run."""
    return tuple(
        warning
        for warning in (
            _of_growing_steps(plan),
            _of_distance(plan),
            _of_stability(plan),
            _of_idle_weights(plan),
            _of_decay(plan),
        )
        if warning
    )


def _of_growing_steps(plan: "Plan") -> str | None:
    scalars, steps = plan.hyperparameters, plan.steps
    # The first step at full rate has length gamma beta.
    growth = steps.last / (scalars.gamma * scalars.beta) if scalars.gamma else 0.0
    if growth < GROWTH:
        return None
    return (
        f"the last steps are {growth:.1f} times as long as the first at full rate: training loss "
        "may go on falling while validation loss rises. Let the learning rate decay, or take "
        "alpha=2, beta=2."
    )


def _of_distance(plan: "Plan") -> str | None:
    steps = plan.steps
    ratio = steps.distance / steps.adamw_distance if steps.adamw_distance else 0.0
    if ratio >= FAR:
        return (
            f"a steady gradient carries a weight {ratio:.1f} times as far as with AdamW: "
            "divide the learning rate, or take alpha=2, beta=2."
        )
    if 0 < ratio <= 1 / FAR:
        return (
            f"a steady gradient carries a weight {ratio:.2f} times as far as with AdamW: raise the "
            "learning rate, if the first updates tolerate it."
        )
    return None


def _of_stability(plan: "Plan") -> str | None:
    ours, theirs = plan.stability_limit, plan.adamw_stability_limit
    if ours == 0:
        product = plan.hyperparameters.alpha * max(plan.rates)
        return (
            f"the momentum is unstable, whatever the loss: alpha times the learning rate must be "
            f"below 2, got {product:.3g}. Lower one of them."
        )
    if not math.isfinite(ours) or not math.isfinite(theirs) or ours * LESS_STABLE >= theirs:
        return None
    return (
        f"the largest stable curvature is {theirs / ours:.0f} times smaller than "
        "AdamW's: if the loss spikes in the first updates, warm up longer or halve the rate."
    )


def _of_idle_weights(plan: "Plan") -> str | None:
    idle = plan.idle
    if idle.crosses_at is None or plan.stability_limit == 0:
        return None
    return (
        f"weight decay drives a weight without a gradient through zero at update "
        f"{idle.crosses_at:,}: set decay_momentum=False, or exclude such weights from the decay."
    )


def _of_decay(plan: "Plan") -> str | None:
    ours, theirs = abs(plan.idle.left), plan.idle.adamw_left
    if plan.idle.crosses_at is not None or plan.stability_limit == 0 or abs(ours - theirs) < 0.1:
        return None
    more = "more" if ours > theirs else "less"
    return (
        f"{ours:.0%} of a weight without a gradient is left after the run, {more} than the "
        f"{theirs:.0%} of AdamW with the same weight decay; decay_momentum=False makes them equal."
    )


def _notes(plan: "Plan") -> list[str]:
    if min(plan.rates) == max(plan.rates):
        return []
    return [
        "The learning rate of these options is the schedule's largest; add the schedule yourself."
    ]


def _adamw_time_constant(plan: "Plan") -> float:
    return 1 / (1 - plan.adamw_beta1)


def _number(value: float) -> str:
    return f"{value:.3g}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "never fades"
