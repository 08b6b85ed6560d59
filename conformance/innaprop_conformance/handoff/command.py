"""The command ``innaprop-conformance handoff``."""

import sys

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from innaprop_conformance.handoff.loop import LOOPS, load_loop
from innaprop_conformance.handoff.matrix import Handoff, hand_over


@click.command()
@click.option(
    "--backend",
    "names",
    multiple=True,
    type=click.Choice(LOOPS),
    help="Only this one; may be given more than once. Default: all.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Number of backends at a time. Default: the number of cores.",
)
def handoff(names: tuple[str, ...], jobs: int | None) -> None:
    """Start runs in every framework, and continue them in every other.

    Exits with 0 only if all of them follow the exact trajectory of the uninterrupted run.
    """
    console = Console()
    chosen = names or LOOPS
    absent = {name: missing for name in chosen if (missing := load_loop(name).missing())}
    results = hand_over([name for name in chosen if name not in absent], jobs)
    _show(console, results)
    for name, missing in absent.items():
        console.print(f"{name}: cannot run here: needs {', '.join(missing)}", highlight=False)
    passed = sum(result.passed for result in results)
    good = bool(results) and passed == len(results)
    console.print(
        f"{passed} of {len(results)} handoffs follow the exact trajectory",
        style="bold green" if good else "bold red",
        highlight=False,
    )
    sys.exit(0 if good else 1)


def _show(console: Console, results: list[Handoff]) -> None:
    targets = list(dict.fromkeys(result.target for result in results))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("from \\ to", no_wrap=True)
    for target in targets:
        table.add_column(target.replace("-", "-\n"), justify="right", no_wrap=True)
    for source in targets:
        row = [result for result in results if result.source == source]
        table.add_row(source, *map(_cell, row))
    console.print(table)
    console.print("largest share of the allowed error that was used", style="dim")
    for result in results:
        left = next((v for v in result.verdicts if not v.passed), None)
        reason = result.failure
        if left and not reason:
            reason = f"{left.case} exceeded its tolerance at update {left.exceeded_at}"
        if reason:
            text = f"{result.source} to {result.target}: {reason}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)


def _cell(result: Handoff) -> Text:
    if not result.verdicts:
        return Text("fails", style="red")
    style = "green" if result.passed else "red"
    return Text(f"{result.used:.1g}" + ("" if result.passed else " ✗"), style=style)
