"""A copy of the source with a fault in it, imported in place of the source.

The whole package is copied: so the fault reaches files that are compiled, processes that the
backend starts, and whoever reads the source, as compilers of Python do. Adapters know nothing
of it.
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

from innaprop_conformance.faults.fault import Edit, Fault

OURS = ("innaprop_core", "innaprop", "innaprop_conformance")
"""Packages that hold on to what they imported from each other."""


@contextmanager
def seeded(fault: Fault) -> Iterator[None]:
    """Have imports find a fault; the frameworks stay loaded.

    Inside, modules of the changed packages, of the suite and of what both stand on are new ones:
    what is to see the fault has to be imported there. Afterwards the old ones are back.

    Args:
        fault: What to seed.

    Raises:
        ValueError: A text to be replaced does not stand in its file exactly once.
    """
    packages = fault.packages.union(OURS)
    texts = changed(fault)
    with tempfile.TemporaryDirectory() as folder:
        for package in fault.packages:
            without = shutil.ignore_patterns("__pycache__")
            shutil.copytree(folder_of(package), Path(folder, package), ignore=without)
        for file, text in texts.items():
            Path(folder, file).write_text(text, encoding="utf-8")
        healthy = _take_out(packages)
        # First, for processes that are started inherit the path.
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(folder)
            _take_out(packages)
            sys.modules.update(healthy)
            importlib.invalidate_caches()


def changed(fault: Fault) -> dict[str, str]:
    """Return the text, with the fault in it, of every file that it changes.

    Raises:
        ValueError: A text to be replaced does not stand in its file exactly once, or not at the
            line that is given.
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
    """Return where in a file the text to be replaced begins."""
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
    """Return the folder of a package that can be imported.

    Raises:
        ValueError: There is none.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{package} must be a package that can be imported")
    (folder,) = spec.submodule_search_locations
    return Path(folder)


def _take_out(packages: Iterable[str]) -> dict[str, ModuleType]:
    """Remove all modules of packages from those that are loaded; return them by name."""
    prefixes = tuple(f"{package}." for package in packages)
    names = [name for name in sys.modules if f"{name}.".startswith(prefixes)]
    return {name: sys.modules.pop(name) for name in names}
