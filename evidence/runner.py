"""Make the runs that are missing: worker processes of one thread, a line a run as it ends."""

import math
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
            when all is done. A run that fails is told of, and the others go on.
        console: Where the progress is shown.
    """
    stop = math.inf if seconds is None else time.monotonic() + seconds
    queues = [_Queue(experiment, scale, folder) for experiment in experiments]
    running: dict[Future[tuple[Result, float]], tuple[_Queue, Config]] = {}
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _prepare)
    try:
        with _Bars(console or Console(stderr=True)) as bars:
            while (left := stop - time.monotonic()) > 0:
                for queue in queues:
                    while len(running) < processes and (config := queue.take()) is not None:
                        running[pool.submit(_work, config)] = queue, config
                    bars.show(queue.experiment.name, queue.made, queue.known)
                if not running:
                    return not any(queue.failed for queue in queues)
                ended, _ = wait(running, None if left == math.inf else left, FIRST_COMPLETED)
                for future in ended:
                    queue, config = running.pop(future)
                    try:
                        queue.keep(config, *future.result())
                    except Exception as error:
                        queue.failed.add(key_of(config))
                        bars.tell(f"{queue.experiment.name}: {error!r} in {config}")
            return False
    finally:
        for worker in list((pool._processes or {}).values()):
            worker.terminate()
        pool.shutdown(cancel_futures=True)


class _Queue:
    """The runs of one experiment: planned anew whenever all that were known have been taken."""

    def __init__(self, experiment: Experiment, scale: Scale, folder: Path) -> None:
        self.experiment = experiment
        self.made = 0
        self.failed: set[str] = set()
        self._scale = scale
        self._done = Results(folder / f"{experiment.name}{suffix(scale)}.jsonl")
        self._waiting: list[Config] = []
        self._running: set[str] = set()
        self._may_go_on = True

    @property
    def known(self) -> int:
        """How many runs are made, or known to be missing."""
        return self.made + len(self._running) + len(self._waiting)

    def take(self) -> Config | None:
        """Return a run to be made, None where all wait for others."""
        if not self._waiting and self._may_go_on:
            self._may_go_on = False
            planned = {key_of(c): c for c in self.experiment.plan(self._scale, self._done)}
            missing = planned.keys() - self._running - self.failed
            self._waiting = [config for key, config in planned.items() if key in missing]
        if not self._waiting:
            return None
        config = self._waiting.pop(0)
        self._running.add(key_of(config))
        return config

    def keep(self, config: Config, result: Result, seconds: float) -> None:
        """Write a result down."""
        self._done.add(Run(config, result, round(seconds, 2), machine(config)))
        self._running.remove(key_of(config))
        self.made += 1
        self._may_go_on = True


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
        self._told: dict[str, tuple[int, int]] = {}
        self._begun = self._last = time.monotonic()

    def __enter__(self) -> "_Bars":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def tell(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, name: str, made: int, known: int) -> None:
        """Show how many of the runs that are known by now are made."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name)
        self._bars.update(self._tasks[name], completed=made, total=known)
        now = time.monotonic()
        if self._console.is_terminal or self._told.get(name) == (made, known):
            return
        if made == known or now - self._last > EVERY:
            self._last = now
            self._told[name] = made, known
            self.tell(f"{now - self._begun:.0f} s: {name} {made} of {known}")
