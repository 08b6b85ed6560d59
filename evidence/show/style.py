"""How figures look: one column, so that a phone shows them whole; one light file, one dark."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 4.8
"""Inches: at this width ten points stay legible on a phone."""


class Look(NamedTuple):
    """How a contender is drawn: its colours on light and dark, its line and its marker."""

    light: str
    dark: str
    line: Any
    marker: str


# Okabe and Ito's colours, which the colour-blind tell apart; lines and markers differ too.
LOOKS = {
    "AdamW": Look("#444444", "#d8d8d8", "-", "o"),
    "(0.1, 0.9)": Look("#0072b2", "#56b4e9", "-", "s"),
    "(1, 1)": Look("#007a59", "#2fc79a", (0, (5, 2)), "D"),
    "(2, 2)": Look("#d55e00", "#ff9a4d", (0, (1.5, 1.5)), "^"),
    "AdamW, beta1 = 0": Look("#a0518c", "#e59fd0", (0, (5, 1.5, 1, 1.5)), "v"),
}
OTHERS = [
    Look("#a0518c", "#e59fd0", "-", "v"),
    Look("#8a7a00", "#f0e442", (0, (5, 2)), "P"),
    Look("#0072b2", "#56b4e9", (0, (1.5, 1.5)), "X"),
    Look("#007a59", "#2fc79a", "-", "<"),
    Look("#d55e00", "#ff9a4d", (0, (5, 2)), ">"),
    Look("#444444", "#d8d8d8", (0, (1.5, 1.5)), "*"),
]


class Brush:
    """The looks of one variant.

    Args:
        dark: Whether it is the one for a dark page.
    """

    def __init__(self, *, dark: bool) -> None:
        self.dark = dark
        self.ink = "#d0d0d0" if dark else "#333333"
        self.faint = "#5c5c5c" if dark else "#c4c4c4"

    def of(self, name: str, number: int = 0) -> dict[str, Any]:
        """Return a contender's colour, line and marker."""
        look = LOOKS.get(name, OTHERS[number % len(OTHERS)])
        return {
            "color": look.dark if self.dark else look.light,
            "linestyle": look.line,
            "marker": look.marker,
        }

    def line(self, name: str, number: int = 0) -> dict[str, Any]:
        """Return a contender's colour and line."""
        return {key: value for key, value in self.of(name, number).items() if key != "marker"}

    def parameters(self) -> Any:
        """Return what Matplotlib is told."""
        return {
            "axes.edgecolor": self.ink,
            "axes.facecolor": "none",
            "axes.grid": True,
            "axes.labelcolor": self.ink,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 10.0,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "font.size": 10.0,
            "grid.alpha": 0.5,
            "grid.color": self.faint,
            "grid.linewidth": 0.5,
            "legend.frameon": False,
            "legend.labelcolor": self.ink,
            "lines.linewidth": 1.6,
            "lines.markersize": 4.5,
            "savefig.transparent": True,
            "svg.hashsalt": "innaprop",
            "text.color": self.ink,
            "xtick.color": self.ink,
            "ytick.color": self.ink,
        }


def legend_above(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """Name the lines of some axes above the whole figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, columnspacing=1.0)


def save(folder: Path, name: str, draw: Callable[[Brush], Figure], formats: str = "svg") -> None:
    """Draw a figure twice and write both: ``name-light`` and ``name-dark``."""
    folder.mkdir(parents=True, exist_ok=True)
    for variant in ("light", "dark"):
        brush = Brush(dark=variant == "dark")
        with mpl.rc_context(brush.parameters()):
            figure = draw(brush)
            metadata = {"Date": None} if formats == "svg" else {}
            figure.savefig(folder / f"{name}-{variant}.{formats}", metadata=metadata, dpi=200)


def embed(path: str, alt: str, caption: str) -> str:
    """Return the directives that show a figure, the variant that fits the page."""
    one_line = " ".join(alt.split())
    shown = "\n\n".join(
        f"```{{image}} {path}-{variant}.svg\n:class: only-{variant}\n:alt: {one_line}\n```"
        for variant in ("light", "dark")
    )
    return f"{shown}\n\n*{' '.join(caption.split())}*"
