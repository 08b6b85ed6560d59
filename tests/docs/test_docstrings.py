import json
import os
import subprocess
import sys

import pytest

MODULES = [
    "innaprop_core",
    "innaprop_core.algorithm",
    "innaprop_core.hyperparameters",
    "innaprop_core.momentum",
    "innaprop_core.optimizer",
    "innaprop_core.trajectory",
    "innaprop",
    "innaprop.torch.optimizer",
    "innaprop.keras.optimizer",
    "innaprop.tensorflow.optimizer",
    "innaprop.optax.transformation",
    "innaprop.diagnostics",
    "innaprop.diagnostics.measure",
    "innaprop.diagnostics.record",
    "innaprop.diagnostics.signatures",
    "innaprop.torch.diagnostics",
    "innaprop.keras.diagnostics",
    "innaprop.tensorflow.diagnostics",
    "innaprop.optax.diagnostics",
    "innaprop.planning",
    "innaprop.planning.motion",
    "innaprop.portable.api",
    "innaprop.portable.snapshot",
    "innaprop_conformance.backends",
    "innaprop_conformance.cases",
    "innaprop_conformance.judge",
    "innaprop_conformance.truth",
]
WITH_EXAMPLES = [
    "innaprop_core.optimizer",
    "innaprop.torch.optimizer",
    "innaprop.keras.optimizer",
    "innaprop.tensorflow.optimizer",
    "innaprop.optax.transformation",
    "innaprop.torch.diagnostics",
    "innaprop.keras.diagnostics",
    "innaprop.tensorflow.diagnostics",
    "innaprop.optax.diagnostics",
]

EXAMINE = """
import doctest, importlib, inspect, json, sys

module = importlib.import_module(sys.argv[1])
failed, attempted = doctest.testmod(module)
names = getattr(module, "__all__", None) or [
    name for name, value in vars(module).items()
    if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
]
without = [] if inspect.getdoc(module) else [module.__name__]
for name in names:
    value = getattr(module, name)
    if not (inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)):
        continue
    if not value.__doc__:
        without.append(name)
    for key, member in vars(value).items() if inspect.isclass(value) else ():
        function = member.fget if isinstance(member, property) else member
        if key.startswith("_") or not inspect.isroutine(function):
            continue
        if not function.__doc__:
            without.append(f"{name}.{key}")
json.dump([failed, attempted, len(names), without], sys.stderr)
"""


@pytest.fixture(scope="module", params=MODULES)
def examined(request, tmp_path_factory):
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EXAMINE, request.param],
        cwd=tmp_path_factory.mktemp("docstrings"),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return request.param, process.stdout, json.loads(process.stderr.splitlines()[-1])


def test_examples_in_docstrings_hold(examined):
    module, output, (failed, attempted, _, _) = examined
    assert failed == 0, output
    assert (attempted > 0) == (module in WITH_EXAMPLES)


def test_everything_public_has_a_docstring(examined):
    _, _, (_, _, public, without) = examined
    assert public > 0
    assert without == []
