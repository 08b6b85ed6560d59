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
OF_NAMEDTUPLES = {"_replace", "_fields"}
ROW = re.compile(r"^\| (PyTorch|Keras|TensorFlow|optax) \| (.+?) \|", re.MULTILINE)
CHECK = """
import importlib, sys

framework, base, step, *names = sys.argv[1:]
module = importlib.import_module(framework)
owner = getattr(importlib.import_module(base.rpartition(".")[0]), base.rpartition(".")[2])

class Gone:
    def __get__(self, *_):
        raise AttributeError("gone")
    def __set__(self, *_):
        raise AttributeError("gone")

for name in names:
    holders = [holder for holder in (owner, module) if hasattr(holder, name)]
    kept = [(holder, name in vars(holder), getattr(holder, name)) for holder in holders]
    for holder in holders:
        if name in vars(holder):
            delattr(holder, name)
        else:
            setattr(holder, name, Gone())
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == "innaprop"]:
        del sys.modules[loaded]
    importlib.import_module(f"innaprop.{framework}")
    print("imported without", name)
    for holder, own, value in kept:
        setattr(holder, name, value) if own else delattr(holder, name)
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
                case ast.Call(func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, *rest]):
                    seen |= {
                        part.value
                        for argument in rest
                        for part in ast.walk(argument)
                        if isinstance(part, ast.Constant)
                        and isinstance(part.value, str)
                        and private(part.value)
                        and part.value.isidentifier()
                    }
                case ast.ImportFrom(module=str(module), names=names) if re.search(
                    r"\.(_|python\.|src\.)", module
                ):
                    seen |= {alias.name for alias in names}
    return seen - own - OF_NAMEDTUPLES


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


def listed() -> dict[str, list[str]]:
    """Return the names of the page, by framework."""
    page = (ROOT / "docs" / "private.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for framework, cell in ROW.findall(page):
        found.setdefault(framework, []).extend(re.findall(r"`(\w+)`", cell))
    return found


def test_the_page_has_every_name_and_no_other():
    names = [name for of_framework in listed().values() for name in of_framework]
    assert sorted(names) == sorted({*used(), *overridden(), "_step_supports_amp_scaling"})


@pytest.mark.parametrize(
    ("framework", "module", "base", "environment"),
    [
        ("PyTorch", "torch", "torch.optim.Optimizer", {}),
        ("Keras", "keras", "keras.optimizers.Optimizer", {"KERAS_BACKEND": "jax"}),
        (
            "TensorFlow",
            "tensorflow",
            "tensorflow.python.ops.control_flow_util",
            {"TF_CPP_MIN_LOG_LEVEL": "3"},
        ),
    ],
)
def test_adapters_are_imported_with_each_gone(framework, module, base, environment):
    names = listed()[framework]
    done = subprocess.run(
        [sys.executable, "-c", CHECK, module, base, "", *names],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()] == names
