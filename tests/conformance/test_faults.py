"""The suite catches every fault seeded into an adapter, without false alarms."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from innaprop_conformance.faults.fault import Edit, Fault, read_faults
from innaprop_conformance.faults.hunt import Hunter
from innaprop_conformance.faults.seeding import changed, seeded
from innaprop_conformance.pages import marks

FOLDER = Path(__file__).with_name("faults")
FAULTS = read_faults([FOLDER])
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
LINE = "    descent, m, v = move(theta, m, v, g, c, sqrt)\n"
STEP = "innaprop_core/momentum.py"


def fault(old, new, **values):
    return Fault("a fault", ("numpy",), (Edit(STEP, old, new),), **values)


HARMLESS = fault(LINE, f"    # A remark.\n{LINE}")
HARMFUL = fault("return theta - descent, m, v", "return theta - 2 * descent, m, v")


def command(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "innaprop_conformance.faults", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_all_faults_are_caught_and_no_healthy_backend_is():
    done = command(FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr
    runs_table = done.stdout.rpartition("false alarms")[2].splitlines()
    (total,) = [line.split() for line in runs_table if line.startswith(" all ")]
    (_, faults, caught, runs, false_alarms) = total
    assert int(faults) == int(caught) == sum(len(f.backends) for f in FAULTS)
    assert int(runs) >= 20 * 2 * 5
    assert int(false_alarms) == 0


@pytest.mark.parametrize("one", FAULTS, ids=lambda f: f"{f.backends[0]}: {f.name}")
def test_every_fault_fits_its_source(one):
    assert changed(one)


def test_the_page_shows_every_fault():
    begin, end = marks("faults")
    made = PAGE.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    table, _ = made.strip().split("\n\n")  # The second table is about healthy runs.
    shown = [tuple(line.strip("| ").split(" | ")[:2]) for line in table.splitlines()]
    assert shown[2:] == [(f.name, name) for f in FAULTS for name in f.backends]
    assert "not caught" not in made


def test_what_changes_nothing_is_not_caught(tmp_path):
    assert Hunter("numpy", 3, tmp_path).hunt(HARMLESS) is None


def test_the_first_case_that_catches_is_told(tmp_path):
    case = "corner,no-eps"
    catch = Hunter("numpy", 3, tmp_path).hunt(fault(*_texts(HARMFUL), cases=(case,)))
    assert (catch.case, catch.dtype, catch.update) == (case, "float32", 1)


def test_a_fault_in_a_healthy_run_is_a_false_alarm(tmp_path):
    hunter = Hunter("numpy", 3, tmp_path)
    assert list(hunter.false_alarms(["corner,no-eps"], [1])) == [None] * 4
    with seeded(HARMFUL):
        told = list(hunter.false_alarms(["corner,no-eps"], []))
    assert told == [f"corner,no-eps, seed 0, in {d} at update 1" for d in ("float32", "float64")]


def test_afterwards_the_source_is_healthy_again():
    before = importlib.import_module("innaprop_core.momentum")
    with seeded(HARMFUL):
        inside = importlib.import_module("innaprop_core.momentum")
        assert "2 * descent" in Path(inside.__file__).read_text()
    assert importlib.import_module("innaprop_core.momentum") is before
    assert "2 * descent" not in Path(before.__file__).read_text()


@pytest.mark.parametrize(("old", "times"), [("no such text", 0), ("import", 6)])
def test_a_text_that_is_not_there_once_is_refused(old, times):
    with pytest.raises(ValueError, match=f"found it {times} times"):
        changed(fault(old, ""))


def test_an_unknown_case_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no case nothing"):
        Hunter("numpy", 3, tmp_path).hunt(fault(*_texts(HARMFUL), cases=("nothing",)))


def test_an_exception_is_a_catch_only_if_the_fault_says_so(tmp_path):
    old, new = LINE, '    raise RuntimeError("refused")\n'
    hunter = Hunter("numpy", 3, tmp_path)
    assert hunter.hunt(fault(old, new, raises="refused")).raised == "refused"
    with pytest.raises(RuntimeError, match="refused"):
        hunter.hunt(fault(old, new))


@pytest.mark.parametrize(
    ("one", "complaint"),
    [
        (HARMLESS, "numpy, a fault: not caught"),
        (
            fault(LINE, "    return no_such_name\n"),
            "numpy, a fault: NameError: name 'no_such_name'",
        ),
    ],
)
def test_the_command_fails_with_the_reason(one, complaint, tmp_path):
    file = tmp_path / "faults.toml"
    old, new = _texts(one)
    head = f'[[fault]]\nname = "a fault"\nbackends = ["numpy"]\nfile = "{STEP}"\n'
    file.write_text(f"{head}old = '''\n{old}'''\nnew = '''\n{new}'''\n")
    done = command(file, "--updates", 1, "--seeds", 0)
    assert done.returncode == 1
    assert complaint in done.stdout


def test_only_faults_in_files_that_have_changed(tmp_path):
    def git(*arguments):
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *names, *arguments], cwd=tmp_path, check=True, capture_output=True)

    source = tmp_path / "adapters" / STEP
    source.parent.mkdir(parents=True)
    source.write_text("before\n")
    git("init")
    git("add", ".")
    git("commit", "--message", "before")
    faults = tmp_path / "faults.toml"
    old, new = _texts(HARMLESS)
    head = f'[[fault]]\nname = "a fault"\nbackends = ["numpy"]\nfile = "{STEP}"\n'
    faults.write_text(f"{head}old = '''\n{old}'''\nnew = '''\n{new}'''\n")
    options = ["--changed-since", "HEAD", "--updates", 1, "--seeds", 0]
    done = command(faults, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "no fault is in a file that has changed since HEAD\n"
    source.write_text("after\n")
    done = command(faults, *options, cwd=tmp_path)
    assert done.returncode == 1
    assert "numpy, a fault: not caught" in done.stdout
    done = command(faults, "--changed-since", "no-such-revision", cwd=tmp_path)
    assert done.returncode == 2
    assert "no-such-revision" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fault = 1", "must hold faults"),
        ('[[fault]]\nname = "a"\nbackends = ["b"]\n', "must hold faults"),
        ('[[fault]]\nname = "a"\nfile = "f"\nold = "x"\nnew = "y"\n', "must have backends"),
        (2 * '[[fault]]\nname = "a"\nbackends=["b"]\nfile="f"\nold="x"\nnew="y"\n', "of its own"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(text, message, tmp_path):
    file = tmp_path / "faults.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_faults([file])


def _texts(one):
    (edit,) = one.edits
    return edit.old, edit.new
