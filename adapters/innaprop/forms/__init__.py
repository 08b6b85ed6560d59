"""Implementations ("forms") of the update, one module for each compiler, tested against the core.

A form updates rows with the core's ``Coefficients``. The rest of an optimizer (options, groups,
state, checkpoints) is in the adapters. Each module describes its form in ``FORM``: for which
compiler it is, how much memory traffic it causes, and where it is valid.

- ``foreach``: PyTorch, operation by operation, on lists of tensors.
- ``single_tensor``: PyTorch, operation by operation, one tensor at a time.
- ``traced``: PyTorch, for ``torch.compile``.
- ``c``, with ``kernel.c``: a C kernel for the CPU, one pass over memory; ``kernel`` and ``library``
  build it.
- ``triton``, with ``triton_kernel``: the same for a GPU.
- ``looking_back``: XLA on the CPU.
- ``functional``: XLA on other devices, and where ``looking_back`` is not valid.
- ``variables``: TensorFlow, operation by operation.
- ``residual``: converts between a 16-bit parameter with its residual and a float32, for all forms.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

NAMES = (
    "foreach",
    "single_tensor",
    "traced",
    "c",
    "triton",
    "looking_back",
    "functional",
    "variables",
)
"""Modules with a ``FORM``."""


class Row(NamedTuple):
    """The arrays that one parameter's update reads and writes: of one shape, on one device."""

    theta: Any
    """The parameter."""
    g: Any
    """Its gradient."""
    m: Any
    """Its momentum, in the compute dtype (at least float32); or int32 words that hold the packed
    momentum and second moment, as in ``innaprop_core.packed``."""
    v: Any
    """Its second moment, likewise; or the same words."""
    residual: Any = None
    """The low bits of the float32 master weights of a 16-bit parameter, int16; or None."""


@dataclass(frozen=True)
class Form:
    """Purpose, cost and limits of a form, for tests, docs and readers."""

    framework: str
    """The framework whose arrays it takes."""
    compiler: str
    """The compiler that produces its machine code."""
    moves: str
    """Memory traffic of an update: bytes read and written per float32 element with weight decay."""
    temporaries: str
    """Peak temporary memory, in bytes per element."""
    valid: str
    """Where it may be used."""
    in_place: bool
    """Whether it writes into the arrays it is given."""
    reads_scalars: bool
    """Whether the coefficients must be known as numbers on the host."""
    skips: bool = False
    """Whether it can skip the update depending on the value of a tensor."""
    corrects: bool = False
    """Whether it computes the bias correction and the draw itself, from each row's step count; the
    draw that it is given is then that of the first update."""


def all_forms() -> dict[str, Form]:
    """Return all forms by the names of their modules; all frameworks must be installed."""
    return {name: import_module(f"{__name__}.{name}").FORM for name in NAMES}
