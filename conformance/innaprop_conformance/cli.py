"""The command ``innaprop-conformance``."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from innaprop_conformance import exchange, tables
from innaprop_conformance.backends import Backend, load_backends
from innaprop_conformance.cases import CASES, FAMILIES, Case, select
from innaprop_conformance.handoff.command import handoff
from innaprop_conformance.junit import write_junit
from innaprop_conformance.report import write_report
from innaprop_conformance.results import (
    Results,
    Subject,
    by_family,
    read_results,
    write_results,
)
from innaprop_conformance.runner import (
    find_truths,
    progress_bars,
    run_cases,
    run_training,
)
from innaprop_conformance.training.numpy import train as train_in_numpy
from innaprop_conformance.training.task import Task
from innaprop_conformance.truth import Truth
from innaprop_conformance.truths import truths_of


class _NewFile(click.Path):
    """A file to be written, whose folder is there: told before the work, not after it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(str(super().convert(value, param, ctx)))
        if not os.access(path.resolve().parent, os.W_OK):
            self.fail(f"the folder of {path} is not there or not writable", param, ctx)
        return path


_path = _NewFile(dir_okay=False, writable=True, path_type=Path)


_report_option = click.option(
    "--output",
    type=_path,
    default=Path("report.html"),
    show_default=True,
    help="Where to write the HTML report.",
)


_jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Processes at a time. Default: as many as there are cores.",
)
_json_option = click.option("--json", type=_path, help="Write the results to this file as JSON.")
_junit_option = click.option(
    "--junit", type=_path, help="Write the verdicts to this file as JUnit XML."
)
_seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Another one makes other values for all cases.",
)
_family_option = click.option(
    "--family",
    "families",
    multiple=True,
    metavar="NAME",
    help="Only this family of cases; may be given more than once. Default: every one.",
)


def _run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every command that runs backends."""
    for option in (
        _jobs_option,
        _junit_option,
        _json_option,
        click.option(
            "--require", is_flag=True, help="Take a backend that cannot run here for a failure."
        ),
        _seed_option,
        _family_option,
        click.option(
            "--backend",
            "names",
            multiple=True,
            metavar="NAME",
            help="Only this backend; may be given more than once. Default: every one.",
        ),
    ):
        command = option(command)
    return command


@click.group()
@click.version_option(package_name="innaprop")
def main() -> None:
    """Hold implementations of INNAprop to the exact algorithm."""


main.add_command(handoff)


@main.command("list")
def list_() -> None:
    """List the backends, whether each is installed, and the families with their cases."""
    table = Table("backend", "mode", "versions", "missing", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, backend in load_backends().items():
        missing = backend.missing()
        versions = ", ".join(f"{d} {v}" for d, v in backend.versions().items())
        table.add_row(
            name,
            backend.mode,
            "–" if missing else versions,
            ", ".join(missing) or backend.load_error or "",
        )
    console = Console()
    console.print(table)
    console.print(f"{len(CASES)} cases in {len(FAMILIES)} families:")
    for family, cases in FAMILIES.items():
        console.print(f"  {family}", highlight=False, style="bold")
        for case in cases.values():
            about = f"{case.steps} updates, {', '.join(case.dtypes)}"
            console.print(f"    {case.name} ({about})", highlight=False, soft_wrap=True)


@main.command()
@_run_options
@click.option("--output", type=_path, help="Write the HTML report to this file.")
def run(
    names: tuple[str, ...],
    families: tuple[str, ...],
    seed: int,
    output: Path | None,
    **options: Any,
) -> None:
    """Let every backend follow every case; exit with 0 only if all that ran agree."""
    console = Console()
    backends, cases = _chosen(names), _selected(families, seed)
    results = _follow(console, backends, cases, seed, options["jobs"])
    _finish(console, results, output, **options)


@main.command()
@_run_options
@_report_option
def demo(
    names: tuple[str, ...],
    families: tuple[str, ...],
    seed: int,
    output: Path,
    **options: Any,
) -> None:
    """Follow every case, then train a small network in every framework; write a report.

    Exits with 0 only if all that ran agree.
    """
    console = Console()
    backends, cases = _chosen(names), _selected(families, seed)
    results = _follow(console, backends, cases, seed, options["jobs"])
    console.rule("training on scikit-learn's handwritten digits")
    with progress_bars(console) as progress:
        training = run_training(backends, progress, options["jobs"])
    reference = train_in_numpy(Task(), lambda done: None)
    results = replace(results, training=training, reference=reference)
    _show_training(console, results)
    _finish(console, results, output, **options)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_report_option
def report(file: Path, output: Path) -> None:
    """Show the tables of a FILE that run or demo wrote with --json, and write its report.

    Exits as the run did.
    """
    console = Console()
    try:
        results = read_results(file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="FILE") from error
    _show_conformance(console, results)
    _show_training(console, results)
    _finish(console, results, output)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@_jobs_option
@_seed_option
@_family_option
def export(folder: Path, families: tuple[str, ...], seed: int, jobs: int | None) -> None:
    """Write the cases to DIR, for an implementation in another language to follow."""
    console = Console()
    cases = _selected(families, seed)
    if folder.exists() and any(folder.iterdir()):
        raise click.BadParameter(f"{folder} must be new or empty", param_hint="DIR")
    with progress_bars(console) as progress:
        truths = _truths_by_name(cases, progress, jobs)
        bar = progress.add_task("files", total=len(cases))
        exchange.export(folder, cases, truths, lambda: progress.advance(bar))
    console.print(f"{len(cases)} cases in {folder}; README.md there says how to follow them")


@main.command()
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--name", help="What to call the implementation. Default: the name of DIR.")
@_jobs_option
@_junit_option
@_json_option
@click.option("--require", is_flag=True, help="Take a case without output for a failure.")
@click.option("--output", type=_path, help="Write the HTML report to this file.")
def check(
    folder: Path,
    name: str | None,
    require: bool,
    output: Path | None,
    jobs: int | None,
    **options: Any,
) -> None:
    """Judge the outputs that an implementation has put into DIR, which export has written.

    Exits with 0 only if there are some and all of them agree.
    """
    console = Console()
    try:
        cases = exchange.read_cases(folder)
        given = {case: cases[case] for case, _ in exchange.outputs(folder, cases)}
        with progress_bars(console) as progress:
            truths = _truths_by_name(given, progress, jobs)
        name = name or folder.resolve().name
        results = exchange.check_all(folder, name, cases, truths, require)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="DIR") from error
    _show_conformance(console, results)
    lacking = len(cases) - len(given)
    if lacking:
        console.print(f"{lacking} of {len(cases)} cases are without output", highlight=False)
    _finish(console, results, output, **options)


def _truths_by_name(
    cases: Mapping[str, Case], progress: Progress, jobs: int | None
) -> dict[str, Truth]:
    keys = {(name, "parameter"): case for name, case in cases.items()}
    return {name: truth for (name, _), truth in truths_of(keys, progress, jobs).items()}


def _chosen(names: tuple[str, ...]) -> dict[str, type[Backend]]:
    backends = load_backends()
    for name in names:
        if name not in backends:
            raise click.BadParameter(
                f"{name!r} is not one of {', '.join(backends)}", param_hint="--backend"
            )
    return {name: b for name, b in backends.items() if not names or name in names}


def _selected(families: tuple[str, ...], seed: int) -> dict[str, Case]:
    try:
        return select(families, seed)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--family") from error


def _follow(
    console: Console,
    backends: dict[str, type[Backend]],
    cases: dict[str, Case],
    seed: int,
    jobs: int | None,
) -> Results:
    console.rule("trajectories against the ground truth")
    installed = {name: b for name, b in backends.items() if not b.missing() and not b.load_error}
    with progress_bars(console) as progress:
        truths = find_truths(installed, cases, progress, jobs)
        conformance = run_cases(backends, cases, truths, progress, jobs)
    subjects = [Subject.of(*item) for item in backends.items()]
    results = Results(subjects, conformance, families=by_family(cases), seed=seed)
    _show_conformance(console, results)
    return results


def _show_conformance(console: Console, results: Results) -> None:
    _show_matrix(console, results)
    rows = tables.conformance_rows(results)
    _show(console, tables.CONFORMANCE_COLUMNS, rows, tables.CONFORMANCE_LEGEND)


def _show_matrix(console: Console, results: Results) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("backend", no_wrap=True)
    for family in results.families:
        table.add_column(family, justify="right")
    styles = {True: "green", False: "bold red", None: "dim"}
    for backend, cells in tables.matrix(results).items():
        table.add_row(backend, *[Text(cell.text, style=styles[cell.good]) for cell in cells])
    console.print(table)
    console.print(tables.MATRIX_LEGEND, style="dim", highlight=False)
    for line in tables.not_applicable(results):
        console.print(f"n/a: {line}", style="dim", markup=False, highlight=False, soft_wrap=True)


def _show_training(console: Console, results: Results) -> None:
    if rows := tables.training_rows(results):
        _show(console, tables.TRAINING_COLUMNS, rows, tables.TRAINING_LEGEND)


def _show(
    console: Console, columns: Sequence[str], rows: Sequence[tables.Row], legend: str
) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column(columns[0], no_wrap=True)
    table.add_column("", no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    styles = {True: "green", False: "red", None: "dim"}
    for row in rows:
        mark = Text(row.mark, style=styles[row.good])
        style = "dim" if row.good is None else None
        table.add_row(row.backend, mark, *row.cells[1:], style=style)
    console.print(table)
    console.print(legend, style="dim", highlight=False)
    for row in rows:
        if row.reason:
            text = f"{row.backend}: {row.reason}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)


def _finish(
    console: Console,
    results: Results,
    output: Path | None,
    *,
    json: Path | None = None,
    junit: Path | None = None,
    require: bool = False,
    jobs: int | None = None,
) -> None:
    """Write what was asked for, say the verdict, and exit with it."""
    if json:
        write_results(json, results)
    if junit:
        write_junit(junit, results)
    if output:
        write_report(output, results)
        console.print(f"report: {output}")
    rows = [*tables.conformance_rows(results), *tables.training_rows(results)]
    absent = {row.backend for row in rows if row.good is None}
    ran = {row.backend for row in rows if row.good is not None}
    failed = {row.backend for row in rows if row.good is False}
    good = tables.all_good(rows) and not (require and absent)
    console.print(
        f"{len(ran - failed)} of {len(ran)} backends agree with the ground truth"
        + (f"; {len(absent)} cannot run here" if absent else ""),
        style="bold green" if good else "bold red",
        highlight=False,
    )
    sys.exit(0 if good else 1)
