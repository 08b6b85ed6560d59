"""How the difference from AdamW changes with the width of a language model."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from evidence.contenders import ACCURATE, FAST, PLAIN
from evidence.show.studies import Outcome, number
from evidence.show.style import WIDTH, Brush, legend_above
from evidence.statistics import Difference

_CONTENDERS = (FAST, PLAIN, ACCURATE)
_APART = 1.06
"""Widths are drawn apart by this factor for each contender, so that no interval hides another."""


def of_full_length(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the complete outcomes of models from scratch, at their full length; by width."""
    found = [o for o in outcomes if o.complete and o.study.name.endswith(" wide")]
    return sorted(found, key=_width)


def draw(outcomes: Sequence[Outcome], brush: Brush) -> Figure:
    """Draw the paired differences with their intervals against the width."""
    figure = Figure(figsize=(WIDTH, 3.0))
    axes = figure.subplots()
    for i, contender in enumerate(_CONTENDERS):
        look = brush.of(contender.name)
        widths = [_width(o) * _APART ** (i - 1) for o in outcomes]
        found = [_difference(o, contender.name) for o in outcomes]
        axes.plot(widths, [d.mean for d in found], label=contender.name, **look)
        lows, highs = [d.low for d in found], [d.high for d in found]
        axes.vlines(widths, lows, highs, color=look["color"], linewidth=1.2)
    axes.axhline(0, color=brush.ink, linewidth=1)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks([_width(o) for o in outcomes], [str(_width(o)) for o in outcomes])
    axes.set_xlabel("width")
    axes.set_ylabel("test loss, less AdamW's")
    legend_above(figure, axes, columns=3)
    return figure


def describe(outcomes: Sequence[Outcome]) -> str:
    """Return what the figure shows, for those who do not see it."""
    told = "; ".join(
        f"{contender.name} "
        + ", ".join(number(_difference(o, contender.name).mean, 2) for o in outcomes)
        for contender in _CONTENDERS
    )
    widths = ", ".join(str(_width(o)) for o in outcomes)
    return f"Test loss less AdamW's at widths {widths}: {told}."


CAPTION = (
    "Test loss less AdamW's against the width, every optimizer tuned at every width; means and "
    "95 % intervals of eight paired seeds. Below zero is better than AdamW."
)


def _width(outcome: Outcome) -> int:
    return int(outcome.study.base["shape"]["width"])


def _difference(outcome: Outcome, name: str) -> Difference:
    report = outcome.of(name)
    assert report is not None
    difference = outcome.difference(report)
    assert difference is not None
    return difference
