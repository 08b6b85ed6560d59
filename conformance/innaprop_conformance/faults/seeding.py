"""Imports a copy of a package that contains a fault, in place of the package.

The whole package is copied. So the fault also reaches sources that are compiled, processes that the
backend starts, and compilers that read Python sources. Adapters need no support for this.
"""

import importlib
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from innaprop_conformance.faults.fault import Edit, Fault

OURS = ("innaprop_core", "innaprop", "innaprop_conformance")
"""Packages that import from each other, and so have to be imported again together."""


@contextmanager
def seeded(fault: Fault) -> Iterator[None]:
    """Seed a fault while the context is active; the frameworks stay loaded.

    Inside, the changed packages and those in ``OURS`` are imported anew: import there whatever is
    to see the fault. Afterwards, the old modules are restored.

    Args:
        fault: The fault to seed.

    Raises:
        ValueError: A text to replace does not occur exactly once, or not at the given line.
    """
    packages = fault.packages.union(OURS)
    texts = changed(fault)
    with tempfile.TemporaryDirectory() as folder:
        for package in fault.packages:
            without = shutil.ignore_patterns("__pycache__")
            shutil.copytree(folder_of(package), Path(folder, package), ignore=without)
        for file, text in texts.items():
            Path(folder, file).write_text(text, encoding="utf-8")
        healthy = _remove_modules(packages)
        # First in the path, which processes started here inherit.
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(folder)
            _remove_modules(packages)
            sys.modules.update(healthy)
            importlib.invalidate_caches()


def changed(fault: Fault) -> dict[str, str]:
    """Return the new text of every file that a fault changes, by the file's path.

    Raises:
        ValueError: A text to replace does not occur exactly once, or not at the given line.
    """
    texts: dict[str, str] = {}
    for edit in fault.edits:
        package, _, rest = edit.file.partition("/")
        text = texts.get(edit.file)
        if text is None:
            path = folder_of(package) / rest
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
        at = _place_of(edit, text)
        texts[edit.file] = f"{text[:at]}{edit.new}{text[at + len(edit.old) :]}"
    return texts


def _place_of(edit: Edit, text: str) -> int:
    """Return the offset of the text to replace."""
    if edit.line is not None:
        at = sum(map(len, text.splitlines(keepends=True)[: edit.line - 1]))
        if not text.startswith(edit.old, at):
            raise ValueError(
                f"{edit.file} must have the text to be replaced at line {edit.line}:\n{edit.old}"
            )
        return at
    if (found := text.count(edit.old)) != 1:
        raise ValueError(
            f"{edit.file} must have the text to be replaced once, found it {found} times:\n"
            f"{edit.old}"
        )
    return text.index(edit.old)


def folder_of(package: str) -> Path:
    """Return the folder of a package.

    Raises:
        ValueError: It is not a package that can be imported.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{package} must be a package that can be imported")
    (folder,) = spec.submodule_search_locations
    return Path(folder)


def _remove_modules(packages: Iterable[str]) -> dict[str, ModuleType]:
    """Remove all modules of these packages from ``sys.modules``; return them by name."""
    packages = tuple(packages)
    prefixes = tuple(f"{package}." for package in packages)
    names = [name for name in sys.modules if f"{name}.".startswith(prefixes)]
    removed = {name: sys.modules.pop(name) for name in names}
    _forget_aliases(packages)
    return removed


def _forget_aliases(packages: tuple[str, ...]) -> None:
    """Have torch.compile import modules anew: it keeps copies in a cache and under aliases."""
    cache: Any = getattr(sys.modules.get("torch._dynamo.symbolic_convert"), "_import_module", None)
    if hasattr(cache, "cache_clear"):
        cache.cache_clear()
    prefixes = tuple(f"__import_{package}" for package in packages)
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        for name in [name for name in names if name.startswith(prefixes)]:
            del names[name]
