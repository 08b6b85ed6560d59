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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for package in fault.packages:
            shutil.copytree(
                _folder_of(package), folder / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        for edit in fault.edits:
            _apply(edit, folder / edit.file)
        healthy = _take_out(fault.packages.union(OURS))
        # First, for processes that are started inherit the path.
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            _take_out(fault.packages.union(OURS))
            sys.modules.update(healthy)
            importlib.invalidate_caches()


def _folder_of(package: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{package} must be a package that can be imported")
    (folder,) = spec.submodule_search_locations
    return folder


def _apply(edit: Edit, file: Path) -> None:
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    if (found := text.count(edit.old)) != 1:
        raise ValueError(
            f"{edit.file} must have the text to be replaced once, found it {found} times:\n"
            f"{edit.old}"
        )
    file.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def _take_out(packages: Iterable[str]) -> dict[str, ModuleType]:
    """Remove all modules of packages from those that are loaded; return them by name."""
    prefixes = tuple(f"{package}." for package in packages)
    names = [n for n in sys.modules if f"{n}.".startswith(prefixes)]
    return {name: sys.modules.pop(name) for name in names}
