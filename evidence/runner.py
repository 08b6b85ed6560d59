"""Make the runs that are missing: worker processes of one thread, a line a run as it ends."""

import multiprocessing
import os
import platform
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from evidence.experiment import Experiment, Scale
from evidence.store import Config, Result, Results, Run, key_of

EVERY = 60.0
"""Seconds between two lines where there is no terminal."""


def run_all(
    experiments: Sequence[Experiment],
    scale: Scale,
    folder: Path,
    *,
    processes: int = 2,
    seconds: float | None = None,
    console: Console | None = None,
) -> bool:
    """Make all missing runs of experiments; return whether none is missing in the end.

    Args:
        experiments: Which, in their order.
        scale: How large the runs are.
        folder: Of the result files, one an experiment.
        processes: Runs at the same time.
        seconds: When to stop. What runs then is lost, what has ended is kept. Default None:
            when all is done.
        console: Where the progress is shown.
    """
    stop = time.monotonic() + seconds if seconds is not None else None
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _prepare)
    try:
        with _bars(console or Console(stderr=True)) as bars:
            return all(
                [
                    _run_one(each, scale, folder, pool, processes, stop, bars)
                    for each in experiments
                ]
            )
    finally:
        for worker in list((pool._processes or {}).values()):
            worker.terminate()
        pool.shutdown(cancel_futures=True)


def _run_one(
    experiment: Experiment,
    scale: Scale,
    folder: Path,
    pool: ProcessPoolExecutor,
    processes: int,
    stop: float | None,
    bars: "_Bars",
) -> bool:
    done = Results(folder / f"{experiment.name}{suffix(scale)}.jsonl")
    running: dict[Future[tuple[Result, float]], Config] = {}
    made = 0
    while True:
        left = None if stop is None else stop - time.monotonic()
        if left is not None and left <= 0:
            return False
        waiting = {key_of(config) for config in running.values()}
        open_runs = {
            key: config
            for config in experiment.plan(scale, done)
            if (key := key_of(config)) not in waiting
        }
        bars.show(experiment.name, made, made + len(running) + len(open_runs))
        for config in list(open_runs.values())[: processes - len(running)]:
            running[pool.submit(_work, config)] = config
        if not running:
            return not open_runs
        ended, _ = wait(running, left, FIRST_COMPLETED)
        for future in ended:
            config = running.pop(future)
            result, took = future.result()
            done.add(Run(config, result, round(took, 2), machine(config)))
            made += 1


def suffix(scale: Scale) -> str:
    """Return what a size adds to the names of the result files."""
    return "" if scale.size == "cores" else f".{scale.size}"


def machine(config: Config) -> str:
    """Return what the run was made on, for the tables."""
    import torch

    if config.get("device", "cpu").startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"one CPU thread ({platform.machine()}), torch {torch.__version__}"


def _prepare() -> None:
    """Set a worker up before it loads a framework."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = "1"
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")


def _work(config: Config) -> tuple[Result, float]:
    from evidence.experiments import EXPERIMENTS

    start = time.perf_counter()
    result = EXPERIMENTS[config["experiment"]].run(config)
    return result, time.perf_counter() - start


def repeat(runs: Sequence[Run]) -> Iterator[tuple[Run, bool]]:
    """Make runs again, in one process of one thread; yield whether all numbers are the same."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare) as pool:
        for run in runs:
            result, _ = pool.submit(_work, run.config).result()
            yield run, result == run.result


class _Bars:
    """A bar an experiment, with an estimate; a line now and then where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, Any] = {}
        self._begun = self._told = time.monotonic()

    def __enter__(self) -> "_Bars":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def show(self, name: str, made: int, known: int) -> None:
        """Show how many of the runs that are known by now are made."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name)
        self._bars.update(self._tasks[name], completed=made, total=known)
        now = time.monotonic()
        if not self._console.is_terminal and (now - self._told > EVERY or made == known):
            self._told = now
            self._console.print(f"{now - self._begun:.0f} s: {name} {made} of {known}")


def _bars(console: Console) -> _Bars:
    return _Bars(console)
