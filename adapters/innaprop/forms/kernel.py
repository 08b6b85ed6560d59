"""The C kernel's shared library: how it is built and loaded. Needs no framework."""

import ctypes
import functools
from pathlib import Path

from innaprop.forms import library
from innaprop_core.momentum import Coefficients

SCALARS = (*Coefficients._fields, "gradient_scale")
"""The scalars of a set, in the kernel's order."""
SOURCE = Path(__file__).with_name("kernel.c")
DEFINES = (f"COEFFICIENTS={' '.join(f'X({name})' for name in SCALARS)}",)
EXPORTS = ("innaprop_step", "innaprop_layout")


class Rows(ctypes.Structure):
    """The addresses of a call's columns, each with one element per row."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in ("theta", "g", "m", "v", "residual", "step", "size", "kind", "set")
    ]


class Scalars(ctypes.Structure):
    """The scalars of a set."""

    _fields_ = [(name, ctypes.c_double) for name in SCALARS]


@functools.cache
def load() -> ctypes.CDLL | str:
    """Return the kernel, built if necessary; or a sentence that says why there is none."""
    kernel = library.load(SOURCE, defines=DEFINES, exports=EXPORTS)
    if isinstance(kernel, str):
        return kernel
    built_for = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(kernel, "innaprop_layout")))
    if tuple(built_for.decode().split()) != SCALARS:
        return f"the kernel must be built for {' '.join(SCALARS)}, got one for {built_for.decode()}"
    kernel.innaprop_step.restype = None
    kernel.innaprop_step.argtypes = (
        ctypes.c_int64,
        ctypes.POINTER(Rows),
        ctypes.POINTER(Scalars),
        ctypes.c_int,
    )
    return kernel


def build(folder: Path) -> Path:
    """Build the kernel for a wheel, under the name that ``load`` looks for beside its source.

    Args:
        folder: The folder to put it in.

    Returns:
        The library's path.

    Raises:
        RuntimeError: No compiler could build it.
    """
    return library.build(SOURCE, folder, defines=DEFINES, exports=EXPORTS)
