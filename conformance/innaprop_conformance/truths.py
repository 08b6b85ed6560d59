"""The cache of ground truths, in the user's cache folder.

The key is a hash of the case and of the code that computes ground truths: if either changes, the
truth is computed again.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.progress import Progress

from innaprop.forms.cache import cache_folder
from innaprop_conformance import (
    bounds,
    cases,
    exact,
    observed,
    state_bits,
    steps,
    tolerance,
    truth,
)
from innaprop_conformance.cases import Array, Case
from innaprop_conformance.tolerance import Tolerance
from innaprop_conformance.truth import Truth, find_truth

_MAKERS = (
    truth,
    exact,
    steps,
    bounds,
    state_bits,
    observed,
    tolerance,
    cases.case,
    cases.dtypes,
    cases.events,
    cases.hyperparameters,
    cases.schedules,
    cases.values,
)
_OLD = 14 * 24 * 3600.0
"""Seconds without use after which the ground truths of other versions of the code are deleted."""


def _code() -> str:
    """Return a hash of the code that computes ground truths."""
    made_by = hashlib.sha256(np.__version__.encode())
    for module in _MAKERS:
        assert module.__file__ is not None
        made_by.update(Path(module.__file__).read_bytes())
    return made_by.hexdigest()[:16]


# Hashed at import: the files may change while the process runs.
_CODE = _code()


def truths_folder() -> Path | None:
    """Return the cache folder, which is created if missing; None if there is no safe place."""
    cache = cache_folder()
    if cache is None:
        return None
    folder = cache / "truths" / _CODE
    if not folder.exists():
        for other in folder.parent.glob("*"):
            with suppress(OSError):
                if time.time() - other.stat().st_mtime > _OLD:
                    shutil.rmtree(other)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def known_truth(case: Case, counts: str = "parameter", folder: Path | None = None) -> Truth | None:
    """Return the ground truth of a case if it is in the cache, else None.

    Args:
        case: Any case.
        counts: As in ``find_truth``. Default "parameter".
        folder: The cache folder. Default None, no cache.
    """
    if folder is None:
        return None
    try:
        cached = _read(_file(folder, case, counts))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # Missing or damaged.
    with suppress(OSError):
        os.utime(folder)
    return cached


def truth_of(case: Case, counts: str = "parameter", folder: Path | None = None) -> Truth:
    """Return the ground truth of a case from the cache, or compute and cache it.

    Args:
        case: Any case.
        counts: As in ``find_truth``. Default "parameter".
        folder: The cache folder. Default None, no cache.

    Raises:
        ValueError: As ``find_truth`` says.
    """
    found = known_truth(case, counts, folder)
    if found is None:
        found = find_truth(case, counts)
        if folder is not None:
            with suppress(OSError):
                _write(_file(folder, case, counts), found)
    return found


def truths_of(
    keys: Mapping[tuple[str, str], Case], progress: Progress, processes: int | None = None
) -> dict[tuple[str, str], Truth]:
    """Return the ground truths of cases; those that are not cached are computed in parallel.

    Args:
        keys: Cases by (name, counts), with counts as in ``find_truth``.
        progress: Gets a bar.
        processes: Number of processes. Default None, the number of cores.
    """
    folder = truths_folder()
    bar = progress.add_task("ground truth", total=len(keys))
    found = {}
    for key, case in keys.items():
        cached = known_truth(case, key[1], folder)
        if cached is not None:
            found[key] = cached
            progress.advance(bar)
    # Longest first: a long one that starts last would run alone at the end.
    missing = sorted(keys.keys() - found.keys(), key=lambda key: (-keys[key].steps, key))
    if missing:
        # Not forked: forking is unsafe in a process with threads, here those of the progress bars.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=context) as pool:
            futures = {pool.submit(truth_of, keys[key], key[1], folder): key for key in missing}
            for future in as_completed(futures):
                found[futures[future]] = future.result()
                progress.advance(bar)
    return {key: found[key] for key in keys}


def _file(folder: Path, case: Case, counts: str) -> Path:
    asked = json.dumps([asdict(case), counts], sort_keys=True)
    return folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.npz"


def _write(file: Path, truth: Truth) -> None:
    tolerances = {
        f"{dtype}.{name}": array
        for dtype, tolerance in truth.tolerances.items()
        for name, array in vars(tolerance).items()
    }
    # Written atomically: other processes may read it at any time.
    descriptor, part = tempfile.mkstemp(dir=file.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            np.savez(stream, start=truth.start, theta=truth.theta, **tolerances)
        os.replace(part, file)
    except BaseException:
        os.unlink(part)
        raise


def _read(file: Path) -> Truth:
    tolerances: dict[str, dict[str, Array]] = defaultdict(dict)
    # Opened here, since np.load does not close a damaged file.
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        for key in arrays:
            dtype, _, name = key.rpartition(".")
            tolerances[dtype][name] = arrays[key]
    parts = tolerances.pop("")
    return Truth(**parts, tolerances={d: Tolerance(**arrays) for d, arrays in tolerances.items()})
