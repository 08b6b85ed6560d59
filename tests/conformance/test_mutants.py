"""Mutation testing: operators change exact places, sampling is reproducible, results are reused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from innaprop_conformance.faults.seeding import changed
from innaprop_conformance.mutants.mutant import Mutant, compiles, mutants_of
from innaprop_conformance.mutants.operators import Change, apply, changes
from innaprop_conformance.mutants.plan import Target, read_plan
from innaprop_conformance.mutants.reach import is_reached, traced
from innaprop_conformance.mutants.results import SUITE, TESTS, Results
from innaprop_conformance.mutants.sampling import sample
from innaprop_conformance.mutants.suite import SuiteJudge
from innaprop_conformance.mutants.tables import read_reasons, rows, shown, survivors
from innaprop_conformance.mutants.tokens import changes_in_c

PLAN = Path(__file__).with_name("mutants.toml")
CORE = Target("core", ("innaprop_core/momentum.py",), ("numpy",))


def made(text):
    """Return the changed sources, by operator."""
    found = {}
    for change in changes(text):
        found.setdefault(change.operator, []).append(apply(text, change))
    return found


@pytest.mark.parametrize(
    ("text", "operator", "expected"),
    [
        ("x = a + b * c", "arithmetic", ["x = a - b * c", "x = a + b / c"]),
        ("x = (a + b) - c", "arithmetic", ["x = (a + b) + c", "x = (a - b) - c"]),
        ("x = a <= b", "comparison", ["x = a < b"]),
        ("x = a is not b", "comparison", ["x = a is b"]),
        ("x = a and b or c", "and and or", ["x = ((a and b) and (c))", "x = ((a) or (b)) or c"]),
        ("x = 1", "constant", ["x = 2", "x = 0"]),
        ("x = 0.5", "constant", ["x = 0.5005"]),
        ("x = True", "constant", ["x = False"]),
        ("x = -a", "sign dropped", ["x = (a)"]),
        ("if a:\n    b()", "branch never", ["if False:\n    b()"]),
        ("if a:\n    b()", "branch always", ["if True:\n    b()"]),
        ("if a:\n    b()", "condition negated", ["if (not (a)):\n    b()"]),
        ("if a:\n    b()", "statement deleted", ["if a:\n    pass"]),
        ("a.b = c", "statement deleted", ["pass"]),
        ("a += b", "accumulation dropped", ["a = b"]),
        ("a += b", "arithmetic", ["a -= b"]),
        ("x = f(a, b)", "arguments swapped", ["x = f(b, a)"]),
        ("x = f(a, b)", "argument dropped", ["x = f(a)"]),
        ("x = f(a, k=b)", "keyword dropped", ["x = f(a)"]),
        ("x = f(k=a, l=b)", "keyword dropped", ["x = f(l=b)", "x = f(k=a)"]),
        ("def f(a):\n    return a + 1", "input returned", ["def f(a):\n    return a"]),
        ("def f(a):\n    return a + 1", "return value dropped", ["def f(a):\n    return None"]),
        ("x = a.clone()", "copy or cast dropped", ["x = a"]),
        ("x = min(a)", "other function", ["x = max(a)"]),
        ("x = a['b'], a['c']", "other key", ["x = a[\"c\"], a['c']", "x = a['b'], a[\"b\"]"]),
        ("x = {a: b, c: d}", "values swapped", ["x = {a: d, c: b}"]),
        ("x = ('a', 'b')", "element dropped", ["x = ('a',)"]),
        ("x = [a for a in b if c]", "filter dropped", ["x = [a for a in b if True]"]),
        ("for a in b:\n    break", "break and continue", ["for a in b:\n    continue"]),
        ("é = ü + ö", "arithmetic", ["é = ü - ö"]),
        ("x = f(\n    a,\n    b,\n)", "arguments swapped", ["x = f(\n    b,\n    a,\n)"]),
    ],
)
def test_operators(text, operator, expected):
    assert made(text)[operator] == expected


@pytest.mark.parametrize(
    "text",
    [
        '"""Says 1 + 1."""',
        'def f():\n    """Says 1 + 1."""',
        "raise ValueError(1 + 1)",
        "def f(a: 'int | 1' = b) -> g[1]:\n    pass",
        "x: g[1] = a",
        "Array = NDArray[np.float64]",
        "x = f'{1 + 1}'",
        "from a import b",
        "if TYPE_CHECKING:\n    x = 1",
        "@overload\ndef f(a=1): ...",
        "warnings.warn('a', 1)",
        "x = zip(a, strict=True)",
    ],
)
def test_what_only_people_read_is_left_alone(text):
    assert made(text) == {}


def test_who_imports_a_definition_does_not_come_by_it():
    text = "LIMIT = 1\n\n\ndef f(a=2):\n    return a\n\n\ndef g():\n    return LIMIT\n"
    lines = {c.line: c.lines for c in changes(text) if c.operator == "constant"}
    assert lines == {1: {9}, 4: {5}}


@pytest.mark.parametrize(
    ("line", "operator", "expected"),
    [
        ("x = a + b;", "arithmetic", "x = a - b;"),
        ("if (f(a) < b) x = c;", "comparison", "if (f(a) <= b) x = c;"),
        ("if (f(a) < b) x = c;", "condition negated", "if (!(f(a) < b)) x = c;"),
        ("x = 0x7fffu;", "constant", "x = 0x8000u;"),
        ("x = y;", "statement deleted", ";"),
        ("x = c->gamma;", "other key", "x = c->decay;"),
    ],
)
def test_operators_in_c(line, operator, expected):
    text = f"#include <math.h> /* 1 + 1 */\nint f(int a) {{\n    {line}\n    y(c->decay);\n}}\n"
    found = {c.operator: apply(text, c) for c in reversed(changes_in_c(text))}
    assert found[operator].splitlines()[2].strip() == expected
    assert min(c.line for c in changes_in_c(text)) == 3


def test_every_mutant_fits_its_source_and_has_a_name_of_its_own():
    plan = read_plan(PLAN)
    mutants = [mutant for target in plan.targets for mutant in mutants_of(target)]
    assert len({mutant.id for mutant in mutants}) == len(mutants) > 5000
    for mutant in mutants[::50]:
        assert changed(mutant.fault("numpy"))


def test_what_a_compiler_refuses_is_no_mutant():
    (mutant,) = mutants_of(CORE)[:1]
    assert compiles(mutant, [])
    bad = replace(mutant, change=replace(mutant.change, new="    return return\n"))
    assert not compiles(bad, [])
    assert compiles(mutant, [sys.executable, "-m", "py_compile"])
    assert not compiles(mutant, [sys.executable, "-c", "raise SystemExit(1)"])


def test_a_sample_is_the_same_every_time_and_spread():
    mutants = mutants_of(Target("core", ("innaprop_core/*.py",), ("numpy",)))
    some = sample(mutants, 40, 1)
    assert some == sample(mutants[::-1], 40, 1)
    assert some[:20] == sample(mutants, 20, 1)
    assert some != sample(mutants, 40, 2)
    assert len({m.file for m in some}) == len({m.file for m in mutants})
    assert len({m.change.operator for m in some}) >= 15
    assert len({(m.file, m.change.line) for m in some}) > 35
    # Mutants with results are sampled first.
    known = mutants[5].id
    assert mutants[5] not in some
    assert sample(mutants, 40, 1, {known})[0].id == known
    assert len(sample(mutants[:3], 40, 1)) == 3


def test_lines_of_processes_and_of_those_they_start(tmp_path):
    package = tmp_path / "some"
    package.mkdir()
    (package / "__init__.py").write_text("def f(a):\n    if a:\n        b = 1\n    return a\n")
    other = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    )
    with traced({"some": package}, str(tmp_path)) as trace:
        program = "import some, os; some.f(0); os._exit(0)"
        command = [sys.executable, "-c", other, program]
        subprocess.run(command, check=True, env={**trace.environment, "PATH": ""})
        lines = trace.lines()
    assert lines == {"some/__init__.py": [1, 2, 4]}
    here = Mutant("", "", "some/__init__.py", Change("", "", frozenset({2}), 2, "", ""))
    there = Mutant("", "", "some/__init__.py", Change("", "", frozenset({3}), 3, "", ""))
    assert is_reached(here, lines)
    assert not is_reached(there, lines)


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results.jsonl")


def test_results_are_found_again(results, tmp_path):
    one, two, three, four = mutants_of(CORE)[:4]
    results.add(one, SUITE, "numpy", {"caught": "at once", "follows": True})
    results.add(two, SUITE, "numpy", {"caught": None, "late": "in no time"})
    results.add(two, TESTS, "core", {"caught": "a test"})
    results.add(three, SUITE, "numpy", {"caught": None, "late": None})
    results.add(four, SUITE, "numpy", {"caught": "ValueError", "follows": False})
    found = Results(tmp_path / "results.jsonl")
    assert found.mutants == {one.id, two.id, three.id, four.id}
    assert found.caught(one, SUITE) == "numpy: at once"
    assert found.asked(two, SUITE) == {"numpy"}
    assert found.asked(two, TESTS) == {"core"}
    assert [line.endswith("in no time") for line in found.late([one, two], SUITE)] == [True]
    assert survivors([one, two, three], found) == [three]
    assert rows([one, two, three, four], found)[-1] == ("all", "4", *["1 (25%)"] * 4)
    again = Results(tmp_path / "results.jsonl", again=True)
    assert again.asked(one, SUITE) == {"numpy"}
    assert again.asked(two, SUITE) == again.asked(three, SUITE) == set()


def test_a_file_of_something_else_is_refused(tmp_path):
    file = tmp_path / "results.jsonl"
    file.write_text("[]\n")
    with pytest.raises(ValueError, match="must hold results"):
        Results(file)
    file.write_text("survivor = [1]")
    with pytest.raises(ValueError, match="must hold survivors"):
        read_reasons(file)
    with pytest.raises(ValueError, match="must hold a plan"):
        read_plan(file)


def test_the_suite_catches_what_is_wrong_and_what_raises_or_hangs(tmp_path):
    (step,) = (m for m in mutants_of(CORE) if m.change.new == "    return theta + descent, m, v\n")
    old = "    descent, m, v = move(theta, m, v, g, c, sqrt)\n"
    line = step.change.line - 1

    def mutant(name, new):
        return Mutant(name, "core", step.file, Change("", "step", frozenset(), line, old, new))

    asked = [
        step,
        mutant("harmless", f"{old}    # A remark.\n"),
        mutant("raising", "    no_such_name\n"),
        mutant("hanging", "    while True: pass\n"),
        mutant("dying", "    import os; os._exit(3)\n"),
    ]
    told = {}
    judge = SuiteJudge(None, tmp_path, seconds=1.0, jobs=1, grace=15.0)
    judge.ask("numpy", {}, asked, lambda m, name, outcome: told.update({m.id: outcome}))
    caught = {name: outcome["caught"] for name, outcome in told.items()}
    assert caught[step.id].endswith("at update 1")
    assert caught["harmless"] is None
    assert told["harmless"]["late"].startswith("not caught in 1 s")
    assert "no_such_name" in caught["raising"]
    assert [name for name in told if told[name]["follows"]] == [step.id, "harmless"]
    assert caught["hanging"].startswith("no answer in")
    assert "exit code 3" in caught["dying"]


def test_a_change_is_shown_with_what_is_around_it():
    (change,) = (c for c in changes("some_name = first + second\n") if c.operator == "arithmetic")
    assert shown(change) == "arithmetic: `me_name = first + second` → `me_name = first - second`"


def test_the_command_needs_a_plan(tmp_path):
    file = tmp_path / "plan.toml"
    file.write_text("")
    command = [sys.executable, "-m", "innaprop_conformance.mutants", str(file)]
    done = subprocess.run(
        [*command, "--results", str(tmp_path / "r.jsonl")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "must hold a plan" in done.stderr


def test_the_command_goes_on_where_it_was(tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'backends = ["numpy"]\n[[target]]\nname = "core"\n'
        'files = ["innaprop_core/residual.py"]\nbackends = ["*"]\n'
        '[[unseen]]\nfile = "innaprop_core/residual.py"\nbackends = ["numpy"]\n'
    )
    file = tmp_path / "r.jsonl"
    command = [sys.executable, "-m", "innaprop_conformance.mutants", str(plan)]
    command += ["--results", str(file), "--number", "1", "--seconds", "0", "--judge", "suite"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "**not said**" in done.stdout
    (found,) = map(json.loads, file.read_text().splitlines())
    assert found["by"] == "numpy"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert len(file.read_text().splitlines()) == 1
