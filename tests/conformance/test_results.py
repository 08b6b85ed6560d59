"""Results are read from a file as they were written, or rejected with the reason."""

import json
import math
from dataclasses import replace

import pytest

from innaprop_conformance import tables
from innaprop_conformance.judge import Verdict
from innaprop_conformance.results import (
    Conformance,
    Learning,
    Results,
    Subject,
    read_results,
    write_results,
)
from innaprop_conformance.training.task import Training

VERDICT = Verdict(
    case="a case",
    dtype="float32",
    passed=False,
    ulps=math.inf,
    relative=0.25,
    floors=2.0,
    tolerance_used=math.inf,
    bound=1.5,
    worst_element=4,
    worst_update=2,
    exceeded_at=3,
    errors=(0.0, 0.5, math.inf),
)
RESULTS = Results(
    backends=[
        Subject("one", {"torch": "2.13"}, [], True, "compiled"),
        Subject("two", {}, ["jax"], False),
    ],
    conformance=[
        Conformance(
            "one",
            "float32",
            ["a case", "another"],
            [VERDICT],
            {"another": "ValueError: no"},
            "a case is without verdict",
            {"groups": "without groups"},
            {"a case": 1.5},
            {"another": "it never could"},
            strict=False,
        )
    ],
    families={"presets": ["a case", "another"], "groups": ["a third"]},
    seed=7,
    unmatched=["file:1: one float32 gone"],
    training=[Learning("one", {"INNAprop": Training([2.0, math.inf], 0.5)}, None)],
    reference=Training([2.0, 1.0], 0.75),
)


def test_it_comes_back_as_it_was(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, RESULTS)
    assert read_results(path) == RESULTS
    write_results(path, Results([]))
    assert read_results(path).reference is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "3 was expected, $.version"),
        (lambda d: d.update(format="else"), "'innaprop-conformance-results' was expected"),
        (lambda d: d.pop("seed"), "'seed' is a required property"),
        (lambda d: d.pop("suite"), "'suite' is a required property"),
        (lambda d: d.pop("machine"), "'machine' is a required property"),
        (lambda d: d["conformance"][0].pop("asked"), "'asked' is a required property"),
        (
            lambda d: d["conformance"][0]["verdicts"][0].update(exceeded_at=0),
            "less than the minimum",
        ),
        (lambda d: d.update(more=1), "'more' was unexpected"),
    ],
)
def test_another_file_is_refused(tmp_path, change, message):
    path = tmp_path / "results.json"
    write_results(path, RESULTS)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"results\.json must hold results") as error:
        read_results(path)
    assert message in str(error.value)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, RESULTS)
    path.write_text(path.read_text()[:-10])
    with pytest.raises(ValueError, match=r"results\.json must be a JSON file"):
        read_results(path)


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(OSError, match="no"):
        write_results(path, RESULTS)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_a_family_without_any_verdict_is_told_as_a_failure():
    results = Results(
        [Subject("dies", {}, [], trains=False), Subject("absent", {}, ["it"], trains=False)],
        [
            Conformance("dies", "float32", ["a"], failure="died"),
            Conformance("absent", "float32", ["a"]),
        ],
        families={"presets": ["a"]},
    )
    cells = tables.matrix(results)
    assert cells["dies"] == [tables.Cell("fails", False)]
    assert cells["absent"] == [tables.Cell("n/a", None)]


def test_the_matrix_has_a_cell_for_every_backend_and_family():
    cells = tables.matrix(RESULTS)
    assert cells == {
        "one": [tables.Cell("inf", False), tables.Cell("n/a", None)],
        "two": [tables.Cell("n/a", None), tables.Cell("n/a", None)],
    }
    assert tables.not_applicable(RESULTS) == ["groups (without groups): one"]


def test_the_worst_dtype_of_a_family_counts():
    good = replace(VERDICT, tolerance_used=0.25, passed=True)
    worse = replace(good, tolerance_used=0.5, dtype="float64")
    results = Results(
        [Subject("one", {}, [], False)],
        [Conformance("one", v.dtype, ["a case"], [v]) for v in (good, worse)],
        families={"presets": ["a case"]},
    )
    assert tables.matrix(results) == {"one": [tables.Cell("0.5", True)]}


def test_nothing_that_is_wrong_hides_another():
    found = replace(RESULTS.conformance[0], asked=["a case", "another", "a third"], expected={})
    (row,) = tables.conformance_rows(Results([Subject("one", {}, [], False)], [found]))
    verdict, error, failure = row.remarks
    assert verdict.startswith("a case in float32 exceeded its tolerance at update 3; ")
    assert error == "another in float32: ValueError: no"
    assert failure == "a case is without verdict"
    assert found.why_no_verdict("a third") == failure


def test_a_family_with_a_broken_promise_is_told_as_a_failure():
    broken = replace(
        VERDICT, tolerance_used=0.25, passed=False, reason="update 3 has changed gradient 0"
    )
    found = Conformance("one", "float32", ["a case"], [broken])
    results = Results([Subject("one", {}, [], False)], [found], families={"presets": ["a case"]})
    assert tables.matrix(results)["one"] == [tables.Cell("fails", False)]
    (row,) = tables.conformance_rows(results)
    assert row.remarks == ("a case in float32: update 3 has changed gradient 0",)


def test_a_family_with_an_error_is_told_as_a_failure_whatever_else_passed():
    good = replace(VERDICT, tolerance_used=0.25, passed=True, exceeded_at=None)
    found = Conformance("one", "float32", ["a case", "b"], [good], {"b": "ValueError: no"})
    results = Results(
        [Subject("one", {}, [], False)], [found], families={"presets": ["a case", "b"]}
    )
    assert tables.matrix(results)["one"] == [tables.Cell("fails", False)]
