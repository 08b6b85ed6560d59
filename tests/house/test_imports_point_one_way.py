"""conformance -> adapters -> core, and no framework before a user asks for it."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "optax"}
BRINGS = {"torch": {"triton"}, "optax": {"jax"}}
"""What a framework is built on, or has with it."""
SHARED = {"diagnostics", "extras", "forms", "planning", "portable"}
"""What adapters share, and what imports no adapter; of one another only ``extras``."""
RUNS = {"__main__": {"command"}, "command": {"planning"}}
"""What a module is there to run."""
LIBRARIES = {
    "diagnostics": {"matplotlib"},
    "planning": {"matplotlib"},
    "portable": {"safetensors"},
}
"""What shared modules draw, read and write with."""


def imports(path: Path) -> set[str]:
    """Return the top-level names that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)


def from_innaprop(path: Path) -> set[str]:
    """Return the modules directly under ``innaprop`` that a file imports."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "innaprop":
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("innaprop."):
            modules.add(node.module.split(".")[1])
    return modules


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("path", files("innaprop_core"), ids=lambda p: p.name)
def test_the_core_needs_numpy_and_array_api_compat_only(path):
    assert imports(path) <= {"innaprop_core", "numpy", "array_api_compat"}


FORMS = files("adapters/innaprop/forms")


@pytest.mark.parametrize(
    "path", [p for p in files("adapters") if p not in FORMS], ids=lambda p: p.name
)
def test_an_adapter_needs_the_core_and_its_own_framework_only(path):
    adapter = path.relative_to(ROOT / "adapters" / "innaprop").parts[0].removesuffix(".py")
    own = {path.stem, adapter} & FRAMEWORKS
    brought = set().union(*(BRINGS.get(name, ()) for name in own))
    modules = imports(path) - {"innaprop", "numpy"}
    assert modules <= {"innaprop_core"} | own | brought | LIBRARIES.get(adapter, set())
    shared = {"extras"} if adapter in SHARED else SHARED
    assert from_innaprop(path) <= {adapter} | shared | RUNS.get(adapter, set())


@pytest.mark.parametrize("path", FORMS, ids=lambda p: p.name)
def test_a_form_needs_the_core_one_framework_and_other_forms_only(path):
    modules = imports(path) - {"innaprop", "innaprop_core", "numpy"}
    assert len(modules & FRAMEWORKS) <= 1
    assert modules <= FRAMEWORKS | BRINGS["torch"]
    assert from_innaprop(path) <= {"forms"}


@pytest.mark.parametrize("path", files("conformance"), ids=lambda p: p.name)
def test_a_framework_is_imported_in_its_own_modules_only(path):
    own = path.stem.partition("_")[0]
    assert imports(path) & FRAMEWORKS <= {own} | BRINGS.get(own, set())


def test_what_the_suite_imports_is_in_its_extra():
    """Else it does not start where only that is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["conformance"]]
    names = {re.match(r"[\w-]+", line).group() for line in needed}
    # test_backends.py is pytest's to import.
    own = {"innaprop", "innaprop_core", "innaprop_conformance", "pytest"}
    imported = set().union(*map(imports, files("conformance"))) - own - FRAMEWORKS
    has = {"sklearn": "scikit-learn", "markupsafe": "jinja2"}
    assert {has.get(name, name) for name in imported} <= names


@pytest.mark.parametrize(
    "module",
    [
        "innaprop",
        "innaprop.diagnostics",
        "innaprop_core",
        "innaprop_conformance.cli",
        "innaprop_conformance.backends.torch",
        "innaprop_conformance.backends.keras",
        "innaprop_conformance.backends.optax",
        "innaprop_conformance.backends.tensorflow",
    ],
)
def test_importing_loads_no_framework(module):
    code = f"import sys, {module}; print(*sorted({FRAMEWORKS!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_an_adapter_is_loaded_when_asked_for():
    code = (
        "import sys, innaprop\n"
        "assert innaprop.torch.INNAprop.__module__.startswith('innaprop.torch')\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
