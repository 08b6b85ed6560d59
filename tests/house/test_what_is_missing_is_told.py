"""Who imports what is not there is told what to install, or where it is."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import innaprop

ROOT = Path(__file__).parents[2]
NEEDS = {
    "torch": ["torch"],
    "keras": ["keras"],
    "tensorflow": ["tensorflow"],
    "optax": ["optax", "jax"],
}
"""What each module needs, which the extra of its name brings."""
EVERY_NEED = pytest.mark.parametrize(
    ("module", "missing"), [(module, one) for module, needs in NEEDS.items() for one in needs]
)
HIDE = """
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def error_of(code):
    """Return what a program that fails says last."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


@EVERY_NEED
@pytest.mark.parametrize(
    "code",
    [
        "import innaprop.{module}",
        "from innaprop import {module}",
        "import innaprop; innaprop.{module}",
        "import innaprop.{module}.portable",
    ],
)
def test_a_framework_that_is_not_installed(code, module, missing):
    said = error_of(HIDE.format(missing=missing) + code.format(module=module))
    assert said == (
        f"ModuleNotFoundError: innaprop.{module} needs {missing}, which is not installed: "
        f'pip install "innaprop[{module}]"'
    )


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_backend_of_keras_that_is_not_installed(backend, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    said = error_of(HIDE.format(missing=backend) + "import innaprop.keras")
    assert f"Keras's backend is {backend}, which is not installed: set the environment" in said


@pytest.mark.parametrize(
    "code",
    [
        "import innaprop; innaprop.plan(steps=9, lr=0.1).plot()",
        "from innaprop.diagnostics.figure import draw; draw([None])",
    ],
)
def test_a_figure_without_matplotlib(code):
    said = error_of(HIDE.format(missing="matplotlib") + code)
    assert said == (
        "ModuleNotFoundError: a figure needs matplotlib, which is not installed: "
        "pip install matplotlib"
    )


@EVERY_NEED
def test_the_extra_brings_it(module, missing):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"][module]
    assert missing in [re.match(r"[\w-]+", line).group() for line in extra]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ModuleNotFoundError('No module named X', name='X')", "No module named X"),
        ("ModuleNotFoundError('No module named torch._C', name='torch._C')", "torch._C"),
        ("ImportError('libcudart.so: cannot open shared object file')", "cannot open shared"),
        ("OSError('libtorch.so is not whole')", "libtorch.so is not whole"),
    ],
)
def test_what_fails_in_a_framework_passes_as_it_is(error, said, tmp_path):
    (tmp_path / "torch.py").write_text(f"raise {error}\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import innaprop.torch"
    last = error_of(code)
    assert last.startswith(f"{error.partition('(')[0]}: ")
    assert said in last
    assert "pip install" not in last


def test_the_class_of_no_framework():
    """The authors' own import."""
    with pytest.raises(
        ImportError, match=r"import it from innaprop\.torch, innaprop\.keras or inna"
    ):
        from innaprop import INNAprop  # noqa: F401


def test_it_is_no_attribute_for_those_who_look_for_a_class_by_its_path():
    assert getattr(innaprop, "INNAprop", None) is None
    with pytest.raises(AttributeError, match=r"import it from innaprop\.torch"):
        innaprop.INNAprop  # noqa: B018


def test_what_nobody_has():
    assert not hasattr(innaprop, "AdamW")
    with pytest.raises(ImportError, match="cannot import name 'AdamW' from 'innaprop'"):
        from innaprop import AdamW  # noqa: F401


def test_the_version_is_the_installed_packages():
    assert innaprop.__version__ == metadata.version("innaprop")


NOT_INSTALLED = """
from importlib import metadata
version = metadata.version
def of_others(name):
    if name == "innaprop":
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = of_others
"""


def test_a_folder_on_the_path_has_no_version_but_works():
    code = f"{NOT_INSTALLED}\nimport innaprop\nprint(innaprop.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0+unknown"


def test_the_suite_of_a_folder_on_the_path_works():
    code = f"{NOT_INSTALLED}\nfrom innaprop_conformance.cli import main\nmain(['--version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "innaprop 0+unknown" in done.stdout
