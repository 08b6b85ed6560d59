"""The commands for implementations in other languages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from innaprop_conformance import exchange
from innaprop_conformance.backends import load_backends
from innaprop_conformance.cases import CASES, Case
from innaprop_conformance.cli import options
from innaprop_conformance.cli.show import finish, show_conformance
from innaprop_conformance.expectations import Expectation, expect
from innaprop_conformance.progress import progress_bars
from innaprop_conformance.truth import Truth
from innaprop_conformance.truths import truths_of


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@options.jobs
@options.seed
@options.family
def export(folder: Path, families: tuple[str, ...], seed: int, jobs: int | None) -> None:
    """Write the cases to DIR, for an implementation in another language."""
    console = Console()
    selected = options.selected(families, seed)
    cases = exchange.exportable(selected)
    if not cases:
        raise click.BadParameter("none of its cases can be exported", param_hint="--family")
    if folder.exists() and any(folder.iterdir()):
        raise click.BadParameter(f"{folder} must be new or empty", param_hint="DIR")
    with progress_bars(console) as progress:
        truths = _truths_by_name(cases, progress, jobs)
        bar = progress.add_task("files", total=len(cases))
        exchange.export(folder, cases, truths, lambda: progress.advance(bar))
    number = exchange.counted(len(cases))
    console.print(f"{number} in {folder}; README.md there says how to follow them")
    if left_out := len(selected) - len(cases):
        why = "files cannot describe events, ways and mixed dtypes"
        console.print(f"left out: {exchange.counted(left_out)}; {why}", highlight=False)


@click.command()
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--name", help="The name of the implementation. Default: the name of DIR.")
@options.jobs
@options.junit
@options.json
@options.xfails
@options.strict
@click.option(
    "--require",
    is_flag=True,
    help="A case without output is a failure, in every dtype in which some case has one.",
)
@options.html
def check(
    folder: Path,
    name: str | None,
    require: bool,
    output: Path | None,
    jobs: int | None,
    expectations: list[Expectation],
    strict: bool,
    **files: Any,
) -> None:
    """Judge the outputs of an implementation in DIR, a folder that export has written.

    Exits with 0 only if there are outputs and all of them agree.
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
    results = expect(results, expectations, _known(name, cases), strict)
    show_conformance(console, results)
    lacking = len(cases) - len(given)
    if lacking:
        console.print(
            f"without output: {lacking} of {exchange.counted(len(cases))}", highlight=False
        )
    finish(console, results, output, **files)


def _known(name: str, cases: Mapping[str, Case]) -> dict[tuple[str, str], set[str]]:
    """Return the cases that this implementation and all backends may run."""
    every = {**CASES, **cases}
    known = {
        (backend, dtype): set(of.asked(every, dtype))
        for backend, of in load_backends().items()
        for dtype in of.dtypes
    }
    for case in every.values():
        for dtype in case.dtypes:
            known.setdefault((name, dtype), set()).add(case.name)
    return known


def _truths_by_name(
    cases: Mapping[str, Case], progress: Progress, jobs: int | None
) -> dict[str, Truth]:
    keys = {(name, "parameter"): case for name, case in cases.items()}
    return {name: truth for (name, _), truth in truths_of(keys, progress, jobs).items()}
