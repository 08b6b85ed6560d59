"""States that backends start from or reload, in the file format that all adapters share."""

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
"""Options that no case has; an optimizer with them must take the options of a loaded state."""


@contextmanager
def file_of_state() -> Iterator[Path]:
    """Return the path of a temporary file, which may be written."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "state.safetensors")


def write_counted(path: Path, case: Case, names: Sequence[str]) -> None:
    """Write a state of zeros with the count ``case.counted`` and the case's options.

    Args:
        path: File to write.
        case: A case with a single group.
        names: Names of its parameters.
    """
    values: list[Any] = [np.zeros(shape, np.float32) for shape in case.shapes]
    reference = INNAprop(values, Checked(**asdict(case.group.hyperparameters)))
    reference.set_state(k=case.counted, m=values, v=values)
    innaprop.save_state(path, reference, list(names))
