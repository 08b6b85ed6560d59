"""The commands that run backends."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from innaprop_conformance.backends import Backend, load_backends
from innaprop_conformance.cases import CASES, Case
from innaprop_conformance.cli import options
from innaprop_conformance.cli.show import finish, show_conformance, show_training
from innaprop_conformance.expectations import Expectation, expect
from innaprop_conformance.progress import progress_bars
from innaprop_conformance.results import Results, Subject, by_family
from innaprop_conformance.runner import find_truths, run_cases, run_training
from innaprop_conformance.training.numpy import train as train_in_numpy
from innaprop_conformance.training.task import Task

_run_options = options.together(
    options.backend,
    options.family,
    options.seed,
    options.xfails,
    options.strict,
    click.option("--require", is_flag=True, help="A backend that cannot run here is a failure."),
    options.timeout,
    options.jobs,
    options.json,
    options.junit,
)


@click.command()
@_run_options
@options.html
def run(
    names: tuple[str, ...], output: Path | None, jobs: int | None, timeout: float, **rest: Any
) -> None:
    """Run every case in every backend; exit with 0 only if all that ran agree."""
    console = Console()
    every = _load(names)
    results = _follow(console, every, names, rest, jobs, timeout)
    finish(console, results, output, **_of_finish(rest))


@click.command()
@_run_options
@options.html_anyway
def demo(
    names: tuple[str, ...], output: Path, jobs: int | None, timeout: float, **rest: Any
) -> None:
    """Run every case, train a small network in every framework, and write a report.

    Exits with 0 only if all that ran agree.
    """
    console = Console()
    every = _load(names)
    results = _follow(console, every, names, rest, jobs, timeout)
    console.rule("training on scikit-learn's handwritten digits")
    with progress_bars(console) as progress:
        training = run_training(_chosen(every, names), progress, jobs, timeout)
    reference = train_in_numpy(Task(), lambda done: None)
    results = replace(results, training=training, reference=reference)
    show_training(console, results)
    finish(console, results, output, **_of_finish(rest))


def _of_finish(rest: dict[str, Any]) -> dict[str, Any]:
    return {name: rest[name] for name in ("json", "junit", "require")}


def _load(names: tuple[str, ...]) -> dict[str, type[Backend]]:
    """Return all registered backends, and those given as MODULE:CLASS."""
    every = load_backends(names)
    for name in names:
        if name not in every:
            raise click.BadParameter(
                f"{name!r} is not one of {', '.join(every)}, nor MODULE:CLASS",
                param_hint="--backend",
            )
        if ":" in name and every[name].load_error:
            raise click.BadParameter(str(every[name].load_error), param_hint="--backend")
    return every


def _chosen(every: dict[str, type[Backend]], names: tuple[str, ...]) -> dict[str, type[Backend]]:
    return {name: b for name, b in every.items() if not names or name in names}


def _follow(
    console: Console,
    every: dict[str, type[Backend]],
    names: tuple[str, ...],
    rest: dict[str, Any],
    jobs: int | None,
    timeout: float,
) -> Results:
    cases = options.selected(rest["families"], rest["seed"])
    backends = _chosen(every, names)
    console.rule("trajectories against the ground truth")
    installed = {name: b for name, b in backends.items() if not b.missing() and not b.load_error}
    with progress_bars(console) as progress:
        truths = find_truths(installed, cases, progress, jobs)
        conformance = run_cases(backends, cases, truths, progress, jobs, timeout)
    subjects = [Subject.of(*item) for item in backends.items()]
    results = Results(subjects, conformance, families=by_family(cases), seed=rest["seed"])
    results = _expected(results, every, cases, rest["expectations"], rest["strict"])
    show_conformance(console, results)
    return results


def _expected(
    results: Results,
    every: dict[str, type[Backend]],
    cases: dict[str, Case],
    expectations: list[Expectation],
    strict: bool,
) -> Results:
    known = {
        (name, dtype): set(backend.asked({**CASES, **cases}, dtype))
        for name, backend in every.items()
        for dtype in backend.dtypes
    }
    return expect(results, expectations, known, strict)
