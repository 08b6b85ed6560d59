"""Results on the terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from innaprop_conformance import tables
from innaprop_conformance.junit import write_junit
from innaprop_conformance.report import write_report
from innaprop_conformance.results import Results, write_results

_NARROW = 88
_WIDE = ("ulp", "floors")
"""Columns that are left out on consoles of up to ``_NARROW`` characters."""


def show_conformance(console: Console, results: Results) -> None:
    """Show a table with a row per backend, or per family if that is too wide; then the dtypes."""
    matrix = _matrix(results)
    # Measured without a limit: rich would shrink the table to the console's width.
    endless = console.options.update(max_width=10_000)
    if console.measure(matrix, options=endless).maximum <= console.width:
        console.print(matrix)
        console.print(tables.MATRIX_LEGEND, style="dim", highlight=False)
    else:
        _show_families(console, results)
    for line in tables.not_applicable(results):
        _line(console, f"n/a: {line}", style="dim")
    rows = tables.conformance_rows(results)
    _show(console, tables.CONFORMANCE_COLUMNS, rows, tables.CONFORMANCE_LEGEND)
    for line in results.unmatched:
        _line(console, f"expectation without a case: {line}", style="yellow")


def show_training(console: Console, results: Results) -> None:
    """Show a row per backend that can train, if there was a training."""
    if rows := tables.training_rows(results):
        _show(console, tables.TRAINING_COLUMNS, rows, tables.TRAINING_LEGEND)


def finish(
    console: Console,
    results: Results,
    output: Path | None,
    *,
    json: Path | None = None,
    junit: Path | None = None,
    require: bool = False,
) -> None:
    """Write the requested files, print the conclusion, and exit with 0 if it is good, else 1."""
    if json:
        write_results(json, results)
    if junit:
        write_junit(junit, results)
    if output:
        write_report(output, results)
        _line(console, f"report: {output}")
    good, text = tables.conclusion(results, require)
    _line(console, text, style="bold green" if good else "bold red")
    sys.exit(0 if good else 1)


def _matrix(results: Results) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("backend", no_wrap=True)
    for family in results.families:
        table.add_column(family, justify="right", min_width=max(map(len, family.split())))
    for backend, cells in tables.matrix(results).items():
        table.add_row(backend, *[Text(cell.text, style=_style(cell, "bold red")) for cell in cells])
    return table


def _show_families(console: Console, results: Results) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column(tables.FAMILY_COLUMNS[0], no_wrap=True)
    for column in tables.FAMILY_COLUMNS[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    for row in tables.family_rows(results):
        style = "dim" if row.good is None else _style(row, "bold red")
        table.add_row(*row.cells, style=style)
    console.print(table)
    console.print(tables.FAMILY_LEGEND, style="dim", highlight=False)


def _show(
    console: Console, columns: Sequence[str], rows: Sequence[tables.Row], legend: str
) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column(columns[0], no_wrap=True)
    table.add_column("", no_wrap=True)
    shown = [i for i, c in enumerate(columns) if i and (c not in _WIDE or console.width > _NARROW)]
    for i in shown:
        table.add_column(columns[i], justify="right", no_wrap=True)
    for row in rows:
        mark = Text(row.mark, style=_style(row, "red"))
        style = "dim" if row.good is None else None
        table.add_row(row.backend, mark, *[row.cells[i] for i in shown], style=style)
    console.print(table)
    console.print(legend, style="dim", highlight=False)
    for row in rows:
        for remark in row.remarks:
            _line(console, f"{row.backend}: {remark}")


def _style(shown: tables.Cell | tables.Row, bad: str) -> str:
    if shown.is_expected:
        return "yellow"
    return {True: "green", False: bad, None: "dim"}[shown.good]


def _line(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
