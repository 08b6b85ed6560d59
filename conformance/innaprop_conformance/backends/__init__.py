"""Backends: each wraps one implementation of INNAprop in a common protocol.

A backend is a class, registered under its name in the entry-point group ``innaprop.backends``, or
given as ``MODULE:CLASS``. Importing its module must not import its framework, since the suite also
lists backends whose framework is not installed, and runs each of the others in its own process.
"""

import os
import sys
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from innaprop_conformance.backends.protocol import (
    FEATURES,
    PLAIN,
    Backend,
    BrokenPromiseError,
    WithCompiler,
)
from innaprop_conformance.backends.stepping import SteppingBackend

__all__ = [
    "FEATURES",
    "GROUP",
    "PLAIN",
    "Backend",
    "BrokenPromiseError",
    "SteppingBackend",
    "WithCompiler",
    "load_backend",
    "load_backends",
]

GROUP = "innaprop.backends"


def load_backends(more: Iterable[str] = ()) -> dict[str, type[Backend]]:
    """Return all registered backends by name, in alphabetical order, and then some others.

    A backend whose class cannot be loaded is included, with the reason in ``load_error``.

    Args:
        more: Names of further backends as "MODULE:CLASS"; names of other forms are ignored.
    """
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    points += [EntryPoint(name, name, GROUP) for name in more if ":" in name]
    backends = {}
    for point in points:
        try:
            backends[point.name] = _load(point)
        except Exception as error:
            reason = f"{point.value} cannot be loaded: {type(error).__name__}: {error}"
            backends[point.name] = type(
                point.name,
                (Backend,),
                {"distributions": (), "modules": (), "load_error": reason},
            )
    return backends


def load_backend(name: str) -> type[Backend]:
    """Return one backend, without loading any other.

    Args:
        name: The name under which it is registered, or "MODULE:CLASS"; MODULE may be in the
            working directory.

    Raises:
        TypeError: The class is not a subclass of ``Backend``.
        ValueError: It declares an unknown feature, or no backend is registered under the name.
        Exception: Whatever importing it raises.
    """
    if ":" in name:
        return _load(EntryPoint(name, name, GROUP))
    (point,) = entry_points(group=GROUP, name=name)
    return _load(point)


def _load(point: EntryPoint) -> type[Backend]:
    # `python -m` has the working directory in the path, the installed command has not.
    if point.name == point.value and (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    backend = point.load()
    if not (isinstance(backend, type) and issubclass(backend, Backend)):
        raise TypeError(f"{point.value} must be a subclass of {Backend.__module__}.Backend")
    if unknown := backend.features - FEATURES:
        raise ValueError(
            f"features of {point.value} must be of {', '.join(sorted(FEATURES))}; "
            f"got {', '.join(sorted(unknown))}"
        )
    return backend
