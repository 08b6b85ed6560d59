"""``python -m innaprop_conformance.faults``: seed faults, and show the case that catches each."""

import subprocess
import sys
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from innaprop_conformance.backends import load_backends
from innaprop_conformance.faults import tables
from innaprop_conformance.faults.fault import read_faults
from innaprop_conformance.faults.run import SEEDS, UPDATES, hunt_all
from innaprop_conformance.pages import markdown, write_part
from innaprop_conformance.progress import progress_bars


@click.command()
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE...",
)
@click.option(
    "--backend",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only this backend; may be given more than once. Default: all.",
)
@click.option(
    "--changed-since",
    "revision",
    metavar="REVISION",
    help="Only faults in files below the working directory that differ from this git revision; "
    "HEAD: uncommitted changes.",
)
@click.option("--updates", default=UPDATES, show_default=True, help="Number of updates per case.")
@click.option(
    "--seeds",
    default=SEEDS,
    show_default=True,
    help="Number of runs without a fault.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Number of backends at a time.")
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Write the tables into this page, between its two markers.",
)
def main(
    files: tuple[Path, ...],
    names: tuple[str, ...],
    revision: str | None,
    updates: int,
    seeds: int,
    jobs: int | None,
    page: Path | None,
) -> None:
    """Seed the faults of FILES, one at a time; exit with 0 only if the suite catches all.

    A FILE is a TOML file or a folder of TOML files. Backends that cannot run here are skipped.
    """
    console = Console()
    try:
        faults = read_faults(files)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="FILE") from error
    if revision is not None:
        changed = _changed_since(revision)
        faults = [fault for fault in faults if any(fault.touches(file) for file in changed)]
    asked = {*names, *(name for fault in faults for name in fault.backends)}
    known = load_backends(sorted(asked))
    for name in asked - known.keys():
        raise click.BadParameter(f"{name!r} is not one of {', '.join(known)}")
    backends = {
        name: backend
        for name, backend in known.items()
        if not backend.load_error and not backend.missing() and (not names or name in names)
    }
    if revision is not None and not any(name in f.backends for f in faults for name in backends):
        console.print(f"no fault is in a file that has changed since {revision}", highlight=False)
        return
    with progress_bars(console) as progress:
        hunts = hunt_all(faults, backends, progress, updates=updates, seeds=seeds, jobs=jobs)
    parts = [
        (tables.FAULTS_COLUMNS, tables.fault_rows(faults, hunts)),
        (tables.RUNS_COLUMNS, tables.run_rows(hunts)),
    ]
    for columns, rows in parts:
        table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    lines = tables.complaints(hunts)
    for line in lines:
        console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    if page:
        try:
            write_part(page, "faults", "\n".join(markdown(*part) for part in parts))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--page") from error
    sys.exit(0 if hunts and not lines else 1)


def _changed_since(revision: str) -> list[str]:
    """Return the files that differ from a revision, including uncommitted and untracked ones."""
    files: list[str] = []
    for command in (
        ["diff", "--name-only", "--relative", revision, "--"],
        ["ls-files", "--others", "--exclude-standard"],
    ):
        done = subprocess.run(["git", *command], capture_output=True, text=True)
        if done.returncode:
            raise click.BadParameter(done.stderr.strip(), param_hint="--changed-since")
        files += done.stdout.splitlines()
    return files


if __name__ == "__main__":
    main()
