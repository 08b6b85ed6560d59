"""The command ``innaprop-conformance``.

- ``options``: options that several commands share.
- ``show``: the output on the terminal.
- ``run``: the commands that run backends.
- ``files``: the commands that read results.
- ``exchange``: the commands for implementations in other languages.
"""

import click
from rich import box
from rich.console import Console
from rich.table import Table

import innaprop
from innaprop_conformance import __version__
from innaprop_conformance.backends import load_backends
from innaprop_conformance.cases import CASES, FAMILIES
from innaprop_conformance.cli import exchange, files, run
from innaprop_conformance.handoff.command import handoff


@click.group()
@click.version_option(__version__, message=f"%(prog)s %(version)s, innaprop {innaprop.__version__}")
def main() -> None:
    """Test implementations of INNAprop against the exact algorithm."""


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
    console.print(f"{len(CASES)} cases in {len(FAMILIES)} families, suite {__version__}:")
    for family, cases in FAMILIES.items():
        console.print(f"  {family}", highlight=False, style="bold")
        for case in cases.values():
            about = f"{case.steps} updates, {', '.join(case.dtypes)}"
            console.print(f"    {case.name} ({about})", highlight=False, soft_wrap=True)


for command in (
    run.run,
    run.demo,
    files.report,
    files.table,
    files.badge,
    files.xfails,
    exchange.export,
    exchange.check,
    handoff,
):
    main.add_command(command)
