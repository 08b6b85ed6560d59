"""``save_state``, ``load_state`` and ``read_state``: states as files."""

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
    """Write an optimizer's state to a file from which every adapter can continue.

    The file is in the safetensors format. It contains momentum, second moment, psi, the number of
    updates and the hyperparameters of every parameter, and the residual of 16-bit ones; not the
    parameters' values. The write is atomic. The file gets the mode of the file that it replaces, or
    the default mode of the umask. Digests in it detect damage when it is loaded.

    Args:
        path: Where to write it: a string or ``os.PathLike`` of one.
        optimizer: An ``INNAprop`` of PyTorch, Keras, TensorFlow or ``innaprop_core``; in JAX the
            state of ``innaprop.optax.innaprop``, alone or in the state of a chain or wrapper.
        parameters: The optimizer's parameters by name, a mapping or pairs. Default None:

            - PyTorch: the names that the optimizer was given; give ``model.named_parameters()``
              if it was given none. Parameters that are not the optimizer's are ignored.
            - Keras: ``variable.path``.
            - TensorFlow: ``variable.name``, without ":0".
            - optax: required, the tree of parameters; names are the paths of its leaves, such as
              "dense/kernel".
            - ``innaprop_core``: "0", "1" and so on, or a list of names.
        hyperparameters: Only for optax, whose state contains only those of ``inject_hyperparams``:
            the arguments of ``innaprop`` by name, including ``mask``; numbers or schedules. Missing
            ones are written as unknown. Default None.

    Raises:
        OSError: The file cannot be written, or ``path`` is of a folder, a device or a FIFO.
        TypeError: ``optimizer`` or ``path`` is something else, or a parameter has a dtype that
            only one framework has.
        ValueError: Names are missing, duplicate, not valid Unicode or too long in total; the state
            is not finite or does not exist yet. No file is written then, and an existing one is
            unchanged.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    adapter = _adapter(optimizer)
    given = {} if hyperparameters is None else {"hyperparameters": hyperparameters}
    if given and adapter.__name__ != "innaprop.optax.portable":
        raise TypeError(
            "hyperparameters must be None except for optax: other optimizers know their own"
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
    """Load a state that ``save_state`` has written, in this framework or another.

    Everything is checked before anything is changed. Arrays are cast to the dtype of the
    optimizer's state. The residual of a 16-bit parameter is loaded if the parameter has the same
    dtype as in the file, and is zero otherwise.

    Args:
        path: The file.
        optimizer: As for ``save_state``; in Keras and TensorFlow it must be built.
        parameters: As for ``save_state``.
        names: Maps names in the file to names of the optimizer's parameters; names that are left
            out are equal. Default: all are equal.
        transposes: Maps names of the optimizer's parameters to an order of the file's axes, as in
            ``numpy.transpose``: ``(1, 0)`` between a PyTorch ``Linear``'s weight and a Keras
            ``Dense``'s kernel. Default: none.
        hyperparameters: Whether to set the optimizer's hyperparameters to those of the file, if
            both are numbers; schedules, and those unknown to the file, are kept. In optax, those of
            ``inject_hyperparams``. Default True.

    Returns:
        The optimizer; in optax, a new state.

    Raises:
        ModuleNotFoundError: safetensors is not installed.
        OSError: The file cannot be read, or ``path`` is of a folder, a device or a FIFO.
        TypeError: ``optimizer`` or ``path`` is something else.
        ValueError: The file is truncated, damaged, in another format, or of a newer version; its
            parameters do not have the names or shapes of the optimizer's; the numbers of updates
            differ between parameters, but the framework has only one (Keras, optax,
            ``innaprop_core``); or hyperparameters differ that all parameters share. Nothing is
            changed then.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    adapter = _adapter(optimizer)
    snapshot = fitting.transposed(fitting.renamed(file.read(path), names), transposes)
    return adapter.restore(optimizer, parameters, snapshot, hyperparameters)


def read_state(path: str | os.PathLike[str]) -> Snapshot:
    """Return the content of a file of ``save_state``.

    Args:
        path: The file.

    Raises:
        ModuleNotFoundError: safetensors is not installed.
        OSError: The file cannot be read, or ``path`` is of a folder, a device or a FIFO.
        TypeError: ``path`` is something else.
        ValueError: It is truncated, damaged, in another format, or of a newer version.
    """
    return file.read(path)


def _adapter(optimizer: Any) -> Any:
    """Return the ``portable`` module for an optimizer, without importing another framework."""
    for cls in type(optimizer).__mro__:
        package, _, module = cls.__module__.partition(".")
        if package == "innaprop_core":
            return importlib.import_module("innaprop.portable.reference")
        if package == "innaprop":
            return importlib.import_module(f"innaprop.{module.partition('.')[0]}.portable")
    # States of optax's chains and wrappers are tuples, and trees may contain them.
    if "innaprop.optax" in sys.modules and isinstance(optimizer, (tuple, list, dict)):
        return importlib.import_module("innaprop.optax.portable")
    raise TypeError(
        "optimizer must be an INNAprop of innaprop.torch, innaprop.keras, innaprop.tensorflow or "
        "innaprop_core, or a state of innaprop.optax.innaprop, got one of "
        f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
    )
