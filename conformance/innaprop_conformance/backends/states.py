"""States that backends begin with or reload, through the file that all adapters share."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import innaprop
from innaprop_conformance.cases import Case, Hyperparameters
from innaprop_core import Hyperparameters as Checked
from innaprop_core import INNAprop

OTHERS = Hyperparameters(0.37, 3.0, 4.0, 0.5, 0.7, 0.9)
"""Options that no case has: of an optimizer that takes over other ones with a state."""


@contextmanager
def file_of_state() -> Iterator[Path]:
    """Return the path of a file that is there for a moment, and may be written."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "state.safetensors")


def write_counted(path: Path, case: Case, names: Sequence[str]) -> None:
    """Write a state that is zero but for its count, ``case.counted``, and the case's options.

    Args:
        path: Where to write it.
        case: A case of one group.
        names: What its parameters are called.
    """
    values: list[Any] = [np.zeros(shape, np.float32) for shape in case.shapes]
    reference = INNAprop(values, Checked(**asdict(case.group.hyperparameters)))
    reference.set_state(k=case.counted, m=values, v=values)
    innaprop.save_state(path, reference, list(names))
