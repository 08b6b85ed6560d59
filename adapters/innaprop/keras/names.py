"""Unique names of optimizers, and registration of the class by name."""

from contextlib import suppress
from typing import Any

import keras


def numbered(name: str) -> str:
    """Return the next unused name in Keras's numbering: "name", "name_1", "name_2"."""
    before = keras.backend.get_uid(name) - 1
    return f"{name}_{before}" if before else name


def register(optimizer_class: Any) -> None:
    """Let ``keras.optimizers.get`` and ``deserialize``, and so ``compile``, find a class by name.

    They use a private table of Keras's own classes. If it does not exist, the class is not known by
    name; ``load_model`` finds it anyway, since it is registered as serializable.
    """
    with suppress(ImportError):
        from keras.src.optimizers import ALL_OBJECTS_DICT

        ALL_OBJECTS_DICT[optimizer_class.__name__.lower()] = optimizer_class
