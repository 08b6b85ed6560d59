"""Options that several commands take."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from innaprop_conformance.cases import Case, select
from innaprop_conformance.expectations import Expectation, read_expectations
from innaprop_conformance.results import Results, read_results
from innaprop_conformance.runner import TIMEOUT

Command = Callable[..., None]


class NewFile(click.Path):
    """The path of a file to write. A missing folder is reported before the work, not after it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, if its folder is writable."""
        path = Path(str(super().convert(value, param, ctx)))
        if not os.access(path.resolve().parent, os.W_OK):
            self.fail(f"the folder of {path} is missing or not writable", param, ctx)
        return path


new_file = NewFile(dir_okay=False, writable=True, path_type=Path)


class ResultsFile(click.Path):
    """The results in a file that run, demo or check wrote with --json."""

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Results:
        """Return the results."""
        path = Path(str(super().convert(value, param, ctx)))
        try:
            return read_results(path)
        except ValueError as error:
            self.fail(str(error), param, ctx)


results_file = ResultsFile(exists=True, dir_okay=False)

jobs = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Processes at a time. Default: as many as there are cores.",
)
json = click.option("--json", type=new_file, help="Write the results to this file as JSON.")
junit = click.option("--junit", type=new_file, help="Write the verdicts to this file as JUnit XML.")
html = click.option("--output", type=new_file, help="Write the HTML report to this file.")
html_anyway = click.option(
    "--output",
    type=new_file,
    default=Path("report.html"),
    show_default=True,
    help="Where to write the HTML report.",
)
seed = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the values of all cases.",
)
family = click.option(
    "--family",
    "families",
    multiple=True,
    metavar="NAME",
    help="Only this family of cases; may be given more than once. Default: all.",
)
backend = click.option(
    "--backend",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only this backend, or one that is not registered, as MODULE:CLASS; may be given more "
    "than once. Default: all registered ones.",
)
timeout = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Kill a backend that takes longer for one case.",
)
xfails = click.option(
    "--xfails",
    "expectations",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=lambda ctx, param, paths: _expectations(paths),
    metavar="FILE",
    help="Expected failures, one line 'BACKEND DTYPE CASE  # reason' each; may be given more than "
    "once.",
)
strict = click.option(
    "--strict-xfails/--no-strict-xfails",
    "strict",
    default=True,
    show_default=True,
    help="Whether a case that passes although it is expected to fail is a failure.",
)


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds several options."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def selected(families: tuple[str, ...], seed: int) -> dict[str, Case]:
    """Return the cases of the given families; for an unknown one, exit with a list of all."""
    try:
        return select(families, seed)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--family") from error


def _expectations(paths: tuple[Path, ...]) -> list[Expectation]:
    try:
        return read_expectations(paths)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
