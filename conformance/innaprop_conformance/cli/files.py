"""The commands that read results."""

import json
import re
from pathlib import Path

import click
from rich.console import Console

from innaprop_conformance import published
from innaprop_conformance.cli import options
from innaprop_conformance.cli.show import finish, show_conformance, show_training
from innaprop_conformance.expectations import lines_of
from innaprop_conformance.files import write_whole
from innaprop_conformance.pages import markdown, write_part
from innaprop_conformance.results import Results


@click.command()
@click.argument("results", metavar="FILE", type=options.results_file)
@options.junit
@click.option(
    "--output",
    type=options.new_file,
    help="Where to write the HTML report. Default: report.html, unless --junit is given.",
)
def report(results: Results, junit: Path | None, output: Path | None) -> None:
    """Show the tables of a FILE that run, demo or check wrote with --json; write its report.

    Exits as the run did.
    """
    console = Console()
    if output is None and junit is None:
        output = Path("report.html")
    show_conformance(console, results)
    show_training(console, results)
    finish(console, results, output, junit=junit)


@click.command()
@click.argument("every", nargs=-1, required=True, metavar="FILE...", type=options.results_file)
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Write the table into this page, between the markers <!-- begin: results --> and "
    "<!-- end: results -->. Default: write to standard output.",
)
def table(every: tuple[Results, ...], page: Path | None) -> None:
    """Make a Markdown table of results, from FILEs written with --json.

    It has a row per backend and dtype that ran. If a backend is in several FILEs, the last one
    counts.
    """
    text = markdown(published.COLUMNS, published.table_rows(every))
    if page is None:
        click.echo(text, nl=False)
        return
    try:
        write_part(page, "results", text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--page") from error


@click.command()
@click.argument("results", metavar="FILE", type=options.results_file)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("badges"),
    show_default=True,
    help="The folder to write to; created if missing.",
)
def badge(results: Results, output: Path) -> None:
    """Write BACKEND.json for every backend of a FILE, for the endpoint badge of shields.io."""
    output.mkdir(parents=True, exist_ok=True)
    for name, document in published.badges(results).items():
        path = output / (re.sub(r"[^\w.+-]", "_", name) + ".json")
        write_whole(path, json.dumps(document) + "\n")
        click.echo(f"{path}: {document['message']}")


@click.command()
@click.argument("results", metavar="FILE", type=options.results_file)
def xfails(results: Results) -> None:
    """Print a line for --xfails for every case of a FILE that failed.

    Expected failures keep their reasons; the reasons of the others should be edited by hand.
    """
    for line in lines_of(results):
        click.echo(line)
