"""Names: of an optimizer among others, and of the class where Keras takes a string."""

from contextlib import suppress
from typing import Any

import keras


def numbered(name: str) -> str:
    """Return a name that Keras has given to nothing else: "name", "name_1", "name_2"."""
    before = keras.backend.get_uid(name) - 1
    return f"{name}_{before}" if before else name


def make_known(optimizer_class: Any) -> None:
    """Let ``keras.optimizers.get`` and ``deserialize``, and so ``compile``, know a class.

    They look in a table of Keras's own classes alone, for which there is no public way. Without
    that table they do not know the class; ``load_model`` does, by its registration.
    """
    with suppress(ImportError):
        from keras.src.optimizers import ALL_OBJECTS_DICT

        ALL_OBJECTS_DICT[optimizer_class.__name__.lower()] = optimizer_class
