"""Tables and figures of the comparisons under the protocol."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evidence.protocol import SHORT, Reported, Study, reported, shortened
from evidence.show.style import WIDTH, Brush, legend_above
from evidence.statistics import Difference, mean_and_spread, paired
from evidence.store import Results

Row = Sequence[str]


class Outcome(NamedTuple):
    """What a study found: every contender whose runs are complete; the first is compared with."""

    study: Study
    reports: list[Reported]

    @property
    def complete(self) -> bool:
        """Return whether all contenders are there."""
        return len(self.reports) == len(self.study.contenders)

    def of(self, name: str) -> Reported | None:
        """Return a contender's report, None where there is none."""
        return next((report for report in self.reports if report.contender.name == name), None)

    def difference(self, report: Reported, other: Reported | None = None) -> Difference | None:
        """Return the paired difference from another, the first where none is named.

        None for the difference of a report from itself.
        """
        other = other or self.reports[0]
        if report is other:
            return None
        score = self.study.objective
        return paired(report.finals(score), other.finals(score))


def outcome(study: Study, done: Results) -> Outcome | None:
    """Return what a study found, None where the first contender is not complete."""
    found = [reported(study, contender, done) for contender in study.contenders]
    if found[0] is None:
        return None
    return Outcome(study, [report for report in found if report is not None])


def outcomes(studies: Sequence[Study], done: Results, *, short: bool = True) -> list[Outcome]:
    """Return what is found of studies, each followed by the same tuned for the short budget."""
    found = []
    for study in studies:
        for each in (study, shortened(study, SHORT)) if short else (study,):
            result = outcome(each, done)
            if result is not None:
                found.append(result)
    return found


UNITS = {"error": "error, %", "loss": "loss", "shortfall": "return below the best"}
_CHOICES = ("beta1", "beta2", "sigma", "weight_decay", "warmup", "decay_momentum")


def table(outcome: Outcome) -> str:
    """Return a study's table: what was chosen, T, results on the way and in the end."""
    score, first = outcome.study.objective, outcome.reports[0]
    on_the_way = "training" in first.results[0] and score != "shortfall"
    head = ["optimizer", "chosen", "T", "test " + UNITS[score], "difference [95 %]", "verdict"]
    if on_the_way:
        head[3:3] = ["training loss at 10, 30, 100 %", "validation at 10, 30, 100 %"]
        head.append("reaches AdamW's end at")
    level = fmean(first.at(1.0, score)) if on_the_way else 0.0
    rows = []
    for report in outcome.reports:
        mean, spread = mean_and_spread(report.finals(score))
        difference = outcome.difference(report)
        row = [
            report.contender.name,
            chosen(report),
            number(fmean(result["time"] for result in report.results)),
            f"{number(mean)} ± {number(spread, 2)}",
            interval(difference),
            difference.verdict if difference else "",
        ]
        if on_the_way:
            row[3:3] = [
                ", ".join(number(fmean(report.at(share, curve))) for share in (0.1, 0.3, 1.0))
                for curve in ("training", score)
            ]
            step = report.reaches(level, score)
            row.append("not reached" if step is None else f"step {step:,}")
        rows.append(row)
    return f"**{title(outcome)}**\n\n{markdown(head, rows)}"


def title(outcome: Outcome) -> str:
    """Return a study's name with its size."""
    first = outcome.reports[0]
    seeds, trials = len(outcome.study.report), sorted({r.trials for r in outcome.reports})
    tuning = len(outcome.study.tuning)
    several = f"{trials[0]} to {trials[-1]}" if len(trials) > 1 else f"{trials[0]}"
    return (
        f"{outcome.study.name}: {first.config['steps']:,} steps, {seeds} seeds, "
        f"{several} trials per optimizer on {tuning} {'seed' if tuning == 1 else 'seeds'}"
    )


def chosen(report: Reported) -> str:
    """Return the rate, and what of the other options is not where the search started."""
    parts = [f"rate {report.config['lr']:g}"]
    for name, value in report.config.items():
        started = report.contender.options.get(name)
        if name in report.contender.options and value != started:
            parts.append(f"{name} {value}" if isinstance(value, bool) else f"{name} {value:g}")
        elif name == "decay_momentum" and not value:
            parts.append("decay_momentum False")
    return ", ".join(parts)


def interval(difference: Difference | None) -> str:
    """Return a difference with its interval."""
    if difference is None:
        return ""
    mean, low, high = (f"{value:+.2g}" for value in difference[:3])
    return f"{mean} [{low}, {high}]"


def number(value: float, digits: int = 3) -> str:
    """Return a number to so many digits, never in powers of ten for what is near one."""
    text = f"{value:.{digits}g}"
    return f"{float(text):g}" if 1e-3 <= abs(value) < 1e6 else text


def markdown(head: Row, rows: Sequence[Row]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(outcome: Outcome, brush: Brush) -> Figure:
    """Draw the score against the learning rate, and during the run."""
    figure = Figure(figsize=(WIDTH, 5.6))
    above, below = figure.subplots(2, 1)
    _rates(above, outcome, brush)
    _way(below, outcome, brush)
    legend_above(figure, below)
    return figure


def _rates(axes: Axes, outcome: Outcome, brush: Brush) -> None:
    score = outcome.study.objective
    values = [value for report in outcome.reports for _, value in report.rates]
    best = min(values)
    for i, report in enumerate(outcome.reports):
        rates = [rate for rate, _ in report.rates]
        axes.semilogx(
            rates, [value for _, value in report.rates], **brush.of(report.contender.name, i)
        )
    finite = sorted(value for value in values if value < float("inf"))
    # One that has nearly diverged would flatten all others.
    axes.set_ylim(best - 0.05 * abs(best), min(finite[-1], best + 6 * _middle(finite, best)) * 1.02)
    axes.set_xlabel("learning rate")
    axes.set_ylabel(f"validation {UNITS[score]}")
    axes.set_title("each rate, options as the search started")


def _middle(values: Sequence[float], best: float) -> float:
    return max(values[len(values) // 2] - best, 0.05 * abs(best))


def _way(axes: Axes, outcome: Outcome, brush: Brush) -> None:
    score = outcome.study.objective
    for i, report in enumerate(outcome.reports):
        marks = report.results[0]["marks"]
        curves = [result["validation"][score] for result in report.results]
        means = [fmean(each) for each in zip(*curves, strict=True)]
        name = report.contender.name
        axes.plot(marks, means, label=name, **brush.of(name, i))
        spread = [mean_and_spread(each)[1] for each in zip(*curves, strict=True)]
        axes.fill_between(
            marks,
            [m - s for m, s in zip(means, spread, strict=True)],
            [m + s for m, s in zip(means, spread, strict=True)],
            color=brush.of(name, i)["color"],
            alpha=0.15,
            linewidth=0,
        )
    # Where all start says nothing, and would flatten how they end.
    later = [m for line in axes.lines for m in np.asarray(line.get_ydata())[-6:]]
    low, high = min(later), max(later)
    axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axes.set_xlabel("step")
    axes.set_ylabel(f"validation {UNITS[score]}")
    axes.set_title("the reported runs: mean and spread of the seeds")


def draw_dots(outcome: Outcome, brush: Brush) -> Figure:
    """Draw the differences from the first contender with their intervals, for many contenders."""
    rows = [report for report in outcome.reports if report is not outcome.reports[0]]
    figure = Figure(figsize=(WIDTH, 0.9 + 0.32 * len(rows)))
    axes = figure.subplots()
    for i, report in enumerate(reversed(rows)):
        difference = outcome.difference(report)
        assert difference is not None
        look = brush.of(report.contender.name, i)
        axes.plot([difference.low, difference.high], [i, i], color=look["color"])
        axes.plot(difference.mean, i, marker=look["marker"], color=look["color"], markersize=6)
    axes.axvline(0, color=brush.ink, linewidth=1)
    axes.set_yticks(range(len(rows)), [report.contender.name for report in reversed(rows)])
    axes.set_xlabel(f"test {UNITS[outcome.study.objective]}, less AdamW's")
    return figure


def describe(outcome: Outcome) -> str:
    """Return what a figure of a study shows, for those who do not see it."""
    score = outcome.study.objective
    ends = ", ".join(
        f"{report.contender.name} {number(fmean(report.at(1.0, score)))}"
        for report in outcome.reports
    )
    best = ", ".join(
        f"{report.contender.name} {min(report.rates, key=lambda pair: pair[1])[0]:g}"
        for report in outcome.reports
    )
    return (
        f"{outcome.study.name}. Above: validation {UNITS[score]} against the learning rate; the "
        f"best rates are {best}. Below: the same during the reported runs, which end at {ends}."
    )


def caption(outcome: Outcome) -> str:
    """Return what stands under a figure of a study."""
    times = [fmean(result["time"] for result in report.results) for report in outcome.reports]
    low, high = number(min(times), 2), number(max(times), 2)
    spread = low if low == high else f"{low} to {high}"
    return f"{title(outcome)}. T, the sum of the learning rates, is {spread} in the reported runs."
