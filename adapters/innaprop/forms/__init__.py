"""The update as each compiler makes most of it: one file a form, all held to the core.

A form makes one update of rows, with the core's ``Coefficients``; what an optimizer is in its
framework (options, groups, state, checkpoints) is the adapters' part. Each module of a form says in
``FORM`` for which compiler it is, what it moves, and where it is valid.

- ``foreach``: PyTorch, operation by operation, on lists of tensors.
- ``single_tensor``: PyTorch, operation by operation, on a tensor at a time.
- ``traced``: PyTorch, for ``torch.compile``.
- ``c``, with ``kernel.c``: a C kernel for the CPU, one pass over memory; ``kernel`` and ``library``
  build it.
- ``triton``, with ``triton_kernel``: the same for a GPU.
- ``looking_back``: XLA on the CPU.
- ``functional``: XLA elsewhere, and wherever nothing is written in place.
- ``variables``: TensorFlow, operation by operation.
- ``residual``: how a 16-bit parameter and its residual are a float32, for all of them.
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
"""Modules that have a ``FORM``."""


class Row(NamedTuple):
    """What one parameter's update reads and writes: arrays of one shape, on one device."""

    theta: Any
    """The parameter."""
    g: Any
    """Its gradient."""
    m: Any
    """Its momentum, in the dtype of the arithmetic: at least float32; or int32 words that momentum
    and second moment are packed into, as in ``innaprop_core.packed``."""
    v: Any
    """Its second moment, likewise; or the same words."""
    residual: Any = None
    """What of the float32 trajectory a 16-bit parameter does not hold, int16; or None."""


@dataclass(frozen=True)
class Form:
    """What a form is for, what it costs and where it ends: for tests, docs and readers."""

    framework: str
    """Whose arrays it takes."""
    compiler: str
    """What turns it into machine code."""
    moves: str
    """Bytes that an update reads and writes for a float32 parameter with weight decay."""
    temporaries: str
    """Bytes a parameter that it allocates at most at a time."""
    valid: str
    """Where it may be used."""
    in_place: bool
    """Whether it writes into the arrays it is given."""
    reads_scalars: bool
    """Whether the host has to know the coefficients as numbers."""
    skips: bool = False
    """Whether it can leave all as it is where a tensor says so."""
    corrects: bool = False
    """Whether it finds bias correction and draw by itself, from each row's count of updates; the
    draw that it is given is that of the first update."""


def all_forms() -> dict[str, Form]:
    """Return every form by the name of its module; their frameworks have to be installed."""
    return {name: import_module(f"{__name__}.{name}").FORM for name in NAMES}
