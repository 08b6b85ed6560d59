"""External backends, registered by entry points, that are wrong in different ways."""

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from markupsafe import escape

from innaprop_conformance import __version__, results
from innaprop_conformance.backends.numpy import NumPyBackend
from innaprop_conformance.cases import FAMILIES
from innaprop_conformance.cases.dtypes import NARROW_STATE, STORAGE
from innaprop_conformance.runner import TIMEOUT, run_cases

FAMILY = ("--family", "corners", "--family", "schedules", "--family", "groups")
CONSTANT = len(FAMILIES["corners"])
CASES = CONSTANT + sum(not case.features for case in FAMILIES["schedules"].values())
"""The families that these backends run; they do not support the features of the others."""

BACKENDS = '''
import os, signal, time
import numpy as np
from innaprop_conformance.backends.numpy import NumPyBackend


class Good(NumPyBackend):
    optimizers = ()


class Bad(Good):
    dtypes = ("float32",)


class Absent(Bad):
    modules = ("no_such_framework",)


class AbsentPart(Bad):
    modules = ("no_such_framework.part",)


class Raises(Bad):
    def step(self, gradients, gammas):
        raise RuntimeError("cannot <step>")


class FailsInFloat64(Good):
    def step(self, gradients, gammas):
        if self._storage[0] == "float64":
            raise RuntimeError("float32 only")
        super().step(gradients, gammas)


class DiesAfterFloat32(Good):
    def step(self, gradients, gammas):
        if self._storage[0] == "float64":
            os._exit(0)
        super().step(gradients, gammas)


class WrongShape(Bad):
    def parameters(self):
        return super().parameters()[1:]


class UnknownDtype(Bad):
    dtypes = ("float8",)


class ClaimsFloat32(Bad):
    def begin(self, case, dtype):
        super().begin(case, "float64")


class FailsUndamped(Bad):
    def follow(self, case, dtype):
        theta = super().follow(case, dtype)
        return theta if case.group.hyperparameters.alpha else theta[1:]


class Dies(Bad):
    def step(self, gradients, gammas):
        os.kill(os.getpid(), signal.SIGKILL)


class DoesNotLoad(Bad):
    def __init__(self):
        import no_such_framework


class Coarse(Bad):
    """A step size off by 1e-4 of itself: five digits are right, not more."""

    def step(self, gradients, gammas):
        print("noise on standard output")
        super().step(gradients, [gamma * (1 + 1e-4) for gamma in gammas])


class Late(Bad):
    """Reads its schedule one step late."""

    before = None

    def begin(self, case, dtype):
        self.before = None
        super().begin(case, dtype)

    def step(self, gradients, gammas):
        super().step(gradients, self.before or gammas)
        self.before = gammas


class Hangs(Bad):
    def step(self, gradients, gammas):
        time.sleep(600)


class NoBackend:
    pass


class NotANumber(Bad):
    def step(self, gradients, gammas):
        super().step([np.full_like(g, np.nan) for g in gradients], gammas)
'''
NAMES = [
    "Good",
    "Absent",
    "AbsentPart",
    "Raises",
    "FailsInFloat64",
    "DiesAfterFloat32",
    "WrongShape",
    "UnknownDtype",
    "ClaimsFloat32",
    "Dies",
    "Hangs",
    "FailsUndamped",
    "DoesNotLoad",
    "Coarse",
    "Late",
    "NotANumber",
    "NotThere",
    "NoBackend",
]

CHOSEN = [name for name in NAMES if name not in ("Hangs", "FailsUndamped")]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "some_backends.py").write_text(BACKENDS)
    info = folder / "some_backends-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-backends\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[innaprop.backends]\n" + "".join(f"{name} = some_backends:{name}\n" for name in NAMES)
    )
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def command(environment, *arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "innaprop_conformance", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        cwd=cwd,
    )


@pytest.fixture(scope="module")
def done(environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    chosen = [part for name in CHOSEN for part in ("--backend", name)]
    files = ("--output", "report.html", "--json", "results.json", "--junit", "junit.xml")
    return command(environment, "run", *FAMILY, *chosen, *files, cwd=folder), folder


def lines(output, name):
    return [line for line in output.splitlines() if line.lstrip().startswith(name)]


def test_the_exit_code_and_the_last_line(done):
    result, _ = done
    assert result.returncode == 1
    last = result.stdout.splitlines()[-1]
    assert last == "1 of 14 backends agree with the ground truth; 2 cannot run here"


def test_a_good_one_beside_them_agrees(done):
    result, _ = done
    rows = [line for line in lines(result.stdout, "Good ") if "float" in line]
    assert len(rows) == 2
    assert all(f" {CASES}/{CASES} " in row and " agrees " in row for row in rows)


@pytest.mark.parametrize("name", ["FailsInFloat64", "DiesAfterFloat32"])
def test_one_dtype_of_two_is_not_enough(environment, name):
    result = command(environment, "run", *FAMILY, "--backend", name)
    assert result.returncode == 1
    first, second = (row for row in lines(result.stdout, name) if "float" in row and ":" not in row)
    assert " float32 " in first
    assert f" {CASES}/{CASES} " in first
    assert " fails " in second


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Absent", "cannot run here: needs no_such_framework"),
        ("AbsentPart", "cannot run here: needs no_such_framework.part"),
        ("Raises", f"in float32: RuntimeError: cannot <step> (and {CASES - 1} more)"),
        ("FailsInFloat64", "in float64: RuntimeError: float32 only"),
        ("DiesAfterFloat32", "have no verdict"),
        ("WrongShape", "ValueError: there must be 5 parameters, got 4"),
        ("UnknownDtype", f"dtypes must be of {', '.join((*STORAGE, *NARROW_STATE))}, got 'float8'"),
        ("ClaimsFloat32", "TypeError: parameters must be float32, got float64"),
        ("NotThere", "some_backends:NotThere cannot be loaded: AttributeError"),
        (
            "NoBackend",
            "some_backends:NoBackend must be a subclass of innaprop_conformance.backends.",
        ),
        ("Dies", f" in float32: its process died with signal {int(signal.SIGKILL)}"),
        ("DoesNotLoad", "ModuleNotFoundError: No module named 'no_such_framework'"),
        ("Coarse", "exceeded its tolerance at update"),
        ("Late", "exceeded its tolerance at update"),
        ("NotANumber", "exceeded its tolerance at update 1"),
    ],
)
def test_each_has_its_reason_on_the_terminal_and_in_the_report(done, name, reason):
    result, folder = done
    assert any(reason in line for line in lines(result.stdout, f"{name}:")), result.stdout
    html = (folder / "report.html").read_text()
    assert escape(reason) in html
    assert "<step>" not in html


def test_a_late_schedule_is_caught_where_there_is_one(done):
    result, _ = done
    (row,) = (line for line in lines(result.stdout, "Late ") if "float" in line)
    assert f" {CONSTANT}/{CASES} " in row
    assert " fails " in row


def test_the_json_file_fits_its_schema_and_makes_the_same_report(done, environment):
    result, folder = done
    document = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    jsonschema.Draft202012Validator(results.schema()).validate(document)
    again = command(environment, "report", "results.json", "--output", "again.html", cwd=folder)
    assert again.returncode == 1
    table = result.stdout[result.stdout.index(" backend ") :].replace("report.html", "again.html")
    assert again.stdout.endswith(table)
    assert (folder / "again.html").read_text() == (folder / "report.html").read_text()


def test_the_junit_file_has_a_test_for_every_verdict(done):
    _, folder = done
    root = ElementTree.parse(folder / "junit.xml").getroot()
    suites = {suite.get("name"): suite for suite in root}
    assert suites.keys() == set(CHOSEN)

    def count(name, what):
        found = len(suites[name].findall(f"testcase/{what}"))
        assert suites[name].get(f"{what}s") == str(found)
        return found

    assert int(suites["Good"].get("tests")) == 2 * CASES + 2
    assert suites["Good"].get("skipped") == "2"
    assert count("Good", "failure") == count("Good", "error") == 0
    assert int(suites["Absent"].get("skipped")) == 1
    assert count("Raises", "error") == CASES
    assert count("Dies", "error") == CASES
    assert count("FailsInFloat64", "error") == CASES
    assert count("WrongShape", "error") == CASES
    (error, *_) = suites["Raises"].findall("testcase/error")
    assert error.get("message").endswith(" in float32: RuntimeError: cannot <step>")
    properties = {p.get("name"): p.get("value") for p in suites["Good"].iter("property")}
    assert properties["innaprop-conformance"] == __version__
    for test in suites["Good"].iter("testcase"):
        assert test.find("skipped") is not None or float(test.get("time")) > 0
    assert count("Late", "failure") == CASES - CONSTANT
    (failure, *_) = suites["NotANumber"].findall("testcase/failure")
    assert " in float32 exceeded its tolerance at update 1; " in failure.get("message")


def test_one_that_hangs_is_ended_and_takes_no_other_along(environment, tmp_path):
    chosen = ("--backend", "Good", "--backend", "Hangs", "--family", "precision")
    done = command(environment, "run", *chosen, "--timeout", "20", "--junit", "j.xml", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = lines(done.stdout, "Hangs:")
    assert "precision,fast in float32: its process was ended after 20 s without an answer" in line
    assert done.stdout.splitlines()[-1] == "1 of 2 backends agree with the ground truth"
    errors = ElementTree.parse(tmp_path / "j.xml").getroot().findall("*/testcase/error")
    assert len(errors) == len(NumPyBackend.asked(FAMILIES["precision"], "float32"))


def test_a_case_may_take_ten_minutes_if_nothing_else_is_said(environment):
    help = command(environment, "run", "--help").stdout
    assert "[default: 600.0; x>0]" in " ".join(help.split())
    assert inspect.signature(run_cases).parameters["timeout"].default == TIMEOUT == 600


def test_one_bad_case_leaves_the_others_their_verdicts(environment, tmp_path):
    chosen = ("--backend", "FailsUndamped", *FAMILY, "--json", "results.json")
    command(environment, "run", *chosen, cwd=tmp_path)
    (found,) = results.read_results(tmp_path / "results.json").conformance
    assert found.failure is None
    assert 0 < len(found.errors) < len(found.asked)
    assert found.errors.keys() | {v.case for v in found.verdicts} == set(found.asked)
    assert all(verdict.passed for verdict in found.verdicts)
    assert {text.partition(":")[0] for text in found.errors.values()} == {"ValueError"}
    assert found.seconds.keys() == set(found.asked)


@pytest.mark.parametrize("safe", ["", "1"])
def test_by_module_and_class_from_the_working_directory(tmp_path, safe):
    # Neither the installed command nor Python with PYTHONSAFEPATH has it in the path.
    (tmp_path / "mine.py").write_text(BACKENDS)
    program = shutil.which("innaprop-conformance", path=str(Path(sys.executable).parent))
    done = subprocess.run(
        [program, "run", "--backend", "mine:Good", "--family", "precision"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONSAFEPATH": safe},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "1 of 1 backends agree with the ground truth"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone:Gone", "gone:Gone cannot be loaded: ModuleNotFoundError"),
        ("mine:Gone", "mine:Gone cannot be loaded: AttributeError"),
        ("mine:NoBackend", "mine:NoBackend must be a subclass of innaprop_conformance.backends"),
    ],
)
def test_a_class_that_is_none_is_told_before_the_work(environment, tmp_path, name, message):
    (tmp_path / "mine.py").write_text(BACKENDS)
    done = command(environment, "run", "--backend", name, cwd=tmp_path)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "ground truth" not in done.stdout


def test_a_report_goes_where_it_is_told_and_nowhere_else(done, environment, tmp_path):
    file = str(done[1] / "results.json")

    def written(*arguments):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        command(environment, "report", file, *arguments, cwd=folder)
        return [path.name for path in folder.iterdir()]

    assert written() == ["report.html"]
    assert written("--output", "mine.html") == ["mine.html"]
    assert written("--junit", "mine.xml") == ["mine.xml"]
    assert sorted(written("--junit", "a.xml", "--output", "b.html")) == ["a.xml", "b.html"]


def test_what_is_required_must_not_be_missing(environment):
    chosen = ("--backend", "Good", "--backend", "Absent")
    chosen = (*chosen, "--family", "precision")
    assert command(environment, "run", *chosen).returncode == 0
    required = command(environment, "run", *chosen, "--require", "--jobs", "1")
    assert required.returncode == 1
    last = required.stdout.splitlines()[-1]
    assert last == "1 of 1 backends agree with the ground truth; 1 cannot run here"


def test_one_that_is_only_absent_is_no_agreement(environment):
    result = command(environment, "run", "--backend", "Absent")
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == "nothing ran; 1 cannot run here"


def test_an_unknown_name_is_refused_with_the_known_ones(environment):
    result = command(environment, "run", "--backend", "tourch")
    assert result.returncode == 2
    assert "'tourch' is not one of" in result.stderr
    assert "keras-jax" in result.stderr


def test_a_report_that_cannot_be_written_is_told_before_the_work(environment, tmp_path):
    result = command(environment, "run", "--output", str(tmp_path / "nowhere" / "report.html"))
    assert result.returncode == 2
    assert "is missing or not" in result.stderr
    assert "ground truth" not in result.stdout


def test_a_family_that_does_not_apply_is_shown_with_the_reason(done):
    result, folder = done
    reason = "groups (without groups; without decay groups): "
    (line,) = (line for line in result.stdout.splitlines() if reason in line)
    assert "Good" in line
    html = (folder / "report.html").read_text()
    assert reason in html
    assert '<td class="none">n/a</td>' in html
    document = json.loads((folder / "results.json").read_text())
    good = [c for c in document["conformance"] if c["backend"] == "Good"]
    assert [c["not_applicable"].keys() for c in good] == [{"groups"}, {"groups"}]


def test_only_what_does_not_apply_is_no_agreement(environment):
    result = command(environment, "run", "--backend", "Good", "--family", "groups")
    assert result.returncode == 1
    assert "n/a" in result.stdout
    assert result.stdout.splitlines()[-1] == "nothing ran: there is no case to follow"


def test_another_seed_makes_other_values_and_is_told(environment, tmp_path):
    chosen = ("--backend", "Good", "--family", "precision", "--json", "results.json")
    errors = []
    for seed in ("0", "5"):
        done = command(environment, "run", *chosen, "--seed", seed, cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        document = json.loads((tmp_path / "results.json").read_text())
        assert document["seed"] == int(seed)
        errors.append(document["conformance"][0]["verdicts"][0]["errors"])
    assert errors[0] != errors[1]


def test_an_unknown_family_is_refused_with_the_known_ones(environment):
    result = command(environment, "run", "--family", "preset")
    assert result.returncode == 2
    assert "'preset' is not one of presets, corners" in result.stderr


def test_list_names_backends_modes_versions_families_and_cases(environment):
    result = command(environment, "list")
    assert result.returncode == 0
    assert any("no_such_framework" in line for line in lines(result.stdout, "Absent"))
    assert any("torch 2." in line for line in lines(result.stdout, "torch"))
    assert any(" distributed " in line for line in lines(result.stdout, "torch-ddp"))
    assert all(f"  {family}\n" in result.stdout for family in FAMILIES)
    assert "alpha=0.1,beta=0.9,decay=0.1,cosine (150 updates, float32, float64)" in result.stdout
