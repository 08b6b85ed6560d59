"""What a release says of itself is true: its version, its lower bounds, its workflows."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BOUNDS = sorted(
    {
        re.fullmatch(r"([\w.-]+)>=([\d.]+)", line).groups()
        for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
        for line in lines
        if not line.startswith("innaprop[")
    }
)
TABLE = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in (ROOT / "docs" / "versions.md").read_text().splitlines()
    if line.startswith(("| oldest", "| pinned", "| newest"))
]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def number(version):
    return [int(part) for part in re.sub(r"(\.0)+$", "", version).split(".")]


def test_one_version_and_date_stand_everywhere():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    version, date = re.search(r"^## (\d\S*) - (\S+)$", changelog, re.MULTILINE).groups()
    citation = (ROOT / "CITATION.cff").read_text()
    assert version == PROJECT["version"]
    assert f"\nversion: {version}\n" in citation
    assert f"\ndate-released: {date}\n" in citation


@pytest.mark.parametrize(("name", "bound"), BOUNDS, ids=lambda part: str(part))
def test_a_lower_bound_is_one_that_was_run(name, bound):
    installed = ", ".join(row[3] for row in TABLE if row[0] == "oldest")
    ran = re.findall(rf"(?:^|, ){name} ([\d.]+)", installed)
    assert number(bound) in map(number, ran)


def test_what_was_run_has_passed():
    oldest = {row[1] for row in TABLE if row[0] == "oldest"}
    assert oldest == {"core", "torch", "tensorflow", "jax", "optax"}
    assert [row for row in TABLE if re.search("fail|error", f"{row[4]} {row[5]}")] == []


def test_workflows_call_targets_that_there_are():
    makefile = (ROOT / "Makefile").read_text()
    called = {
        target
        for workflow in WORKFLOWS
        for target in re.findall(r"run: make ([\w-]+)", workflow.read_text())
    }
    assert called == {"test", "matrix", "release"}
    for target in called:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_workflows_can_only_read():
    for workflow in WORKFLOWS:
        text = workflow.read_text()
        assert "permissions:\n  contents: read\n" in text
        assert "write" not in text
        assert "secrets." not in text
