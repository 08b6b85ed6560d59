"""The backend for the authors' optimizer, tested with ours in its place."""

from pathlib import Path

import pytest

from innaprop_conformance import expectations
from innaprop_conformance.backends.torch_authors import AuthorsBackend
from innaprop_conformance.cases import CASES
from innaprop_conformance.judge import judge
from innaprop_conformance.truths import truth_of, truths_folder

STAND_IN = """
from innaprop import torch


class INNAprop(torch.INNAprop):
    pass
"""
XFAILS = Path(expectations.__file__).parent / "xfails" / "authors.txt"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / "innaprop.py").write_text(STAND_IN)
    monkeypatch.setenv("INNAPROP_AUTHORS", str(tmp_path))
    return tmp_path


def test_without_a_checkout_it_cannot_run_and_says_why(monkeypatch, tmp_path):
    monkeypatch.delenv("INNAPROP_AUTHORS", raising=False)
    (reason,) = AuthorsBackend.missing()
    assert reason == "a checkout of github.com/innaprop/innaprop, which INNAPROP_AUTHORS names"
    monkeypatch.setenv("INNAPROP_AUTHORS", str(tmp_path))
    (reason,) = AuthorsBackend.missing()
    assert reason == f"innaprop.py in {tmp_path}, which INNAPROP_AUTHORS names"


def test_with_one_it_says_which(checkout):
    assert AuthorsBackend.missing() == []
    before = AuthorsBackend.versions()
    (checkout / "innaprop.py").write_text(STAND_IN + "# changed\n")
    assert AuthorsBackend.versions() != before


@pytest.mark.parametrize("name", ["groups,all-settings", "groups,decay", "gaps,fast"])
def test_it_hands_over_all_that_a_case_says(checkout, name):
    case = CASES[name]
    assert not AuthorsBackend.lacks(case, "float64")
    truth = truth_of(case, AuthorsBackend.counts, truths_folder())
    assert judge(name, "float64", AuthorsBackend().follow(case, "float64"), truth).passed


def test_it_follows_no_case_that_it_cannot(checkout):
    assert AuthorsBackend.lacks(CASES["spared,fast"], "float32") == "without decay_momentum=False"
    assert "damping schedules" in AuthorsBackend.lacks(CASES["schedule,alpha+beta"], "float32")


def test_every_expected_failure_is_a_case_that_it_follows():
    known = {
        (dtype, case)
        for dtype in AuthorsBackend.dtypes
        for case in AuthorsBackend.asked(CASES, dtype)
    }
    for line in expectations.read_expectations([XFAILS]):
        assert any(line.matches("authors", *pair) for pair in known), line.where
