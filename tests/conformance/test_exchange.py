"""Cases are exported to files, run by an implementation in C, and its outputs are judged."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from innaprop_conformance import __version__, exchange, tables
from innaprop_conformance.cases import CASES
from innaprop_conformance.cli import main
from innaprop_conformance.results import read_results
from innaprop_conformance.truth import find_truth

SOURCE = Path(__file__).parents[2] / "docs" / "examples" / "innaprop.c"
NAMES = (
    "corner,no-momentum",
    "count,65530",
    "gaps,fast",
    "gradients,subnormal",
    "groups,all-settings",
    "schedule,alpha+beta",
    "shapes,empty-among-others",
    "shapes,scalar",
    "bits,float32,fast",
    "bits,float64,accurate",
)
FAULTS = {
    "viscous = 1 - alpha * beta": "viscous = (1 - alpha * beta) * 1.0001",
    "impulse = gamma * beta": "impulse = gamma * beta * 1.0001",
    "theta[i] -= decay * theta[i] + rate * pushed": "theta[i] -= decay * theta[i] + rate * m[i]",
}
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def cases():
    return {name: CASES[name] for name in NAMES}


@pytest.fixture(scope="module")
def truths(cases):
    return {name: find_truth(case) for name, case in cases.items()}


@pytest.fixture
def folder(cases, truths, tmp_path):
    exchange.export(tmp_path / "export", cases, truths)
    return tmp_path / "export"


def follow_in_c(folder, source, real, cases, dtype):
    program = folder.parent / "program"
    text = folder.parent / "program.c"
    text.write_text(source)
    # The compiler may use fused multiply-add or not.
    options = ["-O2", "-Wall", "-Wextra", "-Werror", f"-DREAL={real}"]
    subprocess.run(["cc", *options, text, "-o", program, "-lm"], check=True)
    for name in cases:
        paths = [folder / name / f"{file}.safetensors" for file in ("inputs", dtype)]
        subprocess.run([program, *paths], check=True)


def verdicts(folder, cases, truths):
    return [
        exchange.check(folder, cases[name], dtype, truths[name])
        for name, dtype in exchange.outputs(folder, cases)
    ]


@needs_compiler
def test_the_example_in_c_agrees(folder, cases, truths):
    for real, dtype in (("float", "float32"), ("double", "float64")):
        own = {name: case for name, case in cases.items() if dtype in case.dtypes}
        follow_in_c(folder, SOURCE.read_text(), real, own, dtype)
    found = verdicts(folder, cases, truths)
    assert len(found) == 2 * len(NAMES) - 2  # Cases of "all bits" have one dtype each.
    assert [verdict.case for verdict in found if not verdict.passed] == []


@needs_compiler
@pytest.mark.parametrize("right", FAULTS)
@pytest.mark.parametrize(("real", "dtype"), [("float", "float32"), ("double", "float64")])
def test_with_one_coefficient_changed_it_does_not(folder, cases, truths, right, real, dtype):
    source = SOURCE.read_text()
    assert source.count(right) == 1
    follow_in_c(folder, source.replace(right, FAULTS[right]), real, cases, dtype)
    assert not all(verdict.passed for verdict in verdicts(folder, cases, truths))


def test_the_example_is_short():
    assert len(SOURCE.read_text().splitlines()) < 100


def test_what_is_expected_passes_and_what_is_not_there_is_left_out(folder, cases, truths):
    name = NAMES[0]
    shutil.copy(folder / name / "expected.safetensors", folder / name / "float64.safetensors")
    assert [v.passed for v in verdicts(folder, cases, truths)] == [True]


def test_cases_come_back_as_they_were(folder, cases):
    assert exchange.read_cases(folder) == cases


def test_the_version_of_the_suite_is_in_it(folder):
    assert json.loads((folder / "cases.json").read_text())["suite"] == __version__
    assert f"suite {__version__}" in (folder / "README.md").read_text()


def test_inputs_are_exact(folder, cases):
    case = cases["groups,all-settings"]
    tensors = load_file(folder / case.name / "inputs.safetensors")
    for row, gradients in zip(tensors["gradients"], case.stream(), strict=True):
        np.testing.assert_array_equal(row, np.concatenate([np.ravel(g) for g in gradients]))
    assert tensors["hyperparameters"][3, -1, 1] == 1.0
    assert tensors["k"][3].tolist() == [4] * len(case.shapes)


def test_a_missing_gradient_is_not_counted(folder):
    tensors = load_file(folder / "gaps,fast" / "inputs.safetensors")
    assert tensors["k"][19:21, 0].tolist() == [0, 1]
    assert tensors["k"][[9, 10, 39, 40], 1].tolist() == [10, 0, 0, 11]


def test_an_export_goes_into_a_new_folder(folder, cases, truths):
    before = sorted(folder.rglob("*"))
    with pytest.raises(FileExistsError, match="must be new or empty"):
        exchange.export(folder, cases, truths)
    assert sorted(folder.rglob("*")) == before


def _newer(document):
    document["version"] = 4


def _without_steps(document):
    del document["cases"][0]["steps"]


def _unknown_schedule(document):
    document["cases"][0]["groups"][0]["gamma"] = {"kind": "up", "peak": 1, "steps": 3, "end": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_newer, "cases.json must be of version 3, got version 4"),
        (_without_steps, "cases.json is not what export writes: 'steps' is a required property"),
        (_unknown_schedule, "kind must be one of constant, .*, got 'up'"),
    ],
)
def test_a_description_that_is_no_exports(folder, change, message):
    path = folder / "cases.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message):
        exchange.read_cases(folder)


def test_no_export_at_all(tmp_path):
    with pytest.raises(ValueError, match="DIR must be one that export has written"):
        exchange.read_cases(tmp_path)


def _wrong_shape(path):
    save_file({"theta": np.zeros((3, 2))}, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"12345678901"), "is not a safetensors file"),
        (lambda path: save_file({"x": np.zeros(2)}, path), "must hold theta alone, got x"),
        (lambda path: save_file({"theta": np.zeros(2, int)}, path), "must be F64, F32 or F16"),
        (_wrong_shape, r"float64.safetensors of .* must have shape \(\d+, \d+\) .*, got \(3, 2\)"),
    ],
)
def test_an_output_that_is_none(folder, cases, truths, write, message):
    case = cases[NAMES[0]]
    write(folder / case.name / "float64.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        exchange.check(folder, case, "float64", truths[case.name])
    assert f"float64.safetensors of {case.name}" in str(error.value)


def test_a_bad_file_hides_no_bad_number(folder, cases, truths):
    first, second, *_ = NAMES
    _wrong_shape(folder / first / "float64.safetensors")
    theta = load_file(folder / second / "expected.safetensors")["theta"]
    theta[-1] = np.nan
    save_file({"theta": theta}, folder / second / "float64.safetensors")
    results = exchange.check_all(folder, "mine", cases, truths)
    ((row,), (good, _)) = tables.conformance_rows(results), tables.conclusion(results)
    assert not good
    nan, shape = row.remarks
    assert f"{second} in float64 exceeded its tolerance at update {len(theta)}" in nan
    assert f"{first} in float64: theta in float64.safetensors of {first} must have shape" in shape


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), terminal_width=200)


@needs_compiler
def test_the_commands(tmp_path):
    folder = tmp_path / "export"
    families = ("--family", "groups", "--family", "mixed dtypes")
    done = run("export", folder, *families, "--seed", 3, "--jobs", 1)
    assert done.exit_code == 0, done.output
    assert "left out: 2 cases; files cannot describe" in done.output
    cases = exchange.read_cases(folder)
    assert {case.seed for case in cases.values()} == {3}
    jsonschema.validate(
        json.loads((folder / "cases.json").read_text()),
        json.loads((folder / "schema.json").read_text()),
    )
    follow_in_c(folder, SOURCE.read_text(), "float", cases, "float32")
    done = run("check", folder, "--json", tmp_path / "results.json", "--name", "c", "--jobs", 1)
    assert done.exit_code == 0, done.output
    (conformance,) = read_results(tmp_path / "results.json").conformance
    assert (conformance.backend, conformance.passed) == ("c", True)
    (folder / next(iter(cases)) / "float32.safetensors").unlink()
    done = run("check", folder, "--jobs", 1)
    assert done.exit_code == 0
    assert f"without output: 1 of {len(cases)} cases" in done.output
    done = run("check", folder, "--jobs", 1, "--require")
    assert done.exit_code == 1
    assert "without output: 1 case" in done.output


def test_an_export_without_outputs_is_no_success(folder):
    done = run("check", folder)
    assert done.exit_code == 2
    assert "DIR must hold an output" in done.output


def test_a_folder_with_something_in_it_is_told_before_the_work(folder):
    done = run("export", folder)
    assert done.exit_code == 2
    assert "must be new or empty" in done.output


def test_what_repeats_is_written_whole_and_all_of_it_is_judged(tmp_path):
    case = replace(CASES["large,several"], steps=2)
    truth = find_truth(case)
    exchange.export(tmp_path / "export", {case.name: case}, {case.name: truth})
    place = tmp_path / "export" / case.name
    theta = load_file(place / "expected.safetensors")["theta"]
    assert theta.shape == (2, sum(p.size for p in case.parameters()))
    save_file({"theta": theta}, place / "float64.safetensors")
    assert exchange.check(tmp_path / "export", case, "float64", truth).passed
    for element in (0, 99_999, theta.shape[1] - 1):
        wrong = theta.copy()
        wrong[1, element] *= 1 + 1e-12
        save_file({"theta": wrong}, place / "float64.safetensors")
        assert not exchange.check(tmp_path / "export", case, "float64", truth).passed


def test_what_is_no_list_of_numbers_is_not_exported(tmp_path):
    exported = exchange.exportable(CASES)
    families = {case.family for case in exported.values()}
    assert not families & {"events", "ways", "mixed dtypes"}
    assert {"large parameters", "counts", "all bits", "special values", "repeats"} < families
    done = run("export", tmp_path / "new", "--family", "ways")
    assert done.exit_code == 2
    assert "none of its cases can be exported" in done.output
