"""Results as badges and as a table in a documentation page."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from innaprop_conformance import published
from innaprop_conformance.cli import main
from innaprop_conformance.judge import Verdict
from innaprop_conformance.pages import write_part
from innaprop_conformance.results import Conformance, Results, Subject, write_results

COLORS = {"brightgreen", "green", "yellowgreen", "yellow", "orange", "red", "blue", "lightgrey"}
"""Color names of shields.io."""


def verdict(case, dtype="float32", tolerance_used=0.5):
    passed = tolerance_used <= 1
    left = None if passed else 1
    return Verdict(case, dtype, passed, 1.0, 0.1, 1.0, *[tolerance_used] * 2, 0, 1, left, (0.1,))


RESULTS = Results(
    [
        Subject("good", {"torch": "2.13", "jax": "0.10"}, [], False),
        Subject("bad/../one", {}, [], False),
        Subject("absent", {}, ["jax"], False),
        Subject("not asked", {}, [], False),
    ],
    [
        Conformance(
            "good", "float32", ["a", "b"], [verdict("a"), verdict("b", tolerance_used=0.25)]
        ),
        Conformance("good", "float64", ["a"], [verdict("a", "float64", 0.75)]),
        Conformance("bad/../one", "float32", ["a", "b"], [verdict("a", tolerance_used=7.25)]),
        Conformance("absent", "float32", ["a"]),
        Conformance("not asked", "float32", []),
    ],
    families={"presets": ["a", "b"]},
    made="2026-11-26T10:00:00+00:00",
    suite="1.5",
)


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), terminal_width=200)


@pytest.fixture
def file(tmp_path):
    write_results(tmp_path / "results.json", RESULTS)
    return tmp_path / "results.json"


def test_a_badge_is_what_shields_io_reads(file, tmp_path):
    folder = tmp_path / "some" / "badges"
    done = run("badge", file, "--output", folder)
    assert done.exit_code == 0, done.output
    badges = {path.name: json.loads(path.read_text()) for path in folder.iterdir()}
    assert badges.keys() == {"good.json", "bad_.._one.json", "absent.json", "not_asked.json"}
    for badge in badges.values():
        assert badge.keys() == {"schemaVersion", "label", "message", "color"}
        assert badge["schemaVersion"] == 1
        assert badge["label"] == "INNAprop conformance 1.5"
        assert badge["color"] in COLORS
    told = {name: (badge["message"], badge["color"]) for name, badge in badges.items()}
    assert told == {
        "good.json": ("3/3", "brightgreen"),
        "bad_.._one.json": ("0/2", "red"),
        "absent.json": ("not run", "lightgrey"),
        "not_asked.json": ("not run", "lightgrey"),
    }


def test_a_row_for_each_backend_and_dtype_that_ran():
    assert published.table_rows([RESULTS]) == [
        ("good", "float32", "torch 2.13, jax 0.10", "2/2", "0.5", "2026-11-26", "1.5"),
        ("good", "float64", "torch 2.13, jax 0.10", "1/1", "0.75", "2026-11-26", "1.5"),
        ("bad/../one", "float32", "", "0/2", "7.2", "2026-11-26", "1.5"),
    ]


def test_of_several_files_the_last_one_with_a_backend_counts(tmp_path, file):
    (_, bad, *_) = RESULTS.backends
    later = replace(
        RESULTS,
        backends=[bad, RESULTS.backends[2]],
        conformance=[Conformance(bad.name, "float32", ["a"], [verdict("a")])],
        made="2027-01-01T00:00:00+00:00",
    )
    write_results(tmp_path / "later.json", later)
    done = run("table", file, tmp_path / "later.json")
    assert done.exit_code == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.output.splitlines()]
    assert tuple(rows[0]) == published.COLUMNS
    assert [(row[0], row[3], row[5]) for row in rows[2:]] == [
        ("good", "2/2", "2026-11-26"),
        ("good", "1/1", "2026-11-26"),
        (bad.name, "1/1", "2027-01-01"),
    ]


def test_a_table_stands_between_its_marks_and_is_made_again(tmp_path, file):
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- begin: results -->\n<!-- end: results -->\n\nafter\n")
    assert run("table", file, "--page", page).exit_code == 0
    made = page.read_text()
    assert made.startswith("before\n\n<!-- begin: results -->\n\n| backend |")
    assert made.endswith(" |\n\n<!-- end: results -->\n\nafter\n")
    assert run("table", file, "--page", page).exit_code == 0
    assert page.read_text() == made


@pytest.mark.parametrize(
    "text",
    [
        "nothing\n",
        "<!-- begin: results -->\n",
        "<!-- end: results -->\n<!-- begin: results -->\n",
        "<!-- begin: results -->\n" * 2 + "<!-- end: results -->\n",
    ],
)
def test_a_page_without_the_marks_is_left_as_it_is(tmp_path, file, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"page\.md must have one line <!-- begin: results -->"):
        write_part(page, "results", "new")
    done = run("table", file, "--page", page)
    assert done.exit_code == 2
    assert "must have one line" in done.output
    assert page.read_text() == text


def test_another_file_is_refused(tmp_path):
    (tmp_path / "no.json").write_text("{}")
    for command in ("badge", "table", "xfails", "report"):
        done = run(command, tmp_path / "no.json")
        assert done.exit_code == 2
        assert "must hold results" in done.output
