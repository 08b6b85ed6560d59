"""Ground truths, computed once and kept in the user's cache folder.

Each is kept under a hash of its case and of the code that made it: where either changes, it is
computed anew.
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
"""Seconds after which truths that other code has made, and nobody read, are removed."""


def _code() -> str:
    """Return a hash of the code that truths are made by."""
    made_by = hashlib.sha256(np.__version__.encode())
    for module in _MAKERS:
        assert module.__file__ is not None
        made_by.update(Path(module.__file__).read_bytes())
    return made_by.hexdigest()[:16]


# Read at once: later the files may have changed, or be a copy's with a seeded fault.
_CODE = _code()


def truths_folder() -> Path | None:
    """Return where truths are kept, made if need be; None if there is no safe place for them."""
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
    """Return the ground truth of a case if it is kept, else None.

    Args:
        case: Any case.
        counts: As in ``find_truth``. Default "parameter".
        folder: Where truths are kept. Default None, nowhere.
    """
    if folder is None:
        return None
    try:
        kept = _read(_file(folder, case, counts))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # Not there, or damaged.
    with suppress(OSError):
        os.utime(folder)
    return kept


def truth_of(case: Case, counts: str = "parameter", folder: Path | None = None) -> Truth:
    """Return the ground truth of a case: what is kept, or computed and kept from now on.

    Args:
        case: Any case.
        counts: As in ``find_truth``. Default "parameter".
        folder: Where truths are kept. Default None, nowhere.

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
    """Return the ground truths of cases, and compute in some processes those that are not kept.

    Args:
        keys: Cases, by their name and what is counted in them (see ``find_truth``).
        progress: Where a bar is shown.
        processes: How many compute. Default None, as many as there are cores.
    """
    folder = truths_folder()
    bar = progress.add_task("ground truth", total=len(keys))
    found = {}
    for key, one in keys.items():
        kept = known_truth(one, key[1], folder)
        if kept is not None:
            found[key] = kept
            progress.advance(bar)
    # The long ones first, or one process would be waited for.
    missing = sorted(keys.keys() - found.keys(), key=lambda key: (-keys[key].steps, key))
    if missing:
        # Not forked: the parent has threads, for its progress bars.
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
    # Whole or not at all: other processes look for it.
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
    # Opened here: of a damaged file np.load leaves it open.
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        for key in arrays:
            dtype, _, name = key.rpartition(".")
            tolerances[dtype][name] = arrays[key]
    parts = tolerances.pop("")
    return Truth(**parts, tolerances={d: Tolerance(**arrays) for d, arrays in tolerances.items()})
