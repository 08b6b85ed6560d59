"""Every player's first half, gone on with by every other, and the verdicts on both together."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from innaprop_conformance.handoff import runs
from innaprop_conformance.handoff.player import load_player
from innaprop_conformance.handoff.worker import trajectory_file
from innaprop_conformance.judge import Verdict, judge
from innaprop_conformance.truth import Truth

TIMEOUT = 600.0
"""Seconds after which a player's process is ended."""


@dataclass(frozen=True)
class Handoff:
    """What became of the runs that one player began and another ended."""

    source: str
    target: str
    verdicts: list[Verdict]
    """One for each run in each dtype that both offer."""
    failure: str | None = None
    """Why verdicts are missing, or None."""

    @property
    def passed(self) -> bool:
        """Whether all runs are the trajectory that nobody has interrupted."""
        return self.failure is None and bool(self.verdicts) and all(v.passed for v in self.verdicts)

    @property
    def used(self) -> float:
        """The largest share of the allowed error that was used."""
        return max((v.corridor for v in self.verdicts), default=float("inf"))


def play(players: Sequence[str], jobs: int | None = None) -> list[Handoff]:
    """Let every player go on from where every player has stopped, itself included.

    Args:
        players: Names of players that can run here.
        jobs: Processes that work at a time. Default None, as many as there are cores.
    """
    truths = {name: runs.truth(name) for name in runs.names()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workers = {player: _Worker(player, folder) for player in players}
        try:
            with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
                list(pool.map(_Worker.first, workers.values()))
                begun = [player for player, worker in workers.items() if not worker.death]
                list(pool.map(lambda worker: worker.second(begun), workers.values()))
        finally:
            for worker in workers.values():
                worker.end()
        return [
            _handoff(folder, source, target, workers, truths)
            for source in players
            for target in players
        ]


@dataclass
class _Worker:
    """A player's process, which waits between the halves."""

    player: str
    folder: Path
    death: str | None = None
    errors: list[tuple[str, str]] = field(default_factory=list)
    """Sources from which it could not go on, and why."""
    process: subprocess.Popen[str] | None = None

    def first(self) -> None:
        """Start the process, and wait until it has played the first half."""
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "innaprop_conformance.handoff.worker",
                    self.player,
                    str(self.folder),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={
                    **os.environ,
                    "TF_CPP_MIN_LOG_LEVEL": "3",
                    # The arrays are small, and threads of several processes wait for each other.
                    "OMP_NUM_THREADS": "1",
                    **load_player(self.player).environment,
                },
            )
        self._wait("first")

    def second(self, sources: Sequence[str]) -> None:
        """Have it go on from where some players have stopped, and wait until it has."""
        if self.death:
            return
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # What it died of is in its log.
            print(*sources, file=self.process.stdin, flush=True)
        self._wait("second")

    def end(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.player}.log"

    def _wait(self, half: str) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        timer = threading.Timer(TIMEOUT, self.process.kill)
        timer.start()
        try:
            for line in self.process.stdout:
                message = json.loads(line)
                if "error" in message:
                    self.errors.append((message["source"], message["error"]))
                elif message["played"] == half:
                    return
        finally:
            timer.cancel()
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line]
        code = self.process.wait()
        self.death = ": ".join([f"the process of {self.player} ended with {code}", *lines[-1:]])


def hold(
    folder: Path, source: str, target: str, truths: Mapping[str, Truth]
) -> tuple[list[Verdict], int]:
    """Hold both halves of every run to the truth.

    Args:
        folder: Where the halves are.
        source: Who has played the first half.
        target: Who has played the second.
        truths: The truth of every run.

    Returns:
        The verdicts, and the number of runs of which a half is missing.
    """
    verdicts, missing = [], 0
    players = load_player(source), load_player(target)
    for name, truth in truths.items():
        for dtype in runs.shared_dtypes(name, *players):
            halves = [
                trajectory_file(folder, name, dtype, source),
                trajectory_file(folder, name, dtype, source, target),
            ]
            if not all(half.exists() for half in halves):
                missing += 1
                continue
            theta = np.concatenate([np.load(half) for half in halves])
            # A bfloat16 and its residual are to be float32's trajectory.
            judged = "float32" if dtype == "bfloat16" else dtype
            verdicts.append(judge(f"{name} in {dtype}", judged, theta, truth))
    return verdicts, missing


def _handoff(
    folder: Path,
    source: str,
    target: str,
    workers: Mapping[str, _Worker],
    truths: Mapping[str, Truth],
) -> Handoff:
    verdicts, missing = hold(folder, source, target, truths)
    reasons = [text for where, text in workers[target].errors if where == source]
    deaths = [workers[player].death for player in (source, target)]
    failure = next(filter(None, [*deaths, *reasons]), None)
    if missing and failure is None:
        failure = f"{missing} runs are without verdict"
    return Handoff(source, target, verdicts, failure)
