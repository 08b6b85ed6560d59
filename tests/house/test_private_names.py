"""docs/private.md has every private name of a framework, and what happens without it is true."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "adapters" / "innaprop"
NOT_PRIVATE = {"_replace", "_fields", "_packed_state", "_residual"}
"""Of named tuples, and the end of a name."""
ROW = re.compile(r"^\| (PyTorch|Keras|TensorFlow) \| (.+?) \|[^|]*\| (.+?) \|", re.MULTILINE)
STEPS = {
    "torch": """
import torch
from innaprop.torch import INNAprop
w = torch.nn.Parameter(torch.ones(3))
def step():
    optimizer = INNAprop([w])
    (w**2).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
""",
    "keras": """
import keras, numpy
from innaprop.keras import INNAprop
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
def step():
    model.compile(INNAprop(use_ema=True, ema_overwrite_frequency=1), "mse", run_eagerly=True)
    model.fit(numpy.ones((4, 2)), numpy.ones((4, 1)), verbose=0)
""",
    "tensorflow": """
import tensorflow as tf
from innaprop.tensorflow import INNAprop
def step():
    w = tf.Variable([1.0, 2.0])
    optimizer = INNAprop()
    tf.function(lambda: optimizer.apply([w], [w]))()
""",
}
WITHOUT = """
import importlib, sys

framework, step, *names = sys.argv[1:]
module = importlib.import_module(framework)
if framework == "tensorflow":
    places = [importlib.import_module("tensorflow.python.ops.control_flow_util")]
elif framework == "torch":
    places = [module.optim.Optimizer, module]
else:
    places = [
        *(cls for cls in module.optimizers.Optimizer.__mro__ if cls is not object),
        *module.Variable.__mro__[:-1],
        importlib.import_module("keras.src.optimizers"),
    ]

exec(step)
globals()["step"]()  # Whole, so that the framework has loaded what it wants.
step = sys.argv[2]
for name in names:
    taken = [(place, vars(place)[name]) for place in places if name in vars(place)]
    for place, _ in taken:
        delattr(place, name)
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == "innaprop"]:
        del sys.modules[loaded]
    importlib.import_module(f"innaprop.{framework}")
    result = "works"
    try:
        if framework == "keras":
            module.saving.get_custom_objects().clear()
        exec(step)
        globals()["step"]()
    except Exception as error:
        # Cleaning up, a framework may fail once more.
        while not (isinstance(error, AttributeError) and name in str(error)):
            error = error.__context__
            assert error is not None
        result = "fails"
    finally:
        for place, value in taken:
            setattr(place, name, value)
        step = sys.argv[2]
    print(name, result)
"""


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def used() -> set[str]:
    """Return private names that the adapters use and do not define."""
    own: set[str] = set()
    seen: set[str] = set()
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    own.add(name)
                case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                    own.add(name)
                case ast.Attribute(attr=name) if private(name):
                    seen.add(name)
                case ast.Constant(value=str(text)) if private(text) and text.isidentifier():
                    seen.add(text)
                case ast.ImportFrom(module=str(module), names=names) if re.search(
                    r"\.(_|python\.|src\.)", module
                ):
                    seen |= {alias.name for alias in names}
    return seen - own - NOT_PRIVATE


def overridden() -> set[str]:
    """Return private names of the frameworks' base classes that the adapters define anew."""
    found = set()
    for module, base in (("torch", "torch.optim"), ("keras", "keras.optimizers")):
        tree = ast.parse((SOURCES / module / "optimizer.py").read_text(encoding="utf-8"))
        (cls,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "INNAprop")
        defined = {n.name for n in cls.body if isinstance(n, ast.FunctionDef)}
        program = f"import {base}; print(*dir({base}.Optimizer))"
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "KERAS_BACKEND": "jax"},
        )
        found |= {name for name in defined & set(done.stdout.split()) if private(name)}
    return found


def listed() -> dict[str, dict[str, str]]:
    """Return the names of the page by framework, each with what a step does without it."""
    page = (ROOT / "docs" / "private.md").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = {}
    for framework, names, step in ROW.findall(page):
        found.setdefault(framework, {}).update(dict.fromkeys(re.findall(r"`(\w+)`", names), step))
    return found


def test_the_page_has_every_name_and_no_other():
    names = [name for of_framework in listed().values() for name in of_framework]
    assert sorted(names) == sorted({*used(), *overridden(), "_step_supports_amp_scaling"})


@pytest.mark.parametrize("framework", ["PyTorch", "Keras", "TensorFlow"])
def test_what_a_step_does_without_each(framework):
    module = {"PyTorch": "torch"}.get(framework, framework.lower())
    expected = {
        name: step for name, step in listed()[framework].items() if step != "needed by Keras"
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, module, STEPS[module], *expected],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert dict(lines) == expected
