"""Runs tests and conformance with the oldest, the pinned and the newest versions of each framework.

Each row of the table in ``docs/versions.md`` has its own temporary environment. Rows that were run
are replaced; the others are kept.
"""

import argparse
import ast
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "versions.md"
MARKS = ("<!-- table of make matrix -->\n", "<!-- end of table -->\n")
HEAD = ("Versions", "Environment", "Python", "What was installed", "Tests", "Conformance", "Run on")
SHOWN = ("numpy", "array-api-compat", "torch", "tensorflow", "keras", "jax", "optax")
OPTIONAL = ("flax", "jax", "keras", "optax", "orbax", "tensorflow", "tf_keras", "torch")
NIGHTLY = {"tensorflow": "tf-nightly", "keras": "keras-nightly"}
"""Frameworks whose nightly builds have another name."""
NIGHTLY_INDEXES = (
    "https://download.pytorch.org/whl/nightly/cpu",
    "https://us-python.pkg.dev/ml-oss-artifacts-published/jax/simple/",
)
TOOLS = ("array-api-strict", "hypothesis", "mpmath", "pytest", "scipy")
SETS = ("oldest", "pinned", "newest", "nightly")
NEEDS = {
    "tests/keras/test_misuse_is_refused_whole.py::test_a_frozen_layer": "keras>3.12.0",
    "tests/keras/test_sixteen_bits.py::test_a_model_of_policy_bfloat16": "torch>=2.10",
    "tests/keras/test_works_in_fit.py::test_fit_learns[jit]": "torch>=2.10",
    "tests/optax/test_inside_optax.py::test_multi_steps_counts": "optax>=0.2.8",
    "tests/optax/test_sixteen_bits.py::test_inside_multi_steps": "optax>=0.2.8",
    "tests/torch/test_gradients_and_their_memory.py::test_wider_gradients": "torch>=2.10",
}
"""Tests that need newer frameworks. On TensorFlow, Keras 3.12.0 fails to build its own error
message; torch.compile in 2.9.0 fails within Keras's Dense; older versions lack optax's
accumulator_dtype and PyTorch's grad_dtype."""
OF_ANY_BACKEND = (
    "tests/keras/test_saved_state.py::test_a_hundred_steps_more_in_a_new_process_of_any_backend"
)
FAMILIES = ("groups", "missing gradients", "decay", "precision")


@dataclass(frozen=True)
class Environment:
    """The packages of an environment, and the tests and backends to run in it."""

    extras: tuple[str, ...]
    tests: tuple[str, ...]
    backends: tuple[str, ...]
    keras: str = ""
    tools: tuple[str, ...] = ()


ENVIRONMENTS = {
    "core": Environment((), ("core",), ("numpy",)),
    "torch": Environment(
        ("torch", "keras"),
        ("core", "torch", "keras"),
        ("torch", "torch-foreach", "torch-fused", "keras-torch"),
        keras="torch",
    ),
    "tensorflow": Environment(
        ("tensorflow", "keras"),
        ("tensorflow", "keras"),
        ("tensorflow", "tensorflow-xla", "keras-tensorflow"),
        keras="tensorflow",
        tools=("tf_keras",),
    ),
    "jax": Environment(("jax", "keras"), ("keras",), ("keras-jax",), keras="jax"),
    "optax": Environment(("optax",), ("optax",), ("optax", "optax-eager")),
}


def ours(environment: Environment) -> list[str]:
    """Return the requirements of the project and of the environment's extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    chosen = ("state", "conformance", *environment.extras)
    return [*project["dependencies"], *(line for extra in chosen for line in extras[extra])]


def requirements(environment: Environment, versions: str) -> list[str]:
    """Return the packages for pip to install; with "oldest", pinned to our lower bounds."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    named = (*TOOLS, *environment.tools)
    tools = [line for line in groups["test"] if Requirement(line).name in named]
    lines = ours(environment)
    if versions == "nightly":
        newest = [Requirement(line).name for line in lines]
        return ["--pre", *(NIGHTLY.get(name, name) for name in newest), *tools]
    if versions != "oldest":
        return [*lines, *tools]
    # An environment's own tool must fit its framework, as tf_keras must fit TensorFlow.
    own = [r for r in tools if Requirement(r).name in environment.tools]
    others = [r for r in tools if r not in own]
    # If two extras name the same package, the higher bound applies.
    oldest: dict[str, tuple[tuple[int, ...], str]] = {}
    for line in (*lines, *own):
        requirement = Requirement(line)
        bound = next(s.version for s in requirement.specifier if s.operator == ">=")
        release = tuple(int(part) for part in bound.split("."))
        oldest[requirement.name] = max(
            oldest.get(requirement.name, ((), "")), (release, f"{requirement.name}=={bound}")
        )
    return [*(pinned for _, pinned in oldest.values()), *others]


def runnable(folder: Path, missing: set[str]) -> list[str]:
    """Return the test files that import no missing module."""
    files = []
    for file in sorted(folder.glob("test_*.py")):
        imported: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
        # Keras tests import the modules of a backend only within the tests that need them.
        if folder.name == "keras" or not imported & missing:
            files.append(str(file.relative_to(ROOT)))
    return files


def lacks(installed: dict[str, str], need: str) -> bool:
    """Return whether the installed version of a package does not meet a test's requirement."""
    requirement = Requirement(need)
    version = installed.get(requirement.name)
    return version is not None and not requirement.specifier.contains(version, prereleases=True)


def run_row(name: str, versions: str, python: str) -> list[str]:
    """Make one environment, run its tests and backends, and return the table's row."""
    environment = ENVIRONMENTS[name]
    with tempfile.TemporaryDirectory(prefix="innaprop-matrix-") as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        own = f"{folder}/bin/python"
        variables = {**os.environ, "KERAS_BACKEND": environment.keras or "tensorflow"}
        variables |= {"INNAPROP_CACHE": f"{folder}/cache", "TF_CPP_MIN_LOG_LEVEL": "3"}

        def call(*command: str, check: bool = True) -> str:
            done = subprocess.run(
                [own, *command],
                cwd=ROOT,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=None if check else subprocess.STDOUT,
                text=True,
            )
            if check:
                done.check_returncode()
            else:
                print(done.stdout, end="", flush=True)
            return done.stdout

        pins: tuple[str, ...] = ("-c", "constraints.txt") if versions == "pinned" else ()
        if versions == "nightly":
            pins = tuple(word for url in NIGHTLY_INDEXES for word in ("--extra-index-url", url))
        install = ("-m", "pip", "install", "--quiet", *pins)
        call(*install, "--upgrade", "pip")
        call(*install, *requirements(environment, versions), "-e", ".")
        installed: dict[str, str] = {
            canonical(package["name"]): package["version"]
            for package in json.loads(call("-m", "pip", "list", "--format", "json"))
        }
        named = SHOWN if environment.extras else tuple(installed)
        direct: set[str] = {canonical(Requirement(line).name) for line in ours(environment)}
        shown = ", ".join(f"{n} {installed[n]}" for n in named if n in installed and n in direct)
        find = f"import importlib.util as u; print(*(n for n in {OPTIONAL} if not u.find_spec(n)))"
        missing = set(call("-c", find).split())
        tests = []
        for part in environment.tests:
            files = runnable(ROOT / "tests" / part, missing)
            print(f"== {name} {versions}: tests/{part} without {sorted(missing)}", flush=True)
            # Old packages combined with newer ones cause deprecation warnings that are not ours.
            options = ["-q", "--tb=short", "-W", "default::DeprecationWarning", *files]
            left_out = [f"{OF_ANY_BACKEND}[{backend}]" for backend in missing]
            left_out += [test for test, need in NEEDS.items() if lacks(installed, need)]
            for test in left_out:
                options += ["--deselect", test]
            output = call("-m", "pytest", *options, check=False)
            ending = (output.strip().splitlines() or ["failed to start"])[-1]
            counts = re.findall(r"(\d+) (passed|failed|errors?)", ending)
            tests.append(f"{part} {', '.join(' '.join(count) for count in counts) or ending}")
        results = Path(folder, "results.json")
        options = [word for b in environment.backends for word in ("--backend", b)]
        options += [word for family in FAMILIES for word in ("--family", family)]
        call("-m", "innaprop_conformance", "run", "--require", "--json", str(results), *options,
             check=False)  # fmt: skip
        return [
            versions, name, ".".join(re.findall(r"\d+", call("-V"))[:3]), shown, "; ".join(tests),
            judged(results), datetime.date.today().isoformat(),
        ]  # fmt: skip


def judged(results: Path) -> str:
    """Return how many of the suite's cases passed."""
    if not results.exists():
        return "failed: did not run"
    parts = json.loads(results.read_text())["conformance"]
    asked = sum(part["asked"] for part in parts)
    passed = sum(verdict["passed"] for part in parts for verdict in part["verdicts"])
    wrong = "" if passed == asked > 0 and not any(p["failure"] for p in parts) else "failed: "
    return f"{wrong}{passed} of {asked} agree"


def write(row: list[str]) -> None:
    """Write a row into the page's table, in place of the old one."""
    before, rest = PAGE.read_text().split(MARKS[0])
    table, after = rest.split(MARKS[1])
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    kept = [old for old in rows if len(old) == len(HEAD) and old[:3] != row[:3]][2:]
    names = tuple(ENVIRONMENTS)
    kept.append(row)
    kept.sort(key=lambda r: (SETS.index(r[0]), names.index(r[1]), r[2]))
    lines = [f"| {' | '.join(cells)} |\n" for cells in (HEAD, ["---"] * len(HEAD), *kept)]
    PAGE.write_text(before + MARKS[0] + "".join(lines) + MARKS[1] + after)


def main() -> int:
    """Run the chosen rows."""
    parser = argparse.ArgumentParser(prog="make matrix", description=__doc__)
    parser.add_argument("--versions", action="append", choices=SETS)
    parser.add_argument("--environment", action="append", choices=tuple(ENVIRONMENTS))
    parser.add_argument("--python", default=sys.executable, help="which Python to run")
    options = parser.parse_args()
    failed = []
    for versions in options.versions or SETS[:3]:
        for name in options.environment or tuple(ENVIRONMENTS):
            start = time.monotonic()
            try:
                row = run_row(name, versions, options.python)
            except subprocess.CalledProcessError as error:
                print(error)
                failed.append(f"{versions} {name}: no environment")
                continue
            write(row)
            minutes = (time.monotonic() - start) / 60
            print(f"== {' | '.join(row)} | {minutes:.1f} min on {platform.machine()}", flush=True)
            if re.search(r"fail|error", f"{row[4]} {row[5]}"):
                failed.append(f"{versions} {name}")
    print(f"{len(failed)} rows failed", *failed, sep="\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
