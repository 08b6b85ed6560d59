"""Backends: one implementation of INNAprop each, behind one protocol.

A backend is a class, found through the entry-point group ``innaprop.backends`` under its
name. Importing its module must not import its framework: the suite lists backends that are
not installed, and gives each that is a process of its own.
"""

from importlib.metadata import entry_points

from innaprop_conformance.backends.protocol import PLAIN, Backend, BrokenPromiseError, WithCompiler
from innaprop_conformance.backends.stepping import SteppingBackend

__all__ = [
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


def load_backends() -> dict[str, type[Backend]]:
    """Return every registered backend by name, in alphabetical order.

    One whose class cannot be loaded is there too, and says why in ``load_error``.
    """
    backends = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            backends[point.name] = point.load()
        except Exception as error:
            reason = f"{point.value} cannot be loaded: {type(error).__name__}: {error}"
            backends[point.name] = type(
                point.name,
                (Backend,),
                {"distributions": (), "modules": (), "load_error": reason},
            )
    return backends


def load_backend(name: str) -> type[Backend]:
    """Return the backend registered under a name, without loading any other."""
    (point,) = entry_points(group=GROUP, name=name)
    backend: type[Backend] = point.load()
    return backend
