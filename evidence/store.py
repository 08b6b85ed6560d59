"""Result files: one JSON line a run, found again by a hash of the run's whole configuration."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Config = dict[str, Any]
"""All that decides a run: names and numbers, as JSON has them."""
Result = dict[str, Any]

RESULTS = Path(__file__).parent / "results"


class Run(NamedTuple):
    """A line of a result file."""

    config: Config
    result: Result
    seconds: float
    machine: str


def key_of(config: Config) -> str:
    """Return the hash that a run is found by."""
    plain = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


class Results:
    """The runs of one file, in memory and on disk.

    Args:
        path: The file, which need not exist; None keeps the runs in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._runs: dict[str, Run] = {}
        if path is None or not path.exists():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # Torn when a machine went down: the run is made again.
            run = Run(row["config"], row["result"], row["seconds"], row["machine"])
            self._runs[row["key"]] = run

    def __contains__(self, config: Config) -> bool:
        return key_of(config) in self._runs

    def __getitem__(self, config: Config) -> Result:
        return self._runs[key_of(config)].result

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs.values())

    def add(self, run: Run) -> None:
        """Keep a run: one write at the end of the file, so that no reader sees half of it."""
        key = key_of(run.config)
        self._runs[key] = run
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, **run._asdict()}, allow_nan=False) + "\n"
        if _is_torn(self._path):
            line = "\n" + line
        file = os.open(self._path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)


def _is_torn(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
