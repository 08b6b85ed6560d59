"""A state as a safetensors file: arrays as they are, the rest as JSON in its header.

The file appears whole or not at all, and is read whole or not at all. Nothing in it is code.
"""

import importlib
import json
import os
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from innaprop.portable.snapshot import HYPERPARAMETERS, ParameterState, Snapshot

VERSION = 1
_HEADER = "innaprop-state"
_REQUIRED = ("momentum", "second_moment")
_OPTIONAL = ("psi", "residual")
_DTYPES = ("F32", "F64", "I16")


def write(path: str | os.PathLike[str], snapshot: Snapshot) -> None:
    """Write a state; whoever looks for the file sees the old one or the whole new one.

    Args:
        path: Where to write it.
        snapshot: What to write.

    Raises:
        ImportError: safetensors is not installed.
        OSError: The file cannot be written. An older one is as it was then.
    """
    save_file = _safetensors("safetensors.numpy").save_file
    target = Path(path).resolve()
    arrays = {
        # safetensors takes the memory as it lies.
        f"{name}.{what}": np.asarray(array, order="C")
        for name, state in snapshot.parameters.items()
        for what, array in state.arrays().items()
    }
    entries = {
        name: {"dtype": state.dtype, "step": state.step, **state.hyperparameters}
        for name, state in snapshot.parameters.items()
    }
    # One entry, since safetensors keeps several in no order: equal states are equal files.
    content = {"version": VERSION, "iterations": snapshot.iterations, "parameters": entries}
    metadata = {_HEADER: json.dumps(content, allow_nan=False)}
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(descriptor)
    try:
        try:
            save_file(arrays, name, metadata=metadata)
        except _safetensors("safetensors").SafetensorError as error:  # A full disk, for example.
            raise OSError(f"{path} could not be written: {error}") from error
        # mkstemp makes files that only their owner may read; states are for others too.
        os.chmod(name, 0o644)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def read(path: str | os.PathLike[str]) -> Snapshot:
    """Read a state.

    Args:
        path: A file that ``write`` has written.

    Raises:
        ImportError: safetensors is not installed.
        OSError: The file cannot be read.
        ValueError: It is cut off, no file of this format, of a newer version of it, or holds
            what is no state.
    """
    safetensors = _safetensors("safetensors")
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            try:
                return _parse(file)
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
            f"{', '.join(map(repr, metadata)) or 'none'}: is it a file of weights, or another "
            "program's?"
        )
    content = json.loads(metadata[_HEADER])
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        raise ValueError("the header must be an object with an integer 'version'")
    if content["version"] > VERSION:
        raise ValueError(
            f"version must be {VERSION} at most, got {content['version']}: the file is of a "
            "newer innaprop"
        )
    entries = content.get("parameters")
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise ValueError("the header's 'parameters' must be an object of objects")
    keys = set(file.keys())
    states = {name: _parse_state(file, keys, name, entry) for name, entry in entries.items()}
    if keys:
        raise ValueError(f"every array must belong to a parameter, got {', '.join(sorted(keys))}")
    iterations: Any = content.get("iterations")
    return Snapshot(iterations, states)  # Which refuses what is not a count.


def _parse_state(file: Any, keys: set[str], name: str, entry: dict[str, Any]) -> ParameterState:
    """Return the state of one parameter; takes its arrays off the keys."""
    # A file from before there was a choice.
    entry = {"decay_momentum": True, **entry}
    expected = {"dtype", "step", *HYPERPARAMETERS}
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
            if dtype not in _DTYPES:
                raise ValueError(f"{key} must be of {', '.join(_DTYPES)}, got {dtype}")
            arrays[what] = file.get_tensor(key)
            keys.remove(key)
        elif what in _REQUIRED:
            raise ValueError(f"{key} is missing")
    of_header = {field.name for field in fields(ParameterState)} & entry.keys()
    return ParameterState(
        **{key: entry[key] for key in of_header},
        **arrays,
        hyperparameters={key: entry[key] for key in HYPERPARAMETERS},
    )


def _safetensors(module: str) -> Any:
    try:
        importlib.import_module("safetensors")
    except ModuleNotFoundError as error:
        raise ImportError(
            'states are safetensors files, which need safetensors: pip install "innaprop[state]"'
        ) from error
    return importlib.import_module(module)
