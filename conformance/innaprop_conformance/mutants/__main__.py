"""``python -m innaprop_conformance.mutants``: make mutants, and show which judges catch them."""

import sys
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from innaprop_conformance.backends import load_backends
from innaprop_conformance.files import write_whole
from innaprop_conformance.mutants import tables
from innaprop_conformance.mutants.campaign import Campaign, processors, survivors_of
from innaprop_conformance.mutants.plan import read_plan
from innaprop_conformance.mutants.results import SUITE, TESTS, Results
from innaprop_conformance.pages import markdown, write_part

REST, BOTH = "rest", "both"
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("plan_file", type=FILE, metavar="PLAN")
@click.option(
    "--results",
    "results_file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file of JSON lines. Results that it holds are not computed again; new ones are added.",
)
@click.option("--number", default=20, show_default=True, help="Number of mutants per target.")
@click.option("--seed", default=0, show_default=True, help="Seed of the sample.")
@click.option(
    "--target",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only this target of the plan; may be given more than once. Default: all.",
)
@click.option(
    "--judge",
    type=click.Choice([SUITE, TESTS, REST, BOTH]),
    default=REST,
    show_default=True,
    help="Which judges: the suite; the tests; the suite, then the tests for the rest; or both.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Number of processes at a time. Default: the number of cores.",
)
@click.option("--seconds", default=120.0, show_default=True, help="Time of a backend per mutant.")
@click.option(
    "--test-seconds", default=600.0, show_default=True, help="Time of a run of tests per mutant."
)
@click.option("--again", is_flag=True, help="Judge mutants again that were not caught before.")
@click.option("--reasons", type=FILE, help="A TOML file of reasons why mutants survive.")
@click.option(
    "--missing",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the survivors without a reason to this file, with reasons to fill in.",
)
@click.option("--page", type=FILE, help="Write the tables into this page, between its two markers.")
def main(
    plan_file: Path,
    results_file: Path,
    number: int,
    seed: int,
    names: tuple[str, ...],
    judge: str,
    jobs: int | None,
    seconds: float,
    test_seconds: float,
    again: bool,
    reasons: Path | None,
    missing: Path | None,
    page: Path | None,
) -> None:
    """Make mutants of the files in PLAN; exit with 0 only if all survivors have a reason.

    Run it in the checkout. Backends that cannot run here are skipped.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        plan = read_plan(plan_file)
        results = Results(results_file, again=again)
        known = tables.read_reasons(reasons) if reasons else {}
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for name in {*names} - {target.name for target in plan.targets}:
        there = ", ".join(target.name for target in plan.targets)
        raise click.BadParameter(f"{name!r} is not one of {there}", param_hint="--target")
    backends = {
        name: backend
        for name, backend in load_backends().items()
        if not backend.load_error and not backend.missing()
    }
    campaign = Campaign(
        plan=plan,
        targets=[target for target in plan.targets if not names or target.name in names],
        backends=backends,
        root=Path.cwd(),
        results=results,
        lines_file=results_file.with_suffix(".lines.json"),
        judges={SUITE} if judge == SUITE else {TESTS} if judge == TESTS else {SUITE, TESTS},
        jobs=jobs or processors(),
        seconds=seconds,
        test_seconds=test_seconds,
        told=console.print,
    )
    mutants = campaign.chosen(number, seed)
    if judge != TESTS:
        campaign.ask_suite(mutants)
    if judge != SUITE:
        about = list(survivors_of(mutants, results)) if judge == REST else mutants
        campaign.ask_tests(about)
    lived = tables.survivors(mutants, results)
    parts: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = [
        (tables.COLUMNS, tables.rows(mutants, results)),
        (tables.SURVIVORS, tables.survivor_rows(lived, known)),
    ]
    for columns, rows in parts:
        table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
        for row in rows:
            table.add_row(*row)
        console.print(table, markup=False)
    for line in [*results.late(mutants, SUITE), *results.late(mutants, TESTS)]:
        console.print(line)
    if page:
        made = [markdown(columns, _escaped(rows)) for columns, rows in parts]
        write_part(page, "mutants", "\n".join(made))
    without = [mutant for mutant in lived if not known.get(mutant.id)]
    if missing:
        write_whole(missing, "\n".join(map(tables.as_toml, without)))
    sys.exit(1 if without else 0)


def _escaped(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [tuple(cell.replace("|", "\\|") for cell in row) for row in rows]


if __name__ == "__main__":
    main()
