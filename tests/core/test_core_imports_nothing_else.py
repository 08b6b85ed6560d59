import subprocess
import sys

import pytest

FORBIDDEN = [
    "torch",
    "tensorflow",
    "keras",
    "jax",
    "optax",
    "scipy",
    "sklearn",
    "innaprop",
    "innaprop_conformance",
]


def _loaded_by(code):
    program = f"import sys\n{code}\nprint(*sys.modules, sep='\\n')"
    # -P: import the installed package, not the one in the working directory.
    command = [sys.executable, "-P", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.fixture(scope="module")
def loaded():
    return _loaded_by("import innaprop_core")


@pytest.mark.parametrize("module", FORBIDDEN)
def test_import_leaves_alone(loaded, module):
    assert module not in loaded


def test_import_brings_third_parties_named_as_dependencies_only(loaded):
    standard = sys.stdlib_module_names | {"__main__", "sitecustomize", "usercustomize"}
    bare = _loaded_by("")
    brought = {name.split(".")[0] for name in loaded - bare} - standard
    assert brought == {"innaprop_core", "numpy", "array_api_compat"}


def test_a_run_over_numpy_arrays_imports_no_framework():
    code = (
        "import numpy as np, innaprop_core as core\n"
        "core.INNAprop([np.ones(3)]).step([np.ones(3)])\n"
        "core.trajectory(core.Hyperparameters(), np.ones(3), [np.ones(3)])"
    )
    assert not _loaded_by(code) & set(FORBIDDEN)
