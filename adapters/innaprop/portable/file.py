"""A state as a safetensors file: arrays, and everything else as JSON in the header.

The file is written atomically, and read completely or not at all. It contains no code. Digests
detect damage: those of the arrays are in the JSON, and the JSON's own digest is its last entry.

The file is written here, not by the safetensors library, which would leave a temporary file if the
process is killed, and which sets its own file mode. It is read by the library.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from innaprop.extras import state_files
from innaprop.portable.atomic import checked_path, replaced
from innaprop.portable.fitting import listed
from innaprop.portable.snapshot import HYPERPARAMETERS, Array, ParameterState, Snapshot

VERSION = 2
"""Version of the format. Version 1 had no digests and, at first, no ``decay_momentum``."""

_HEADER = "innaprop-state"
_REQUIRED = ("momentum", "second_moment")
_OPTIONAL = ("psi", "residual")
_DTYPES = {"float32": "F32", "float64": "F64", "int16": "I16"}
_LONGEST_HEADER = 100_000_000
"""In bytes; the limit of safetensors."""
_SEAL = ', "sha256": "'


def write(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """Write a state atomically.

    Args:
        path: Where to write it.
        snapshot: The state.

    Raises:
        OSError: The file cannot be written, or ``path`` is not that of a regular file. An existing
            file is unchanged then.
        TypeError: ``path`` is not a string or ``os.PathLike`` of one.
        ValueError: A name is not valid Unicode, or the names are too many or too long for a
            safetensors file.
    """
    target = checked_path(path)
    arrays = {
        f"{name}.{what}": _as_stored(array)
        for name, state in snapshot.parameters.items()
        for what, array in state.arrays().items()
    }
    entries = {
        name: {
            "dtype": state.dtype,
            "step": int(state.step),
            **state.hyperparameters,
            "sha256": {what: _digest(arrays[f"{name}.{what}"].data) for what in state.arrays()},
        }
        for name, state in snapshot.parameters.items()
    }
    iterations = int(snapshot.iterations)
    content = {"version": VERSION, "iterations": iterations, "parameters": entries}
    # Sorted by decreasing item size, like safetensors, so that each array is aligned.
    ordered = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))
    header = _header(ordered, {_HEADER: _sealed(json.dumps(content, allow_nan=False))})
    with replaced(target) as file:
        file.write(header)
        for array in ordered.values():
            file.write(array.data)


def _as_stored(array: Array) -> Array:
    """Return an array in C order and little-endian, as safetensors stores it."""
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def _header(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Return the header of a safetensors file: a length, and JSON with the offsets of arrays."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        dtype = _DTYPES[array.dtype.name]
        entries[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [begin, end]}
    try:
        header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"names of parameters must be valid Unicode: {error}") from error
    header += b" " * (-len(header) % 8)
    if len(header) > _LONGEST_HEADER:
        raise ValueError(
            f"names and numbers of all parameters must fit {_LONGEST_HEADER:,} bytes, the longest "
            f"header of a safetensors file, got {len(header):,}"
        )
    return len(header).to_bytes(8, "little") + header


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _sealed(text: str) -> str:
    """Return the text of a JSON object with the digest of that text as its last entry."""
    return f'{text[:-1]}{_SEAL}{_digest(text.encode())}"}}'


def _check_seal(text: str) -> None:
    """Raise if a text is not a result of ``_sealed``."""
    before, _, after = text.rpartition(_SEAL)
    if after != _digest(f"{before}}}".encode()) + '"}':
        raise ValueError(
            "the header must end with its sha256, and does not: the file was changed or damaged "
            "after it was written"
        )


def read(path: str | os.PathLike[str]) -> Snapshot:
    """Read a state.

    Args:
        path: A file written by ``write``.

    Raises:
        ModuleNotFoundError: safetensors is not installed.
        OSError: The file cannot be read, or ``path`` is not that of a regular file.
        TypeError: ``path`` is not a string or ``os.PathLike`` of one.
        ValueError: It is truncated, damaged, in another format, of a newer version, or does not
            contain a valid state.
    """
    safetensors = _safetensors()
    target = checked_path(path)
    try:
        with safetensors.safe_open(str(target), framework="numpy") as file:
            try:
                return _parse(file)
            except RecursionError as error:
                raise ValueError(f"{path}: the header's JSON must not be nested so deep") from error
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}: {error}") from error
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} must be a safetensors file and whole, as save_state writes it; safetensors "
            f"says: {error}"
        ) from error


def _parse(file: Any) -> Snapshot:
    metadata = file.metadata() or {}
    if _HEADER not in metadata:
        raise ValueError(
            f"the header must have the entry {_HEADER!r}, as save_state writes it, got "
            f"{listed(metadata) or 'none'}: is it a file of weights, or another program's?"
        )
    content = json.loads(metadata[_HEADER])
    version = content.get("version") if isinstance(content, dict) else None
    if isinstance(version, bool) or not isinstance(version, int):
        raise ValueError("the header must be an object with an integer 'version'")
    if version < 1:
        raise ValueError(f"version must be from 1 to {VERSION}, got {version}")
    if version > VERSION:
        raise ValueError(
            f"version must be {VERSION} at most, got {version}: the file is of a newer innaprop"
        )
    if version > 1:
        _check_seal(metadata[_HEADER])
    entries = content.get("parameters")
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise ValueError("the header's 'parameters' must be an object of objects")
    keys = set(file.keys())
    states = {
        name: _parse_state(file, keys, name, entry, version) for name, entry in entries.items()
    }
    if keys:
        raise ValueError(f"every array must belong to a parameter, got {listed(sorted(keys))}")
    iterations: Any = content.get("iterations")
    return Snapshot(iterations, states)  # Raises if iterations is not a valid count.


def _parse_state(
    file: Any, keys: set[str], name: str, entry: dict[str, Any], version: int
) -> ParameterState:
    """Return the state of one parameter; removes the names of its arrays from the keys."""
    expected = {"dtype", "step", *HYPERPARAMETERS}
    if version == 1:
        # Written before the option existed.
        entry = {"decay_momentum": True, **entry}
    else:
        expected.add("sha256")
    if entry.keys() != expected:
        raise ValueError(
            f"the header must say {', '.join(sorted(expected))} of {name!r}, "
            f"got {', '.join(sorted(entry))}"
        )
    arrays = {}
    for what in (*_REQUIRED, *_OPTIONAL):
        key = f"{name}.{what}"
        if key in keys:
            dtype = file.get_slice(key).get_dtype()
            if dtype not in _DTYPES.values():
                raise ValueError(f"{key} must be of {', '.join(_DTYPES.values())}, got {dtype}")
            arrays[what] = file.get_tensor(key)
            keys.remove(key)
        elif what in _REQUIRED:
            raise ValueError(f"{key} is missing")
    if version > 1:
        _check_digests(name, arrays, entry["sha256"])
    of_header = {field.name for field in fields(ParameterState)} & entry.keys()
    return ParameterState(
        **{key: entry[key] for key in of_header},
        **arrays,
        hyperparameters={key: entry[key] for key in HYPERPARAMETERS},
    )


def _check_digests(name: str, arrays: Mapping[str, Array], digests: Any) -> None:
    if not isinstance(digests, dict) or digests.keys() != arrays.keys():
        raise ValueError(f"the header must say the sha256 of {listed(arrays)} of {name!r}")
    for what, array in arrays.items():
        if _digest(_as_stored(array).data) != digests[what]:
            raise ValueError(
                f"{what} of {name!r} must have the sha256 that the header says, and has another: "
                "the file was damaged after it was written"
            )


def _safetensors() -> Any:
    with state_files():
        return importlib.import_module("safetensors")
