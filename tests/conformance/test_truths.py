"""Ground truths are cached, and computed again if the case or the code has changed."""

import os
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from innaprop_conformance import truths
from innaprop_conformance.cases import CASES
from innaprop_conformance.progress import progress_bars
from innaprop_conformance.truth import find_truth

CASE = replace(CASES["gaps,fast"], steps=5)


@pytest.fixture
def computed(monkeypatch):
    """The computed cases, in order."""
    asked = []

    def counted(case, counts):
        asked.append((case, counts))
        return find_truth(case, counts)

    monkeypatch.setattr(truths, "find_truth", counted)
    return asked


def equal(one, other):
    np.testing.assert_array_equal(one.start, other.start)
    np.testing.assert_array_equal(one.theta, other.theta)
    assert one.tolerances.keys() == other.tolerances.keys()
    for dtype, tolerance in one.tolerances.items():
        for name, array in vars(tolerance).items():
            np.testing.assert_array_equal(array, getattr(other.tolerances[dtype], name))
    return True


def test_what_is_kept_is_what_was_computed(tmp_path, computed):
    first = truths.truth_of(CASE, folder=tmp_path)
    assert equal(first, find_truth(CASE))
    assert equal(truths.truth_of(CASE, folder=tmp_path), first)
    assert equal(truths.known_truth(CASE, folder=tmp_path), first)
    assert len(computed) == 1


@pytest.mark.parametrize(
    ("case", "counts"),
    [
        (replace(CASE, seed=1), "parameter"),
        (replace(CASE, steps=4), "parameter"),
        (replace(CASE, gaps=CASE.gaps[:1]), "parameter"),
        (replace(CASE, name="another"), "parameter"),
        (CASE, "run"),
    ],
    ids=["seed", "steps", "gaps", "name", "counts"],
)
def test_another_case_is_another_truth(case, counts, tmp_path, computed):
    truths.truth_of(CASE, folder=tmp_path)
    assert truths.known_truth(case, counts, tmp_path) is None
    assert equal(truths.truth_of(case, counts, tmp_path), find_truth(case, counts))
    assert len(computed) == 2


def test_nothing_is_kept_without_a_folder(computed):
    truths.truth_of(CASE)
    truths.truth_of(CASE)
    assert len(computed) == 2


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_damaged_file_is_made_anew(keep, tmp_path, computed):
    truths.truth_of(CASE, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole))])
    assert equal(truths.truth_of(CASE, folder=tmp_path), find_truth(CASE))
    assert len(computed) == 2
    assert file.read_bytes() == whole


def test_a_changed_byte_is_made_anew(tmp_path):
    truth = truths.truth_of(CASE, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for place in range(100, len(whole), len(whole) // 40):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert equal(truths.truth_of(CASE, folder=tmp_path), truth)


def test_other_code_keeps_its_truths_elsewhere_and_old_ones_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("INNAPROP_CACHE", str(tmp_path))
    monkeypatch.setattr(truths, "_CODE", "before")
    before = truths.truths_folder()
    truths.truth_of(CASE, folder=before)
    monkeypatch.setattr(truths, "_CODE", "now")
    assert truths.known_truth(CASE, folder=truths.truths_folder()) is None
    assert truths.known_truth(CASE, folder=before) is not None
    os.utime(before, (0, 0))
    monkeypatch.setattr(truths, "_CODE", "later")
    truths.truths_folder()
    assert sorted(path.name for path in before.parent.iterdir()) == ["later", "now"]


def test_the_code_is_that_which_makes_them():
    """Every module of the project that these modules import must be in ``_MAKERS`` too."""
    files = {module.__file__ for module in truths._MAKERS}
    imported = set()
    for module in truths._MAKERS:
        for value in vars(module).values():
            origin = getattr(value, "__module__", None) or getattr(value, "__name__", "")
            if isinstance(origin, str) and origin.startswith("innaprop"):
                imported.add(origin)
    known = {module.__name__ for module in truths._MAKERS}
    # This package only re-exports from its own modules.
    assert imported - known <= {"innaprop_conformance.cases"}
    assert len(files) == len(known)


def test_several_processes_compute_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("INNAPROP_CACHE", str(tmp_path))
    cases = {(f"seed {seed}", "parameter"): replace(CASE, seed=seed) for seed in range(3)}
    truths.truth_of(cases["seed 1", "parameter"], folder=truths.truths_folder())
    with progress_bars(Console(quiet=True)) as progress:
        found = truths.truths_of(cases, progress, 2)
    assert list(found) == list(cases)
    for key, case in cases.items():
        assert equal(found[key], find_truth(case))
        assert truths.known_truth(case, folder=truths.truths_folder()) is not None


def test_no_safe_folder_is_no_error(tmp_path, monkeypatch):
    tmp_path.chmod(0o777)
    monkeypatch.setenv("INNAPROP_CACHE", str(tmp_path))
    assert truths.truths_folder() is None
