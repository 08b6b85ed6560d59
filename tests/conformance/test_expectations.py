"""Expected failures are reported as such, and must fail; their files are validated."""

import subprocess
import sys
from xml.etree import ElementTree

import pytest

from innaprop_conformance import expectations, junit, published, tables
from innaprop_conformance.backends.numpy import NumPyBackend
from innaprop_conformance.cases import select
from innaprop_conformance.expectations import Expectation, expect, lines_of, read_expectations
from innaprop_conformance.judge import Verdict
from innaprop_conformance.results import Conformance, Outcome, Results, Subject

COARSE = """
from innaprop_conformance.backends.numpy import NumPyBackend


class Coarse(NumPyBackend):
    dtypes = ("float32",)
    optimizers = ()

    def step(self, gradients, gammas):
        super().step(gradients, [gamma * (1 + 1e-3) for gamma in gammas])
"""


FOLLOWED = len(NumPyBackend.asked(select(("precision",)), "float32"))


def read(tmp_path, text):
    path = tmp_path / "some.txt"
    path.write_text(text)
    return read_expectations([path])


def verdict(case, passed):
    share = 0.5 if passed else 7.25
    left = None if passed else 3
    return Verdict(case, "float32", passed, 1.0, 0.1, 1.0, share, share, 0, 3, left, (0.1,))


RESULTS = Results(
    [Subject("mine", {"numpy": "2.0"}, [], trains=False)],
    [
        Conformance(
            "mine",
            "float32",
            ["good", "bad", "raises"],
            [verdict("good", True), verdict("bad", False)],
            {"raises": "ValueError: no"},
        )
    ],
    families={"a family": ["good", "bad"], "another": ["raises"]},
)
KNOWN = {("mine", "float32"): ["good", "bad", "raises"], ("other", "float64"): ["good"]}


def expected(*cases, strict=True):
    lines = [Expectation("mine", "float*", case, "it never could", "f:1") for case in cases]
    return expect(RESULTS, lines, KNOWN, strict)


def test_a_reason_stands_behind_a_line_or_above_it(tmp_path):
    found = read(
        tmp_path,
        "# Nobody's.\n\n# What all\n# of these share.\na float32 one\na * t*  # its own\n"
        "a float16 x\n# Another.\nb * *\n",
    )
    assert [(e.backend, e.dtype, e.case, e.reason) for e in found] == [
        ("a", "float32", "one", "What all of these share."),
        ("a", "*", "t*", "its own"),
        ("a", "float16", "x", "What all of these share."),
        ("b", "*", "*", "Another."),
    ]
    assert [e.where for e in found] == ["some.txt:5", "some.txt:6", "some.txt:7", "some.txt:9"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a float32  # why\n", r"some.txt:1 must be BACKEND DTYPE CASE  # reason, got 'a float32"),
        ("a b c d  # why\n", "some.txt:1 must be BACKEND DTYPE CASE"),
        ("\na float32 one\n", "some.txt:2 must have a reason: a comment after 'a float32 one'"),
        ("# why\n\na float32 one\n", "some.txt:3 must have a reason"),
        ("a float32 one  #\n", "some.txt:1 must have a reason"),
    ],
)
def test_a_line_that_says_too_little_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_case_counts_and_a_pattern_is_of_the_whole_name():
    line = Expectation("mine", "float32", "long,*", "")
    assert line.matches("mine", "float32", "long,fast")
    assert not line.matches("Mine", "float32", "long,fast")
    assert not line.matches("mine", "float32", "so long,fast")


def test_without_expectations_what_fails_fails():
    (found,) = RESULTS.conformance
    assert list(found.outcomes.values()) == [Outcome.PASSED, Outcome.FAILED, Outcome.ERROR]
    assert not found.passed
    assert tables.conclusion(RESULTS) == (False, "0 of 1 backends agree with the ground truth")


def test_what_fails_as_expected_is_no_failure():
    results = expected("bad", "raises")
    (found,) = results.conformance
    assert list(found.outcomes.values()) == [Outcome.PASSED, Outcome.XFAILED, Outcome.XFAILED]
    assert tables.conclusion(results) == (
        True,
        "0 of 1 backends agree with the ground truth; 1 fails as expected",
    )
    (row,) = tables.conformance_rows(results)
    assert row.mark == "as expected"
    assert row.remarks == ("2 failed as expected in float32: it never could",)
    assert [cell.is_expected for cell in tables.matrix(results)["mine"]] == [True, True]


def test_all_that_fails_has_to_be_expected():
    assert not tables.conclusion(expected("bad"))[0]
    assert not tables.conclusion(expected("raises"))[0]


def test_what_is_expected_to_fail_and_passes_is_told_and_fails():
    results = expected("*")
    (row,) = tables.conformance_rows(results)
    assert not row.good
    assert "passed although expected to fail in float32: good" in row.remarks
    assert not tables.conclusion(results)[0]
    lenient = expected("*", strict=False)
    (row,) = tables.conformance_rows(lenient)
    assert row.good
    assert "passed although expected to fail in float32: good" in row.remarks


def test_a_death_is_expected_only_with_the_cases_that_it_took_along():
    dead = Conformance("mine", "float32", ["a", "b"], [verdict("a", True)], failure="signal 9")
    assert not dead.passed
    taken = {"b": "it dies"}
    assert expectations.replace(dead, expected=taken).passed
    at_its_end = expectations.replace(dead, asked=["a"], expected={})
    assert not at_its_end.passed


def test_a_line_that_matches_no_case_is_told():
    lines = [
        Expectation("mine", "float32", "good", "", "f:1"),
        Expectation("mine", "float64", "good", "", "f:2"),
        Expectation("mine", "float32", "gone", "", "f:3"),
        Expectation("other", "*", "good", "", "f:4"),
        Expectation("nobody", "*", "good", "", "f:5"),
    ]
    unmatched = expect(RESULTS, lines, KNOWN).unmatched
    assert unmatched == ["f:2: mine float64 good", "f:3: mine float32 gone", "f:5: nobody * good"]


def test_in_junit_it_is_skipped_and_what_passes_is_a_failure(tmp_path):
    def outcomes(results):
        junit.write_junit(tmp_path / "j.xml", results)
        tests = ElementTree.parse(tmp_path / "j.xml").getroot().iter("testcase")
        return {test.get("name"): [child.tag for child in test] for test in tests}

    assert outcomes(expected("bad")) == {"good": [], "bad": ["skipped"], "raises": ["error"]}
    assert outcomes(expected("g*")) == {
        "good": ["failure"],
        "bad": ["failure"],
        "raises": ["error"],
    }
    assert outcomes(expected("g*", strict=False))["good"] == []


def test_the_lines_to_begin_with_are_read_again_and_expect_all_that_failed(tmp_path):
    lines = lines_of(RESULTS)
    assert lines == [
        "mine float32 bad  # exceeded at update 3, 7.2 times what is allowed",
        "mine float32 raises  # ValueError: no",
    ]
    results = expect(RESULTS, read(tmp_path, "\n".join(lines)), KNOWN)
    assert tables.conclusion(results)[0]
    assert lines_of(results) == lines


def test_in_table_and_badge():
    results = expected("bad", "raises")
    (row,) = published.table_rows([results])
    assert row[:5] == ("mine", "float32", "numpy 2.0", "1/3, 2 expected to fail", "7.2")
    badge = published.badges(results)["mine"]
    assert (badge["message"], badge["color"]) == ("1/3, 2 expected to fail", "yellow")
    assert published.badges(RESULTS)["mine"]["color"] == "red"
    assert published.badges(expected("good"))["mine"]["message"] == "1/3, 1 passed unexpectedly"


def command(cwd, *arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, capture_output=True, text=True
    )


def run(cwd, *arguments):
    chosen = ("--backend", "coarse:Coarse", "--family", "precision")
    return command(cwd, "innaprop_conformance", "run", *chosen, *arguments)


def test_on_the_command_line_and_in_a_file_of_results(tmp_path):
    (tmp_path / "coarse.py").write_text(COARSE)
    assert run(tmp_path, "--json", "results.json").returncode == 1
    lines = command(tmp_path, "innaprop_conformance", "xfails", "results.json").stdout
    assert lines.count("coarse:Coarse float32 precision") == FOLLOWED
    (tmp_path / "x.txt").write_text(lines + "coarse:Coarse float32 gone  # a typo\n")
    done = run(tmp_path, "--xfails", "x.txt", "--json", "results.json", "--output", "report.html")
    assert done.returncode == 0, done.stdout
    assert " as expected " in done.stdout
    line = f"expectation without a case: x.txt:{FOLLOWED + 1}: coarse:Coarse float32 gone"
    assert line in done.stdout
    assert "as expected" in (tmp_path / "report.html").read_text()
    again = command(tmp_path, "innaprop_conformance", "report", "results.json")
    assert again.returncode == 0
    assert line in again.stdout


def test_one_that_passes_fails_the_run_unless_that_is_allowed(tmp_path):
    (tmp_path / "coarse.py").write_text(COARSE.replace("1e-3", "0"))
    (tmp_path / "x.txt").write_text("coarse:* float32 *  # it was coarse once\n")
    done = run(tmp_path, "--xfails", "x.txt")
    assert done.returncode == 1
    assert "passed although expected to fail in float32: precision" in done.stdout
    assert run(tmp_path, "--xfails", "x.txt", "--no-strict-xfails").returncode == 0


def test_a_bad_file_is_told_before_the_work(tmp_path):
    (tmp_path / "coarse.py").write_text(COARSE)
    (tmp_path / "x.txt").write_text("coarse:Coarse float32\n")
    done = run(tmp_path, "--xfails", "x.txt")
    assert done.returncode == 2
    assert "x.txt:1 must be BACKEND DTYPE CASE" in done.stderr
    assert "ground truth" not in done.stdout


def test_in_pytest_it_is_an_xfail(tmp_path):
    (tmp_path / "coarse.py").write_text(COARSE)
    (tmp_path / "x.txt").write_text("coarse:Coarse float32 *  # too coarse\n")
    done = command(
        tmp_path,
        *(
            "pytest",
            "-q",
            "-rx",
            "-p",
            "no:cacheprovider",
            "-p",
            "innaprop_conformance.pytest_plugin",
        ),
        *("--pyargs", "innaprop_conformance", "--backend", "coarse:Coarse"),
        *("--family", "precision", "--xfails", "x.txt"),
    )
    assert done.returncode == 0, done.stdout
    assert f"{FOLLOWED} xfailed" in done.stdout
    assert "too coarse" in done.stdout
