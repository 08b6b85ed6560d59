"""``save_state``, ``load_state`` and ``read_state``: a state goes through its file."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from innaprop.portable import file, fitting
from innaprop.portable.snapshot import Snapshot

_NONE: Mapping[str, Any] = MappingProxyType({})


def save_state(
    path: str | os.PathLike[str],
    optimizer: Any,
    parameters: Any = None,
    *,
    hyperparameters: Mapping[str, Any] | None = None,
) -> None:
    """Write an optimizer's state to a file that every adapter can go on from.

    The file is in the safetensors format. It holds momentum, second moment, psi, the number of
    updates and the hyperparameters of every parameter, and the residual of 16-bit ones; not the
    parameters' values. It appears whole or not at all, in the mode of an older file there, else in
    that which the umask leaves. Digests in it tell loading whether it was damaged since.

    Args:
        path: Where to write it: a string or ``os.PathLike`` of one.
        optimizer: An ``INNAprop`` of PyTorch, Keras, TensorFlow or ``innaprop_core``; in JAX the
            state of ``innaprop.optax.innaprop``, alone or in the state of a chain or wrapper.
        parameters: The optimizer's parameters by name, a mapping or pairs. Default None:

            - PyTorch: the names that the optimizer was given; give ``model.named_parameters()``
              if it was given none. Parameters of the model that it does not hold are left out.
            - Keras: ``variable.path``.
            - TensorFlow: ``variable.name``, without ":0".
            - optax: required, the tree of parameters; names are the paths of its leaves, as
              "dense/kernel".
            - ``innaprop_core``: "0", "1" and so on. Give a list of names for others.
        hyperparameters: optax alone, whose state has none but those of ``inject_hyperparams``:
            what ``innaprop`` was given, by its names, ``mask`` among them; numbers or schedules.
            Those left out are written as not known. Default None.

    Raises:
        OSError: The file cannot be written, or ``path`` is of a folder, a device or a FIFO.
        TypeError: ``optimizer`` or ``path`` is something else, or a parameter is of a dtype that
            only one framework has.
        ValueError: Names are missing, come twice, are not valid Unicode or too long together; the
            state is not finite; there is none yet. No file has been written then, and an older
            one is as it was.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    adapter = _adapter(optimizer)
    given = {} if hyperparameters is None else {"hyperparameters": hyperparameters}
    if given and adapter.__name__ != "innaprop.optax.portable":
        raise TypeError(
            "hyperparameters must be None, but in optax: other optimizers know their own"
        )
    file.write(path, adapter.snapshot(optimizer, parameters, **given))


def load_state(
    path: str | os.PathLike[str],
    optimizer: Any,
    parameters: Any = None,
    *,
    names: Mapping[str, str] = _NONE,
    transposes: Mapping[str, Sequence[int]] = _NONE,
    hyperparameters: bool = True,
) -> Any:
    """Take over a state that ``save_state`` has written, in this framework or another.

    All is checked before anything is changed. Arrays are cast to the dtype of the optimizer's
    state. The residual of a 16-bit parameter is taken over where the parameter is of the same
    dtype as before, and is zero otherwise.

    Args:
        path: The file.
        optimizer: As for ``save_state``; Keras's and TensorFlow's built.
        parameters: As for ``save_state``.
        names: Names of parameters here, by their names in the file; those left out have the same
            name. Default: all have.
        transposes: By names of parameters here, the order of the axes that gives them their
            shape, as ``numpy.transpose`` takes it: ``(1, 0)`` between a PyTorch ``Linear``'s
            weight and a Keras ``Dense``'s kernel. Default: none.
        hyperparameters: Whether to set the optimizer's hyperparameters to those of the file,
            where both are numbers: schedules stay, and what the file does not know. In optax
            those that ``inject_hyperparams`` holds. Default True.

    Returns:
        The optimizer; in optax, a new state like the one that was given.

    Raises:
        ImportError: safetensors is not installed.
        OSError: The file cannot be read, or ``path`` is of a folder, a device or a FIFO.
        TypeError: ``optimizer`` or ``path`` is something else.
        ValueError: The file is cut off, damaged, no such file, or of a newer version; its
            parameters are not those of the optimizer, in name or shape; its numbers of updates
            differ, where the framework counts once for all parameters (Keras, optax,
            ``innaprop_core``); hyperparameters differ that the optimizer has once for all. Nothing
            has changed then.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    adapter = _adapter(optimizer)
    snapshot = fitting.transposed(fitting.renamed(file.read(path), names), transposes)
    return adapter.restore(optimizer, parameters, snapshot, hyperparameters)


def read_state(path: str | os.PathLike[str]) -> Snapshot:
    """Return what a file of ``save_state`` holds.

    Args:
        path: The file.

    Raises:
        ImportError: safetensors is not installed.
        OSError: The file cannot be read, or ``path`` is of a folder, a device or a FIFO.
        TypeError: ``path`` is something else.
        ValueError: It is cut off, damaged, no such file, or of a newer version.
    """
    return file.read(path)


def _adapter(optimizer: Any) -> Any:
    """Return the module that knows an optimizer, without importing another framework."""
    for cls in type(optimizer).__mro__:
        package, _, module = cls.__module__.partition(".")
        if package == "innaprop_core":
            return importlib.import_module("innaprop.portable.reference")
        if package == "innaprop":
            return importlib.import_module(f"innaprop.{module.partition('.')[0]}.portable")
    # The states of optax's chains and wrappers are tuples, and trees may hold them.
    if "innaprop.optax" in sys.modules and isinstance(optimizer, (tuple, list, dict)):
        return importlib.import_module("innaprop.optax.portable")
    raise TypeError(
        "optimizer must be an INNAprop of innaprop.torch, innaprop.keras, innaprop.tensorflow or "
        "innaprop_core, or a state of innaprop.optax.innaprop, got one of "
        f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
    )
